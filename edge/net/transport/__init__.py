"""Additions to the transports of the loop: bounded reads, a time budget for reading, the state of the socket."""
