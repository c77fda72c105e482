"""Load balancing of one worker: choice of backends, connection pool, connect checks and shadow probes."""
