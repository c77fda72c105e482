"""Where certificates come from: the core API, or a directory of files."""
