"""Backends and core APIs behind styx."""
