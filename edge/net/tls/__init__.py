"""TLS (RFC 8446, RFC 5246): transports, contexts, ticket keys, and the accept step that terminates it."""
