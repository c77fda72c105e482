"""Decisions about TLS: which ticket keys are used, and how many handshakes one client may cause."""
