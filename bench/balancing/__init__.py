"""Balancing over backends that are full, slow, dead or hung."""
