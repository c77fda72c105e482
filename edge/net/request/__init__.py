"""What an exchange is made of: its state, and what it does when something goes wrong."""
