"""The fuzzer: mutated messages, and the invariants that they are checked against."""
