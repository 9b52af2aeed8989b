"""`sealbus bench`: figures that anyone can make again. Exit code 1 where an aim was missed in every round."""

import json
import tempfile
from functools import partial
from pathlib import Path

import anyio
import click
from rich.console import Console
from rich.table import Table

from benchmarks.attest import measure as measure_attestation
from benchmarks.channel import measure as measure_channel
from benchmarks.ratios import Row, machine
from benchmarks.sealed import measure as measure_sealing

ROUNDS = click.IntRange(min=1, max=1000)
SECONDS = click.FloatRange(min=0, min_open=True, max=60)


@click.group()
def bench() -> None:
    """Measure what sealbus costs, against its peers in the same run."""


@bench.command()
@click.option(
    "--rounds", type=ROUNDS, default=7, show_default=True, help="Rounds after the one that warms up."
)
@click.option("--seconds", type=SECONDS, default=0.5, show_default=True, help="Length of a slice.")
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def channel(rounds: int, seconds: float, as_data: bool) -> int:
    """Sealed calls between attested processes against plain nats-py requests."""
    progress = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="sealbus-bench-") as folder:
        work = partial(measure_channel, Path(folder), rounds=rounds, seconds=seconds, say=progress.print)
        rows = anyio.run(work)
    return report("sealed calls, against plain nats-py", rows, as_data=as_data)


@bench.command()
@click.option(
    "--rounds", type=ROUNDS, default=9, show_default=True, help="Rounds after the one that warms up."
)
@click.option("--seconds", type=SECONDS, default=0.1, show_default=True, help="Length of a slice.")
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def attest(rounds: int, seconds: float, as_data: bool) -> int:
    """Judging Evidence against the bare signature checks in it, and against dcap-qvl."""
    progress = Console(stderr=True, highlight=False)
    rows = measure_attestation(rounds=rounds, seconds=seconds, say=progress.print)
    return report("judging evidence", rows, as_data=as_data)


@bench.command()
@click.option(
    "--rounds", type=ROUNDS, default=9, show_default=True, help="Rounds after the one that warms up."
)
@click.option("--seconds", type=SECONDS, default=0.1, show_default=True, help="Length of a slice.")
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def sealing(rounds: int, seconds: float, as_data: bool) -> int:
    """Handshakes, tasks and idle sessions against the bare primitives."""
    return report("the sealing layer", measure_sealing(rounds=rounds, seconds=seconds), as_data=as_data)


def report(title: str, rows: list[Row], *, as_data: bool) -> int:
    """Print rows for a person or a program; return the exit code."""
    if as_data:
        click.echo(json.dumps({"machine": machine(), "rows": [row.as_json() for row in rows]}, indent=1))
    else:
        Console().print(_table(title, rows))
    return int(any(row.verdict == "missed" for row in rows))


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("what", "ours", "peer", "unit", "ratio", "range", "must", ""):
        table.add_column(name, justify="left" if name in ("what", "unit", "") else "right")
    for row in rows:
        data = row.as_json()
        must = "" if row.aim is None else f"{'<=' if row.aim.better == 'lower' else '>='} {row.aim.must}"
        spread = f"{data['ratio_min']:.2f} to {data['ratio_max']:.2f}"
        figures = [_figure(data["ours"]), _figure(data["peer"]), row.unit, f"{data['ratio']:.2f}", spread]
        table.add_row(row.name, *figures, must, row.verdict)
    return table


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
