"""Templates of error pages: read from a directory by one process, and given to all workers."""
