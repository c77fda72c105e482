"""Instruments of the benches: load, processes, figures of the kernel, and the servers beside styx."""
