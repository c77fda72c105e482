"""Which backend gets an attempt, what its responses cost it, and when there is another attempt."""
