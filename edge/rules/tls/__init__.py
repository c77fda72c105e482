"""Decisions about TLS: ticket keys, certificates of clients, requests that a connection may make, and limits of
handshakes."""
