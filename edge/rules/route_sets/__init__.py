"""Sets of routes that a source pushes as a whole, such as a file of routes."""
