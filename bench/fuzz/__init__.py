"""The fuzzer: mutated messages, and what must hold of them."""
