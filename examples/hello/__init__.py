"""The smallest mesh: one agent that greets, one client that asks."""
