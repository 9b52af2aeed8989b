"""Run the protocol's models with spin and compare what is found with what is expected (docs/model.md).

    python models/run.py [--model NAME] [--only TEXT] [--jobs N] [--json] [--trace]

Every row of rows.toml is one exhaustive search: no bitstate hashing, no hash compaction. Exit 0: all as
expected. 1: a claim failed, a mutation was not found broken, or a search did not end within its limits.
2: usage, or spin or a C compiler is missing.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

HOME = Path(__file__).resolve().parent
MISSING = (
    "The models need spin and a C compiler. Debian, Ubuntu: apt-get install spin gcc; "
    "macOS: brew install spin; elsewhere: https://spinroot.com"
)
MEMORY_MB = 2600  # of one search: two fit into 6 GiB
DEPTH = 20_000  # of the search stack; a search that reaches it counts as failed
SECONDS = 300  # of one search

Kind = Literal["shows", "claim", "breaks", "depth"]
BROKEN: frozenset[Kind] = frozenset({"shows", "breaks"})


@dataclass(frozen=True, slots=True)
class Row:
    """One search: a model, what is defined in it, and what has to come out."""

    model: str
    name: str
    kind: Kind
    bound: str
    defines: tuple[str, ...]
    violates: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or (self.kind in BROKEN) != (self.violates is not None):
            raise ValueError(f"rows.toml: {self.model}, {self.name}: kind and `violates` do not fit")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a search came to. `violated` is the comment behind the assertion that failed, if one did."""

    violated: str | None
    complete: bool
    states: int
    depth: int
    seconds: float
    trace: str = ""

    def as_expected(self, row: Row) -> bool:
        """Tell whether this is what `row` says has to come out."""
        if row.kind in BROKEN:
            return self.violated == row.violates
        return self.violated is None and self.complete


class SearchError(Exception):
    """A model could not be translated, compiled or searched: the text says at what."""


def rows(path: Path = HOME / "rows.toml") -> list[Row]:
    """Return all rows, in their order in the file."""
    with path.open("rb") as file:
        entries = tomllib.load(file)["row"]
    return [Row(**{**entry, "defines": tuple(entry["defines"])}) for entry in entries]


def compiler() -> str | None:
    """Return the C compiler's name, if there is one."""
    return next((name for name in ("gcc", "cc") if shutil.which(name)), None)


def available() -> bool:
    """Tell whether spin and a C compiler are installed."""
    return shutil.which("spin") is not None and compiler() is not None


def search(row: Row) -> Finding:
    """Search one model exhaustively, breadth first where a short trace is wanted; raise `SearchError`."""
    begun = time.monotonic()
    flags = [f"-D{define}" for define in row.defines]
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        for source in HOME.glob("*.pml"):
            shutil.copy(source, place)
        _run(["spin", *flags, "-a", f"{row.model}.pml"], place)
        # COLLAPSE compresses states without loss.
        breadth = ["-DBFS"] if row.kind in BROKEN else []
        options = ["-O1", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}", *breadth]
        _run([compiler() or "cc", *options, "-o", "pan", "pan.c"], place)
        # -E: a run may end anywhere, a broker that delivers nothing ends them all.
        report = _run(["./pan", "-E", f"-m{DEPTH}"], place)
        violated, trace = None, ""
        if (place / f"{row.model}.pml.trail").exists():
            trace = _run(["spin", *flags, "-t", "-p", "-g", f"{row.model}.pml"], place)
            violated = _violated(trace, place)
    return Finding(
        violated=violated,
        complete="Search not completed" not in report and "search depth too small" not in report,
        states=int(_number(r"(\d+) states, stored", report)),
        depth=int(_number(r"depth reached (\d+)", report)),
        seconds=round(time.monotonic() - begun, 1),
        trace=trace,
    )


def _violated(trace: str, place: Path) -> str:
    """Return the comment behind the assertion at which a trace ends."""
    found = re.search(r"(\w+\.pml):(\d+), Error: assertion violated", trace)
    if found is None:
        raise SearchError("the trace ends at no assertion")
    line = (place / found[1]).read_text("utf-8").splitlines()[int(found[2]) - 1]
    comment = re.search(r"/\* (.*) \*/\s*$", line)
    return comment[1] if comment else line.strip()


def _number(pattern: str, report: str) -> float:
    found = re.search(pattern, report)
    if found is None:
        raise SearchError(f"no {pattern!r} in the search's report:\n{report}")
    return float(found[1])


def _run(command: Sequence[str], place: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SearchError(f"{command[0]} took more than {SECONDS} s") from error
    output = done.stdout + done.stderr
    if done.returncode and command[0] != "./pan" and "assertion violated" not in output:
        raise SearchError(f"{' '.join(command)}:\n{output}")
    return output


RESULTS: dict[Kind, tuple[str, str]] = {
    "shows": ("goes through", "NOT REACHED"),
    "claim": ("holds", "VIOLATED"),
    "breaks": ("broken", "NOT BROKEN"),
    "depth": ("not broken: depth", "BROKEN"),
}


def outcome(row: Row, finding: Finding) -> str:
    """Return the last column of the table."""
    good, bad = RESULTS[row.kind]
    if finding.as_expected(row):
        return f"{good}: {finding.violated}" if row.kind == "breaks" else good
    if finding.violated is None and not finding.complete:
        return "NOT EXHAUSTED: a limit of memory or depth was reached"
    return f"{bad}: {finding.violated}" if finding.violated else bad


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", action="append", help="only this model; may be repeated")
    parser.add_argument("--only", help="only rows whose name contains this")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="searches at a time")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    parser.add_argument("--trace", action="store_true", help="print the trace of what is found broken")
    return parser.parse_args(argv)


def _chosen(arguments: argparse.Namespace) -> list[Row]:
    return [
        row
        for row in rows()
        if (not arguments.model or row.model in arguments.model)
        and (not arguments.only or arguments.only in row.name)
    ]


def _line(columns: Iterable[object]) -> str:
    model, kind, name, states, depth, seconds, last = columns
    return f"{model:<10} {kind:<7} {name:<50} {states:>11} {depth:>6} {seconds:>6}  {last}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for and print the table."""
    arguments = _arguments(argv)
    if not available():
        sys.stderr.write(MISSING + "\n")
        return 2
    chosen = _chosen(arguments)
    if not chosen:
        sys.stderr.write("no row of rows.toml is named so\n")
        return 2
    unexpected = 0
    report: list[dict[str, object]] = []
    if not arguments.json:
        sys.stdout.write(_line(["model", "kind", "claim or mutation", "states", "depth", "s", "result"]))
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        try:
            for row, finding in zip(chosen, pool.map(search, chosen), strict=True):
                unexpected += not finding.as_expected(row)
                said = outcome(row, finding)
                report.append(
                    {**asdict(row), **asdict(finding), "result": said, "expected": finding.as_expected(row)}
                )
                if arguments.json:
                    continue
                columns = [row.model, row.kind, row.name, finding.states, finding.depth, finding.seconds]
                sys.stdout.write(_line([*columns, said]) + f"{'':18} bound: {row.bound}\n")
                if arguments.trace:
                    sys.stdout.write(finding.trace)
                sys.stdout.flush()
        except SearchError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    if arguments.json:
        for entry in report if not arguments.trace else []:
            del entry["trace"]
        sys.stdout.write(json.dumps({"rows": report, "unexpected": unexpected}, indent=2) + "\n")
    elif unexpected:
        sys.stdout.write(f"{unexpected} of {len(chosen)} came out otherwise than expected\n")
    else:
        sys.stdout.write(f"{len(chosen)} searches, all as expected\n")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
