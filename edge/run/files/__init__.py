"""Files that are opened with care: those of other users, secrets, and those that are watched."""
