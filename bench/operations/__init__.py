"""Requests that are lost in reloads, upgrades, restarts and crashes."""
