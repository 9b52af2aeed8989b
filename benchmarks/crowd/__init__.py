"""Many instances in few processes, each with keys, Evidence and a connection of its own."""
