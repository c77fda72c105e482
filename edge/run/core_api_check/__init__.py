"""`styx check-core-api`: plays the contract against a core API, as styx would, and judges its responses."""
