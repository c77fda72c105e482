"""The choice of a backend for each attempt, what responses cost a backend, and when there is a retry."""
