"""Values of the access log's fields, and the redaction of what must not be logged."""
