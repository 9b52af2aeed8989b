"""Collateral that travels with a mesh: what is in it, which is the newer, who signed it, what counts."""
