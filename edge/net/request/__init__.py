"""The state of an exchange, and the handling of its failures."""
