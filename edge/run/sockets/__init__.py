"""Sockets that outlive a process: listening sockets, their handover to another edge, and systemd."""
