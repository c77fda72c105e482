"""`styx check-core-api`: tests a core API against the contract, with the requests that styx would send."""
