"""Which certificates are ordered from an ACME authority, when, and how often."""
