"""Simulated machines: they mint evidence in the vendors' formats, under roots that a policy must name."""
