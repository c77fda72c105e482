"""Traffic statistics: counters of listeners, and the busiest sites."""
