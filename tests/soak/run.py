"""`make soak`: a seeded adversary against the pure machines, then against processes, then a flood of inits.

Exit code 1 where something was accepted, ran twice, ended or grew that must not, or traffic was slow to
return.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import anyio
import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tests.soak import machines, mesh
from tests.soak.cost import costs
from tests.soak.flood import KINDS, flood

PROCESSES_SHARE = 0.2  # of all events; frames between real processes take the longest
SHARES = {"peers": 0.7, "tasks": 0.15, "admission": 0.15}  # of those on the machines
RATE = 1_500.0  # injections a second: what a tap in Python does beside the honest work
GROWTH = 1.10  # of a process's memory or objects from a tenth of the way to its end
RATES = (5_000.0, 20_000.0, 50_000.0)
PARTS = ("machines", "processes", "flood")


@click.command()
@click.option("--events", type=click.IntRange(min=100), default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same adversary.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Leave the other parts out.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Of the flood.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="A slice.")
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def main(events: int, seed: int, only: tuple[str, ...], rounds: int, seconds: float, as_data: bool) -> None:
    """Do so many adverse things to everything, and say what came of it."""
    parts = only or PARTS
    both = {"machines", "processes"} <= set(parts)
    on_processes = round(events * PROCESSES_SHARE) if both else events
    data: dict[str, object] = {"events": events, "seed": seed}
    faults: list[str] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        if "machines" in parts:
            total = events - on_processes if both else events
            data["machines"], found = _machines(total, seed, progress)
            faults += found
        if "processes" in parts:
            data["processes"], found = _processes(on_processes, seed, progress)
            faults += found
        if "flood" in parts:
            data["costs"] = costs()
            with tempfile.TemporaryDirectory(prefix="sealbus-soak-") as folder:
                work = partial(
                    flood,
                    Path(folder),
                    kinds=KINDS,
                    rates=RATES,
                    rounds=rounds,
                    seconds=seconds,
                    say=progress.console.print,
                )
                data["flood"] = [row.as_json() for row in anyio.run(work)]
    data["faults"] = faults
    click.echo(json.dumps(data, indent=1) if as_data else _text(data, faults))
    sys.exit(1 if faults else 0)


def _machines(events: int, seed: int, progress: Progress) -> tuple[dict[str, object], list[str]]:
    told: dict[str, object] = {}
    faults: list[str] = []
    for name, share in SHARES.items():
        bar = progress.add_task(f"machines: {name}", total=round(events * share))
        outcome = machines.run(name, round(events * share), seed, partial(_show, progress, bar))
        told[name] = {**msgspec.to_builtins(outcome, str_keys=True), "total": outcome.total}
        faults += outcome.faults(GROWTH)
    return told, faults


def _processes(events: int, seed: int, progress: Progress) -> tuple[dict[str, object], list[str]]:
    bar = progress.add_task("processes", total=events)
    say = partial(_show, progress, bar)
    with tempfile.TemporaryDirectory(prefix="sealbus-soak-") as folder:
        work = partial(mesh.soak, Path(folder), events=events, seed=seed, rate=RATE, say=say)
        outcome = anyio.run(work)
    told = {**msgspec.to_builtins(outcome, str_keys=True), "total": outcome.events.total()}
    return told, outcome.faults(GROWTH)


def _show(progress: Progress, bar: TaskID, name: str, done: int) -> None:
    del name  # it is in the bar's text
    progress.update(bar, completed=done)


def _text(data: dict[str, object], faults: list[str]) -> str:
    lines = [f"{part}\n{json.dumps(data[part], indent=1)}" for part in (*PARTS, "costs") if part in data]
    return "\n".join([*lines, *(faults or ["nothing was wrong"])])


if __name__ == "__main__":
    main()
