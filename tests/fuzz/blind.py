"""A run that looks at no coverage: `python -m tests.fuzz.blind DIR runs|seconds NUMBER TARGET...`.

Inputs are changes of the seeds and of what runs by coverage kept, each target in a process of its own.
Nothing is instrumented, so this is several times as fast, and finds only what is a few changes away from its
corpus. What is wrong with an input is the same, and so is the share that is read again and counted.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from types import FrameType

from tests.fuzz.targets import Sampled, Target, targets
from tests.fuzz.trees import Dice
from tests.fuzz.world import World

LARGEST = 1 << 13  # bytes, as by coverage
HANGS = 60  # seconds
SMALL = 1 << 10  # bytes: a large input costs the time of many small ones, and breaks in the same places
LOOKS = 256  # executions between two looks at the clock
OTHERS = 8  # one in so many starts from any input, small or not
CHANGES = (1, 1, 1, 2, 3, 5)
EDGES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\r\n", b"0", b" ")


class HangError(Exception):
    """One input was read for longer than any may."""


def havoc(dice: Dice, corpus: list[bytes]) -> Callable[[bytes, int], bytes]:
    """Return what changes bytes without knowing what they mean, at times by a piece of another input."""

    def change(data: bytes, max_size: int) -> bytes:
        changed = bytearray(data)
        for _ in range(dice.choice(CHANGES)):
            size = len(changed)
            at = dice.below(size + 1)
            end = at + dice.choice((1, 1, 2, 4, 8, 32, 256))
            match dice.below(8):
                case 0 | 1 if at < size:
                    changed[at] ^= 1 << dice.below(8)
                case 2 if at < size:
                    changed[at] = dice.below(256)
                case 3 if at < size:
                    changed[at] = (changed[at] + dice.choice((1, -1, 16, -16))) % 256
                case 4:
                    del changed[at:end]
                case 5:
                    changed[at:at] = changed[at:end] * dice.choice((1, 1, 2, 8))
                case 6:
                    edge = dice.choice(EDGES)
                    changed[at : at + dice.choice((0, len(edge)))] = edge
                case _:
                    other = dice.choice(corpus)
                    start = dice.below(len(other) + 1)
                    piece = other[start : start + end - at]
                    changed[at : at + dice.choice((0, len(piece)))] = piece
        return bytes(changed[:max_size])

    return change


def inputs(target: Target, corpus: list[bytes], dice: Dice) -> Iterator[bytes]:
    """Give the corpus, then changes of it without end."""
    yield from corpus
    small = [each for each in corpus if len(each) <= SMALL] or corpus
    change = havoc(dice, corpus)
    while True:
        start = dice.choice(small if dice.below(OTHERS) else corpus)
        if target.mutate is None:
            yield change(start, LARGEST)
        else:
            yield target.mutate(start, LARGEST, dice, change)


def run(target: Target, folder: Path, limit: str, number: int) -> None:
    """Run one target and print its statistics; keep the input with which something is wrong, and raise it."""
    files = sorted(path for name in ("corpus", "seeds") for path in (folder / name).iterdir())
    corpus = list(dict.fromkeys(path.read_bytes()[:LARGEST] for path in files))
    # A number of runs is the same runs each time; without one, others each time.
    seed = 1 if limit == "runs" else time.time_ns()
    print(f"blind: seed {seed}, {len(corpus)} inputs to start from", flush=True)
    sampled = Sampled(target)
    most = max(1, number // target.share) if limit == "runs" else sys.maxsize
    end = time.monotonic() + number if limit == "seconds" else float("inf")
    watch(sampled)
    data, fine = b"", False
    try:
        for data in islice(inputs(target, corpus, Dice(seed)), most):
            if sampled.executions % LOOKS == 0 and time.monotonic() >= end:
                break
            sampled(data)
        fine = True
    except KeyboardInterrupt:
        fine = True  # whoever ends the run has nothing against the input
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if not fine:
            (folder / f"crash-{sha256(data).hexdigest()}").write_bytes(data)
        print(f"stat::number_of_executed_units: {sampled.executions}", flush=True)


def watch(sampled: Sampled) -> None:
    """End an input that is still read when the clock looks for the second time; else say how far it is."""
    seen = -1

    def look(_number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if sampled.executions == seen:
            raise HangError(f"more than {HANGS} seconds")
        seen = sampled.executions
        print(f"blind: {seen} executions", flush=True)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, HANGS, HANGS)


def main(folder: Path, limit: str, number: int, names: list[str]) -> int:
    """Fuzz each target in turn; return 1 if any of them crashed."""
    known = targets(World.from_bytes((folder / "world").read_bytes()))
    failed = 0
    for name in names:
        child = os.fork()
        if child == 0:
            log = os.open(folder / name / "log", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            run(known[name], folder / name, limit, number)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        failed |= status != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
