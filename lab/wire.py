"""`sealbus lab wire`: what crosses the wire, as a table that a person reads. Never contents.

It follows the recording of a tap, from its beginning, in a process of its own.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lab.attached import BROKER_URL, TAP, UP
from lab.mesh import WIRE
from lab.saw import CONTROL
from lab.state import DEFAULT, held_parts, holder
from lab.tap import CONNECTION, JETSTREAM, FrameError, Record, Towards, Unclassified, classify, records
from schemas.errors import UsageError
from schemas.subjects import TABLE

REFRESH = 0.5  # seconds
NAMED = 2  # more senders or receivers than that are counted
UNCLASSIFIED = "UNCLASSIFIED"
PLANTED = "planted"  # by a demo that searches what the broker saw: see `lab.saw`
_SEALED = {
    "none": "anybody",
    "hpke": "one attested key",
    "session": "these two",
    "role": "one role",
    "group": "admitted parties",
    "result": "who asked",
}
_READABLE = {JETSTREAM: "the broker", PLANTED: "a demo's control"}
_ORDER = [row.kind.value for row in TABLE]


@dataclass
class Line:
    """What one party sent, or was sent, of one kind."""

    sealing: str
    count: int = 0
    size: int = 0
    largest: int = 0
    last: int = 0
    clear: set[str] = field(default_factory=set)


@dataclass
class Wire:
    """The table so far; `take` adds to it."""

    lines: dict[tuple[str, Towards, str], Line] = field(default_factory=dict)
    frames: int = 0
    offset: int = 0

    def follow(self, path: Path) -> None:
        """Take what was recorded since the last time."""
        for offset, record in records(path, self.offset):
            self.take(record)
            self.offset = offset

    def take(self, record: Record) -> None:
        """Count one record; what a connection needs (pings, subscriptions) is none of the table."""
        self.frames += 1
        try:
            frame = record.frame()
        except FrameError:
            return
        try:
            sight = classify(frame)
            kind, sealing, clear = sight.kind, sight.sealing, sight.clear
        except Unclassified:
            kind, sealing, clear = PLANTED if CONTROL.fullmatch(frame.body) else UNCLASSIFIED, "none", {}
        if kind == CONNECTION:
            return
        line = self.lines.setdefault((record.party, record.towards, kind), Line(sealing))
        size = len(frame.headers) + len(frame.body)
        line.count += 1
        line.size += size
        line.largest = max(line.largest, size)
        line.last = record.time
        line.clear.update(clear)

    def sorted(self) -> Iterator[tuple[str, Towards, str, Line]]:
        """Yield lines by party, way and kind, in the order of the subject table."""
        rank = {kind: place for place, kind in enumerate(_ORDER)}
        for party, towards, kind in sorted(
            self.lines, key=lambda key: (key[0], key[1], rank.get(key[2], len(rank)))
        ):
            yield party, towards, kind, self.lines[party, towards, kind]


def bucket(size: int) -> str:
    """Return a size as a power of two that holds it."""
    power = 1 << max(size - 1, 0).bit_length()
    for unit in ("B", "KiB", "MiB"):
        if power < 1024:
            return f"≤ {power} {unit}"
        power //= 1024
    return f"≤ {power} GiB"


def table(wire: Wire, now: int, ended: str = "") -> Table:
    """Return what was seen for a person: a row for each kind, with who says it and who hears it.

    `ended` says of when the recording is, if nothing is added to it any more.
    """
    title = f"not running: recording of {ended}" if ended else "the wire"
    shown = Table(
        title=f"{title}: {wire.frames} frames", title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    for column in ("kind", "readable by", "from", "to"):
        shown.add_column(column)
    for column in ("messages", "largest", "ago"):
        shown.add_column(column, justify="right", no_wrap=True)
    for kind in [*_ORDER, JETSTREAM, PLANTED, UNCLASSIFIED]:
        lines = [(party, way, line) for party, way, name, line in wire.sorted() if name == kind]
        if not lines:
            continue
        said = [line for _, way, line in lines if way is Towards.BROKER]
        sealing = lines[0][2].sealing
        style = "red" if kind == UNCLASSIFIED else "yellow" if sealing == "none" else "green"
        shown.add_row(
            kind,
            f"[{style}]{_READABLE.get(kind, _SEALED[sealing])}[/{style}]",
            _names(party for party, way, _ in lines if way is Towards.BROKER),
            _names(party for party, way, _ in lines if way is Towards.PARTY),
            str(sum(line.count for line in said)),
            bucket(max(line.largest for _, _, line in lines)),
            f"{max(now - max(line.last for _, _, line in lines), 0) / 1000:.0f} s",
        )
    return shown


def _names(parties: Iterable[str]) -> str:
    """Return names with those of one workload taken together: `redactor-1`, `redactor-2` as `redactor-*`."""
    groups: dict[str, list[str]] = {}
    for party in parties:
        groups.setdefault(re.sub(r"-\d+$", "-*", party), []).append(party)
    if len(groups) > NAMED:
        return f"{sum(map(len, groups.values()))} parties"
    return ", ".join(name if len(members) > 1 else members[0] for name, members in groups.items()) or "nobody"


def as_object(wire: Wire, ended: str = "") -> dict[str, object]:
    """Return the same for programs."""
    return {
        "running": not ended,
        "ended": ended or None,
        "frames": wire.frames,
        "unclassified": sum(line.count for (_, _, kind), line in wire.lines.items() if kind == UNCLASSIFIED),
        "lines": [
            {
                "party": party,
                "towards": towards.value,
                "kind": kind,
                "sealing": line.sealing,
                "clear": sorted(line.clear),
                "messages": line.count,
                "bytes": line.size,
                "largest": line.largest,
                "last": datetime.fromtimestamp(line.last / 1000, UTC).isoformat(),
            }
            for party, towards, kind, line in wire.sorted()
        ],
    }


@click.command("wire")
@click.option(
    "--dir",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT,
    show_default=True,
    help="The lab's state directory.",
)
@click.option("--once", is_flag=True, help="Show the table as it is now, and end.")
@click.option("--json", "machine", is_flag=True, help="One JSON object on standard output, and end.")
def wire_command(root: Path, once: bool, machine: bool) -> None:
    """Show who says what kind of message to whom, live; the last recording if nothing is up."""
    path = root / WIRE
    if not path.is_file():
        raise UsageError(f"nothing is recorded in {root}: run: sealbus lab up --tap --dir {root}")
    wire = Wire()
    wire.follow(path)
    ended = "" if _running(root) else _time_of(path)
    if machine:
        click.echo(json.dumps(as_object(wire, ended)))
        return
    console = Console()
    if once or ended:
        console.print(table(wire, _now(), ended))
        return
    with Live(table(wire, _now()), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(REFRESH)
            if not path.is_file():  # another lab has begun in its place
                wire = Wire()
                continue
            if path.stat().st_size < wire.offset:  # and has recorded
                wire = Wire()
            wire.follow(path)
            live.update(table(wire, _now(), "" if _running(root) else _time_of(path)), refresh=True)


def _running(root: Path) -> bool:
    """Tell whether a tap may be recording: of a lab, of a demo, or where its broker is named, elsewhere."""
    here = set(held_parts(root))
    if {UP, TAP} & here or holder(root / "lock") is not None:
        return True
    return not here and bool(os.environ.get(BROKER_URL))


def _time_of(path: Path) -> str:
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return written.isoformat(sep=" ", timespec="seconds")


def _now() -> int:
    return time.time_ns() // 1_000_000
