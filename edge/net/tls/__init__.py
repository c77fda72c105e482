"""TLS (RFC 8446, RFC 5246): transports, contexts, ticket keys, and the step of the accept chain that ends it."""
