"""MOVES BYTES: asyncio Protocols on uvloop, the C parser, pools, the resolver, the core API client."""
