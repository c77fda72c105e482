"""A POCKET HOSTING PLATFORM for demos and tests: a core API server and containers."""
