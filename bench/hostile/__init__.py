"""Clients, containers and local users that mean harm."""
