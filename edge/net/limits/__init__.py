"""Limits of one worker: buffered bytes, request slots, idle connections, and connections whose client has left."""
