"""HTTP/1.1 on the wire: connections of clients and of backends, heads, responses, and tunnels."""
