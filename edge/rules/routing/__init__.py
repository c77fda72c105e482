"""What is known of a hostname, how long it holds, and when an answer of the core API is believed."""
