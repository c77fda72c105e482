"""Backends and core APIs that benches put behind styx."""
