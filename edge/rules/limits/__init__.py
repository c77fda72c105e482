"""Limits: how clients share connections, slots, buffers, files and lookups."""
