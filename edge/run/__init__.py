"""PROCESSES: command line, worker, admin server, demo. The only floor that knows all the others."""
