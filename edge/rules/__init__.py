"""PURE DECISIONS: no event loop, socket, clock, random source, log or file. `now` and `rand` are arguments."""
