"""Routes: many of them, floods of unknown hosts, and outages of their sources."""
