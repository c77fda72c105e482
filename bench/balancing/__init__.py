"""How well load is spread over backends that are full, slow, dead or hung."""
