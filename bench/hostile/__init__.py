"""Hostile clients, containers and local users."""
