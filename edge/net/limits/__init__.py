"""Limits of one worker: buffers, request slots, idle connections, and clients that have left."""
