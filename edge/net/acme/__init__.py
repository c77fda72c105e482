"""Certificates from an ACME authority: the protocol, and the files that it leaves."""
