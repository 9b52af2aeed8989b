"""`sealbus demo`: redact files in a mesh of simulated machines, and say what the broker saw of it."""

import json
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from agent_runtime import Identity, connect_client
from examples.redaction.generate import generate
from examples.redaction.inputs import Passed, Source, refuse, walk
from examples.redaction.job import Job, Report
from examples.redaction.messages import Kind as Identifier
from examples.redaction.output import Results
from examples.redaction.score import Score, score, total
from examples.redaction.truth import FILE as TRUTH
from examples.redaction.truth import load
from lab.commands import broker_url, directory, ready_state, show_agents
from lab.mesh import OBSERVER, RunningMesh, require_every_workload, running_mesh, wait_admitted
from lab.observer import Observed, observing
from lab.state import State
from schemas.subjects import Kind, Party, subject
from transport import connect

CLIENT = "desk"
LISTED = 200  # files that are named one by one
CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    paths: tuple[Path, ...]
    out: Path
    replace: bool
    truth: Path | None
    machine: bool


@dataclass(frozen=True, slots=True)
class Wire:
    """What the broker saw."""

    messages: int
    bytes: int
    broker_in_msgs: int | None
    needles: int
    hits: int
    control_found: bool


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where the results go: redacted/, findings.csv, links.json.",
)
@click.option("--replace", is_flag=True, help="Replace the results of an earlier run in --out.")
@click.option("--generate", "seed", type=int, help="Make a fresh corpus from this seed and redact that.")
@click.option("--documents", type=click.IntRange(1, 100_000), default=30, show_default=True)
@click.option("--json", "machine", is_flag=True, help="One JSON object on standard output.")
@directory
def demo(
    paths: tuple[Path, ...],
    out: Path,
    replace: bool,
    seed: int | None,
    documents: int,
    machine: bool,
    root: Path,
) -> None:
    """Redact personal data in files and folders (txt, md, csv, json, eml), sealed and attested all the way.

    Without PATHS it takes the corpus that sealbus ships, whose truth is known.
    """
    if paths and seed is not None:
        raise click.UsageError("--generate makes its own input: leave the paths out")
    with tempfile.TemporaryDirectory(prefix="sealbus-corpus-") as made:
        truth = None
        if seed is not None:
            generate(seed, Path(made), documents)
            paths, truth = (Path(made),), Path(made)
        elif not paths:
            paths, truth = (CORPUS,), CORPUS
        refuse(paths, out)
        options = Options(paths, out, replace, truth, machine)
        with ready_state(root) as state:
            raise click.exceptions.Exit(anyio.run(_demo, state, options))


async def _demo(state: State, options: Options) -> int:
    console = Console(stderr=True, highlight=False)
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        results = stack.enter_context(Results.create(options.out, replace=options.replace))
        mesh = await stack.enter_async_context(
            running_mesh(state, url=broker_url(), say=lambda text: console.print(f"  {text}"), monitor=True)
        )
        observed = await stack.enter_async_context(
            observing(mesh.url, state.root, credentials=mesh.credentials(OBSERVER))
        )
        await wait_admitted(mesh)
        require_every_workload(mesh)
        client = await stack.enter_async_context(
            connect_client(
                mesh.url,
                Identity(mesh.anchor, ("requester",), key=mesh.client_key(CLIENT)),
                credentials=mesh.credentials(Party.CLIENT),
            )
        )
        working = time.monotonic()
        with _progress(console) as progress:
            bars = _Bars(progress)
            job = Job(
                client.context,
                lambda: _inputs(options),
                results,
                bars.advance,
                scored=options.truth is not None,
            )
            report = await job.run()
        seconds = time.monotonic() - working
        wire = await _wire(mesh, observed, report)
        _show(console, options, mesh, report, wire, seconds)
        if options.machine:
            whole = time.monotonic() - started
            click.echo(json.dumps(_object(options, mesh, report, wire, whole)))
    return 1 if report.failed or wire.hits or not wire.control_found else 0


def _inputs(options: Options) -> Iterator[Source | Passed]:
    for found in walk(options.paths, options.out):
        # The truth about a corpus lies beside it and is not a part of it.
        if options.truth is None or str(found.name) != TRUTH:
            yield found


