"""Benchmarks of styx as a real process on real sockets, beside its peers. `python -m bench --help`."""
