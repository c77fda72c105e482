"""From a hostname to its route: the resolver, its sources, and what keeps routes up to date."""
