"""HTTP messages: parsed heads, framing, hop-by-hop fields, and what the edge says itself."""
