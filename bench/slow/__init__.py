"""Slow clients and slow receivers."""
