"""Templates of error pages: one process reads them from a directory and sends them to all workers."""
