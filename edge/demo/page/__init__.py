"""The page of the demo: the platform under a load, live, with everything that can be done to it."""
