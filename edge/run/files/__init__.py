"""Files: safe access where other users may write, and watching for changes."""
