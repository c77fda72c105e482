"""Route resolution: the resolver, the sources of routes, and what keeps known routes up to date."""
