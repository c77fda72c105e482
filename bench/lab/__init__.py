"""Equipment of the benches: load generators, processes, counters of the kernel, and the servers beside styx."""
