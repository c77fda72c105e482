"""Routes that a source pushes as a whole: a routes file, and the set that all workers use."""
