"""PURE decisions. No loop, socket, clock, dice, log or file: `now` and `rand` are arguments."""
