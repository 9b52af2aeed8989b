"""Fuzz by coverage: `python -m tests.fuzz.run [TARGET ...] --seconds S | --runs N`, or one `--input FILE`.

With --blind: many more changes of the same corpora, without looking at coverage.

DIR keeps the corpora, so that a run goes on where the last one ended, and the world that they belong to.
"""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import click

from tests.fuzz.seeds import make_world, seeds
from tests.fuzz.targets import NAMES, targets
from tests.fuzz.world import World

HOME = Path(__file__).parents[2]
CHILD, BLIND = ("-m", "tests.fuzz.child"), ("-m", "tests.fuzz.blind")
WORLD, CORPUS, SEEDS, LOG = "world", "corpus", "seeds", "log"
FINDINGS = ("crash-*", "timeout-*", "oom-*")
_EXECUTED = re.compile(rb"^stat::number_of_executed_units: *([0-9]+)", re.MULTILINE)
_COVERED = re.compile(rb"\bcov: ([0-9]+)")
_CORPUS = re.compile(rb"\bcorp: ([0-9]+)")


@dataclass(frozen=True)
class Outcome:
    """How one target fared."""

    name: str
    executions: int
    covered: int
    kept: int  # inputs that reached something new
    finding: Path | None  # an input that crashed it; its log, if there is no such input

    @classmethod
    def of(cls, folder: Path, started: int) -> "Outcome":
        """Read how the target of this folder fared since `started`, in nanoseconds."""
        path = folder / LOG
        log = path.read_bytes() if path.exists() else b""
        new = [each for kind in FINDINGS for each in folder.glob(kind) if each.stat().st_mtime_ns >= started]
        # A target that ended without its statistics ended badly.
        finding = new[0] if new else None if _EXECUTED.search(log) else path
        executed, covered, kept = (_last(each, log) for each in (_EXECUTED, _COVERED, _CORPUS))
        return cls(folder.name, executed, covered, kept, finding)

    def row(self) -> str:
        """Return a line of the table; what a blind run does not look at is not told as nothing."""
        verdict = f"crashed: {self.finding}" if self.finding else "nothing"
        covered, kept = (self.covered, self.kept) if self.covered else ("-", "-")
        return f"| {self.name} | {self.executions} | {covered} | {kept} | {verdict} |"


def _last(number: re.Pattern[bytes], log: bytes) -> int:
    found = number.findall(log)
    return int(found[-1]) if found else 0


HEADER = "| Target | Executions | Edges covered | Corpus | Found |\n| --- | ---: | ---: | ---: | --- |"


def prepare(folder: Path, names: Sequence[str]) -> None:
    """Write down the world and the seeds of these targets, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WORLD
    if not path.exists():
        path.write_bytes(make_world().to_bytes())
    found = seeds(World.from_bytes(path.read_bytes()))
    for name in names:
        (folder / name / CORPUS).mkdir(parents=True, exist_ok=True)
        (folder / name / SEEDS).mkdir(exist_ok=True)
        for seed in found[name]:
            (folder / name / SEEDS / sha256(seed).hexdigest()).write_bytes(seed)


def fuzz(
    folder: Path, names: Sequence[str], limit: str, number: int, *, child: Sequence[str] = CHILD
) -> list[Outcome]:
    """Fuzz these targets in turn in a process of its own, each for so many "runs" or "seconds".

    Raise `click.ClickException` if it could not be done at all.
    """
    if child == CHILD and find_spec("atheris") is None:
        raise click.ClickException(
            "atheris is not installed: install the extra `dev` on a Python that it has, or give --blind"
        )
    prepare(folder, names)
    for name in names:
        (folder / name / LOG).unlink(missing_ok=True)
    started = time.time_ns()
    command = [sys.executable, *child, str(folder.resolve()), limit, str(number), *names]
    done = subprocess.run(command, check=False, cwd=HOME, stderr=subprocess.PIPE)
    outcomes = [Outcome.of(folder / name, started) for name in names]
    if done.returncode and not any(outcome.finding for outcome in outcomes):
        raise click.ClickException(f"the fuzzer did not run: {done.stderr.decode(errors='replace')[-2000:]}")
    return outcomes


@click.command()
@click.argument("names", nargs=-1, metavar="[TARGET]...")
@click.option("--runs", type=click.IntRange(min=1), help="Executions of each target; slow ones get fewer.")
@click.option("--seconds", type=click.IntRange(min=1), help="Time for each target, 60 if nothing is said.")
@click.option("--input", "repeated", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--blind", is_flag=True, help="Without coverage: faster, and the corpora stay as they are.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=".fuzz", show_default=True)
def main(
    names: tuple[str, ...],
    runs: int | None,
    seconds: int | None,
    repeated: Path | None,
    blind: bool,
    folder: Path,
) -> None:
    """Fuzz TARGETs (all, if none is named) and print what was done; exit 1 if one of them crashed.

    With --input, read one file by one TARGET, beside the world it was found in, and let its error out.
    """
    path = folder / WORLD
    if repeated is not None:
        if len(names) != 1 or not path.exists():
            raise click.UsageError(f"--input wants one TARGET, and the world it was found in as {path}")
        _known(names)
        targets(World.from_bytes(path.read_bytes()))[names[0]](repeated.read_bytes())
        return
    if runs is not None and seconds is not None:
        raise click.UsageError("give --runs or --seconds, not both")
    limit, number = ("runs", runs) if runs is not None else ("seconds", seconds or 60)
    outcomes = fuzz(folder, _known(names), limit, number, child=BLIND if blind else CHILD)
    click.echo("\n".join((HEADER, *(outcome.row() for outcome in outcomes))))
    sys.exit(any(outcome.finding for outcome in outcomes))


def _known(names: Sequence[str]) -> tuple[str, ...]:
    unknown = set(names) - set(NAMES)
    if unknown:
        raise click.UsageError(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return tuple(names) or NAMES


if __name__ == "__main__":
    main()
