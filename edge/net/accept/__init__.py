"""Accepting connections: listening sockets, admission, the PROXY header, and the orderly close."""
