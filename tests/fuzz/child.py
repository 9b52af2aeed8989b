"""The instrumented side of a run: `python -m tests.fuzz.child DIR runs|seconds NUMBER TARGET...`.

Instrumenting is slow and a fuzzer's loop never returns, so the code is instrumented once and every target
runs in a fork of it. What libFuzzer says of one goes to DIR/TARGET/log, inputs that crash it to DIR/TARGET.

The project is imported twice. Instrumented code is up to twelve times as slow, so only what reads an input
for its coverage is: what changes inputs, reads them again and counts is as it is shipped.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

from tests.fuzz import targets as plain
from tests.fuzz import world
from tests.fuzz.trees import Dice, Mutate

READERS = ("attestation", "schemas", "transport", "console")
SHIPPED = (*READERS, "lab", "tests")

LARGEST = 1 << 13  # beyond every seed: what is too large has tests of its own
HANGS = 60  # seconds, far beyond what a busy machine needs for one input

Read = Callable[[bytes], None]


def instrumented(said: bytes) -> dict[str, Read]:
    """Import the readers anew with instruments; return what reads an input once, by its target's name."""
    shipped = {name: sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] in SHIPPED}
    with atheris.instrument_imports(include=list(READERS)):
        from tests.fuzz.targets import targets
        from tests.fuzz.world import World
    known: dict[str, Read] = {name: target.once for name, target in targets(World.from_bytes(said)).items()}
    sys.modules.update(shipped)
    return known


def options(target: plain.Target, limit: str, number: int) -> list[str]:
    """Say how long to go on, in libFuzzer's words; a number of runs is the same runs each time."""
    if limit == "seconds":
        return [f"-max_total_time={number}"]
    return [f"-runs={max(1, number // target.share)}", "-seed=1"]


def from_seeds(change: Mutate, folder: Path) -> Callable[[bytes, int, int], bytes]:
    """Change a seed half of the time: libFuzzer never picks those whose coverage another one has.

    Where the reader is native they all look alike, and elsewhere most of a corpus is broken early on.
    """
    starts = [path.read_bytes() for path in sorted(folder.iterdir())]

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        dice = Dice(seed)
        start = dice.choice(starts) if dice.below(2) else data
        return change(start, max_size, dice, atheris.Mutate)

    return mutator


def fuzz(target: plain.Target, once: Read, folder: Path, limit: list[str]) -> None:
    """Run one target, and end this process as it ended."""
    log = os.open(folder / "log", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    arguments = [
        "fuzz",
        *limit,
        f"-max_len={LARGEST}",
        f"-timeout={HANGS}",
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/",
        str(folder / "corpus"),
        str(folder / "seeds"),
    ]
    sampled = plain.Sampled(target, once)
    if target.mutate is None:
        atheris.Setup(arguments, sampled)
    else:
        # One call of a mutator is change enough. How often a loop ran makes no input worth keeping: these
        # changes widen and nest by themselves, and what was kept for it was wide and slow.
        mutator = from_seeds(target.mutate, folder / "seeds")
        more = ["-mutate_depth=1", "-use_counters=0"]
        atheris.Setup([*arguments, *more], sampled, custom_mutator=mutator)
    atheris.Fuzz()


def main(folder: Path, limit: str, number: int, names: list[str]) -> int:
    """Fuzz each target in turn; return 1 if any of them crashed."""
    said = (folder / "world").read_bytes()
    readers, known = instrumented(said), plain.targets(world.World.from_bytes(said))
    failed = 0
    for name in names:
        child = os.fork()
        if child == 0:
            fuzz(known[name], readers[name], folder / name, options(known[name], limit, number))
        _, status = os.waitpid(child, 0)
        failed |= status != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
