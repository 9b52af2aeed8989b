"""A mesh of one agent that gives back what it gets."""
