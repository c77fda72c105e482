"""Documentation of the settings: their descriptions, and a JSON Schema for editors."""
