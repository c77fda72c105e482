"""What the access log says about a request: values of its fields, and what must not be written down."""
