"""Attempts at backends: who gets one, over which connection, and checks of those that failed."""
