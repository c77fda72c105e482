"""POCKET PLATFORM: a small hosting platform for demos and tests, with a core API server and containers."""
