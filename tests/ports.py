"""Ports for what has to be told one before it listens."""

import os
import socket

# Below what systems hand out for outgoing connections, any of which could take a port between our look and
# its use. Each test process begins elsewhere, so that two that run at once do not choose the same.
FIRST, END = 12_000, 30_000


def free_ports(count: int = 1) -> int:
    """Return the first of some ports of loopback in a row that were free a moment ago."""
    blocks = (END - FIRST) // count
    start = os.getpid() * 131
    for number in range(blocks):
        first = FIRST + (start + number) % blocks * count
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise AssertionError("no ports are free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
