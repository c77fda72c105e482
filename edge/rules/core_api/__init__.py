"""The contract with the core API: its description, and judgements of what an implementation sends."""
