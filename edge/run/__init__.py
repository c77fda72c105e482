"""PROCESSES: command line, master, workers, admin process. The only layer that imports all the others."""
