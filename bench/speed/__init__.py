"""CPU per proxied request."""
