"""HTTP messages: parsed heads, framing, hop-by-hop fields and local replies."""
