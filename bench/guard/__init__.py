"""Guards against changes that make a request more expensive: `python -m bench guard`."""
