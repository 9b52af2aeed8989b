"""What operators do to a mesh that runs: publish, order, revoke, and look."""
