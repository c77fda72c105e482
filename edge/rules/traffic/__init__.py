"""What the traffic is like: counts of listeners, and the busiest sites."""
