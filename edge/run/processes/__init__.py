"""The child processes of the master: started, watched, replaced, upgraded."""
