"""A flooder: `python -m tests.soak.flooder HOST PORT SUBJECT KIND RATE < init`, until its input ends.

A bare connection to the broker: it makes its junk beforehand, for the flood is to be the receiver's trouble,
and says what it sent and what that cost.
"""

import os
import random
import select
import socket
import sys
import time

from sealing.frames import GROUP_HEADER

MADE = 512  # different frames, said over and over
BLOCK = 64  # frames a write
BEHIND = 0.2  # seconds of delay that are made good; more are given up


def junk(kind: str, init: bytes, chance: random.Random) -> bytes:
    """Return what cannot be an init: by a look, by a repeated counter, by its handle, or by its tag."""
    if kind == "stranger":
        return chance.randbytes(len(init))
    if kind == "replay":
        return init
    if kind in ("short", "nowhere"):
        return init[: GROUP_HEADER.size - 8] + chance.randbytes(8 + 64)
    return init[: GROUP_HEADER.size - 8] + chance.randbytes(8 + len(init) - GROUP_HEADER.size)


def main() -> None:
    """Flood, and print how many were sent and the seconds of CPU that they cost."""
    host, port, subject, kind, rate = sys.argv[1:]
    init = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
    chance = random.Random(1)
    frames = [junk(kind, init, chance) for _ in range(MADE)]
    said = [b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(frame), frame) for frame in frames]
    blocks = [b"".join(said[at : at + BLOCK]) for at in range(0, MADE, BLOCK)]
    with socket.create_connection((host, int(port))) as wire:
        wire.sendall(b'CONNECT {"verbose":false,"pedantic":false,"name":"flooder"}\r\nPING\r\n')
        wire.recv(65_536)
        pause = BLOCK / float(rate)
        started = due = time.monotonic()
        sent, cpu = 0, time.process_time()
        while not select.select([sys.stdin], [], [], 0)[0]:
            wire.sendall(blocks[sent // BLOCK % len(blocks)])
            sent += BLOCK
            now = time.monotonic()
            due = max(due + pause, now - BEHIND)
            if due > now:
                time.sleep(due - now)
            if select.select([wire], [], [], 0)[0] and b"PING" in wire.recv(65_536):
                wire.sendall(b"PONG\r\n")
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    os.write(1, f"{sent} {seconds} {cpu}\n".encode())


if __name__ == "__main__":
    main()
