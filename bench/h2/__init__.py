"""Measurements of HTTP/2 clients: CPU, isolation of streams, floods, reloads."""
