"""What the built-in error pages say, one module for each language."""
