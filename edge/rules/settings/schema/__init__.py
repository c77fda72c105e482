"""What is written about settings: their documentation, and a JSON Schema for editors."""
