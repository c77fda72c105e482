"""PROCESSES: command line, master, workers, admin process. The only floor that knows all the others."""
