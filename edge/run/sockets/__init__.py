"""Sockets that outlive a process: listening sockets, their hand-over, and systemd."""
