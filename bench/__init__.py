"""Benchmarks of styx as a real process on real sockets, beside other proxies. `python -m bench --help`."""
