"""Routes on disk, and routes that the admin process pushes to the workers."""
