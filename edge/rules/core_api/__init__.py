"""The contract with the core API: its description, and checks of the responses of an implementation."""
