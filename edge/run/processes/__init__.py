"""The child processes of the master: fork, supervision, replacement; and the upgrade of the master itself."""
