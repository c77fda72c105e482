"""Certificates of sites: their names, what makes one usable, and the table of those that a worker knows."""