class _Bars:
    """Two bars, whose totals grow as files are found."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def advance(self, name: str) -> None:
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=None)
        self._progress.advance(self._bars[name])


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("documents"),
        TimeElapsedColumn(),
        console=console,
    )


async def _wire(mesh: RunningMesh, observed: Observed, report: Report) -> Wire:
    control = f"control {secrets.token_hex(16)}"
    # Cleartext on purpose, where anyone may say hello: a search that misses this one proves nothing.
    async with connect(mesh.url, name="control", credentials=mesh.credentials(Party.CLIENT)) as transport:
        await transport.publish(subject(mesh.mesh.id, Kind.HELLO), control.encode())
        await transport.flush()
    await observed.wait_for(control.encode())
    needles = {needle.encode() for needle in report.needles}
    found = await anyio.to_thread.run_sync(observed.search, {*needles, control.encode()})
    return Wire(
        observed.messages,
        observed.size,
        await mesh.broker_messages(),
        len(needles),
        sum(count for needle, count in found.items() if needle in needles),
        control.encode() in found,
    )


def _show(
    console: Console, options: Options, mesh: RunningMesh, report: Report, wire: Wire, seconds: float
) -> None:
    console.print()
    show_agents(console, mesh)
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row(
        "documents", f"{report.redacted} redacted, {len(report.skipped)} skipped, {len(report.failed)} failed"
    )
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.findings.items()))
    table.add_row("found", kinds or "nothing")
    judged = _scores(options, report)
    if judged is not None:
        whole = total(judged)
        kinds = ", ".join(f"{kind.value} {_share(each.recall)}" for kind, each in judged.items())
        table.add_row(
            "against the truth",
            f"precision {_share(whole.precision)}, recall {_share(whole.recall)} ({kinds})",
        )
    rate = report.redacted / seconds if seconds else 0.0
    table.add_row(
        "tasks",
        f"{report.done} done, {report.task_failures} failed, {report.expired} expired "
        f"in {seconds:.1f} s ({rate:.0f} documents/s)",
    )
    searched = f"{wire.needles} identifiers of the input searched for: "
    hits = "[green]none found[/green]" if not wire.hits else f"[red]{wire.hits} FOUND[/red]"
    control = "the planted control was found" if wire.control_found else "[red]the control was MISSED[/red]"
    table.add_row(
        "the broker saw", f"{wire.messages} messages, {wire.bytes} bytes; {searched}{hits}; {control}"
    )
    table.add_row("results", str(options.out))
    console.print(table)
    _list(console, "[red]failed[/red]", report.failed)
    _list(console, "[yellow]skipped[/yellow]", report.skipped)


def _list(console: Console, label: str, passed: list[Passed]) -> None:
    for each in passed[:LISTED]:
        console.print(f"{label} {escape(str(each.name))}: {each.reason}", soft_wrap=True)
    if len(passed) > LISTED:
        console.print(f"{label} ... and {len(passed) - LISTED} more")


def _scores(options: Options, report: Report) -> dict[Identifier, Score] | None:
    return score(report.marks, load(options.truth)) if options.truth is not None else None


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _object(
    options: Options, mesh: RunningMesh, report: Report, wire: Wire, seconds: float
) -> dict[str, object]:
    scores = _scores(options, report)
    judged = total(scores) if scores is not None else None
    return {
        "documents": {
            "read": report.read,
            "redacted": report.redacted,
            "skipped": len(report.skipped),
            "failed": len(report.failed),
        },
        "findings": dict(report.findings),
        "precision": judged.precision if judged else None,
        "recall": judged.recall if judged else None,
        "agents": [
            {
                "name": agent.name,
                "platform": agent.platform,
                "workload": agent.workload,
                "instance": agent.instance,
            }
            for agent in mesh.admitted()
        ],
        "tasks": {
            "submitted": report.submitted,
            "done": report.done,
            "failed": report.task_failures,
            "expired": report.expired,
        },
        "wire": {
            "messages": wire.messages,
            "bytes": wire.bytes,
            "broker_in_msgs": wire.broker_in_msgs,
            "needles": wire.needles,
            "hits": wire.hits,
            "control_found": wire.control_found,
        },
        "seconds": round(seconds, 3),
    }
