"""What bounds lookups at the core API: their shares, how long requests wait for them, what is logged of them."""
