"""Routes of hostnames, their lifetimes, and the decision whether a response of the core API is accepted."""
