"""`sealbus demo`: redact files in a mesh of simulated machines, and say what the broker saw of it."""

import json
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import anyio
import click
from anyio import to_thread
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from agent_runtime import Client, Identity, connect_client
from examples.redaction.attack import attack
from examples.redaction.generate import generate
from examples.redaction.inputs import Passed, Source, refuse, walk
from examples.redaction.job import Job, Report
from examples.redaction.output import Results, check
from examples.redaction.score import score
from examples.redaction.screen import Scores, as_object, show
from examples.redaction.truth import FILE as TRUTH
from examples.redaction.truth import load
from lab.attached import AttachedMesh, attach, is_up, require_all_working
from lab.commands import broker_url, directory, ready_state
from lab.mesh import RunningMesh, running_mesh, wait_admitted
from lab.saw import look
from lab.state import State, open_state
from lab.tap import Script
from lab.theatre import chosen
from lab.view import MeshView, client_key, require_every_workload
from schemas.errors import UsageError
from schemas.subjects import Party

CLIENT, ROLE = "desk", "requester"
PICTURE_WIDTH = 110  # columns: what fits a page
CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    paths: tuple[Path, ...]
    out: Path
    replace: bool
    truth: Path | None
    machine: bool
    attached: bool  # to a mesh that others brought up


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the results go: redacted/, findings.csv, links.json. Needed but for --attack.",
)
@click.option("--replace", is_flag=True, help="Replace the results of an earlier run in --out.")
@click.option("--generate", "seed", type=int, help="Make a fresh corpus from this seed and redact that.")
@click.option("--documents", type=click.IntRange(1, 100_000), default=30, show_default=True)
@click.option("--attack", "attacking", is_flag=True, help="Play attacks on the mesh while it works.")
@click.option("--act", "acts", multiple=True, help="With --attack: play this act alone; may be repeated.")
@click.option(
    "--svg",
    "picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what the screen shows to this file, as a picture.",
)
@click.option(
    "--attach",
    "attached",
    is_flag=True,
    help="Work in a mesh that is up; done without being asked where `lab up` runs in --dir.",
)
@click.option("--json", "machine", is_flag=True, help="One JSON object on standard output.")
@directory
def demo(
    paths: tuple[Path, ...],
    out: Path | None,
    replace: bool,
    seed: int | None,
    documents: int,
    attacking: bool,
    acts: tuple[str, ...],
    picture: Path | None,
    attached: bool,
    machine: bool,
    root: Path,
) -> None:
    """Redact personal data in files and folders (txt, md, csv, json, eml), sealed and attested all the way.

    Without PATHS it takes the corpus that sealbus ships, whose truth is known.
    """
    if attacking:
        if paths or seed is not None or out is not None:
            raise click.UsageError("--attack has input of its own and keeps no results: leave both out")
        if attached:
            raise click.UsageError("--attack needs a mesh of its own: leave --attach out")
        chosen(acts)
        with ready_state(root) as state:
            console = _console(picture)
            code = anyio.run(_attack, state, acts, console, machine)
        _draw(console, picture, "sealbus demo --attack")
        raise click.exceptions.Exit(code)
    if out is None:
        raise click.UsageError("say where the results go: --out DIR")
    if acts:
        raise click.UsageError("--act names an act of --attack: give both")
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
        check(out, replace=replace)
        attached = attached or is_up(root)
        options = Options(paths, out, replace, truth, machine, attached)
        console = _console(picture)
        with open_state(root, exclusive=False) if attached else ready_state(root) as state:
            code = anyio.run(_demo, state, options, console)
        _draw(console, picture, "sealbus demo")
    raise click.exceptions.Exit(code)


def _console(picture: Path | None) -> Console:
    width = PICTURE_WIDTH if picture is not None else None
    return Console(stderr=True, highlight=False, record=picture is not None, width=width)


def _draw(console: Console, picture: Path | None, title: str) -> None:
    if picture is None:
        return
    # Whoever looks at the picture must not thereby ask a stranger for fonts.
    drawn = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title), flags=re.DOTALL)
    try:
        picture.write_text(drawn, "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {picture}: {error.strerror}; name another file") from error


async def _demo(state: State, options: Options, console: Console) -> int:
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        mesh: MeshView
        if options.attached:
            mesh, client = await stack.enter_async_context(_attached_mesh(state, console))
        else:
            mesh, client = await stack.enter_async_context(_working_mesh(state, console))
        # Not before there is a mesh to work in: what cannot begin must not cost the results that are there.
        results = stack.enter_context(Results.create(options.out, replace=options.replace))
        working = time.monotonic()
        total = await to_thread.run_sync(lambda: sum(isinstance(each, Source) for each in _inputs(options)))
        with _progress(console) as progress:
            bars = _Bars(progress, total)
            job = Job(
                client.context,
                lambda: _inputs(options),
                results,
                bars.advance,
                scored=options.truth is not None,
            )
            report = await job.run()
        seconds = time.monotonic() - working
        saw = None
        if mesh.recording is not None:
            with console.status("  searching what the broker saw"):
                saw = await look(mesh, chain(report.identifiers.kept, report.lines.kept))
        scores = _scores(options, report)
        show(console, mesh, report, scores, saw, seconds, options.out)
        if options.machine:
            click.echo(json.dumps(as_object(mesh, report, scores, saw, time.monotonic() - started)))
    return 1 if report.failed or (saw is not None and not saw.nothing) else 0


async def _attack(state: State, acts: tuple[str, ...], console: Console, machine: bool) -> int:
    async with _working_mesh(state, console) as (mesh, client):
        return await attack(mesh, client, CORPUS, acts, console, machine)


@asynccontextmanager
async def _working_mesh(state: State, console: Console) -> AsyncIterator[tuple[RunningMesh, Client]]:
    """Bring the mesh up behind a tap, and join it as the client that submits."""
    async with running_mesh(
        state,
        url=broker_url(),
        say=lambda text: console.print(f"  {text}"),
        monitor=True,
        script=Script(),
    ) as mesh:
        await wait_admitted(mesh)
        require_every_workload(mesh)
        identity = Identity(mesh.anchor, (ROLE,), key=mesh.client_key(CLIENT))
        async with connect_client(mesh.url, identity, credentials=mesh.credentials(Party.CLIENT)) as client:
            yield mesh, client


@asynccontextmanager
async def _attached_mesh(state: State, console: Console) -> AsyncIterator[tuple[AttachedMesh, Client]]:
    """Join a mesh that others brought up as the client that submits."""
    mesh = attach(state)
    console.print(f"  joining the mesh at {mesh.url}")
    identity = Identity(mesh.anchor, (ROLE,), key=client_key(state, CLIENT))
    async with connect_client(mesh.url, identity, credentials=mesh.credentials(Party.CLIENT)) as client:
        require_all_working(mesh)
        yield mesh, client


def _inputs(options: Options) -> Iterator[Source | Passed]:
    for found in walk(options.paths, options.out):
        # The truth about a corpus lies beside it and is not a part of it.
        if options.truth is None or str(found.name) != TRUTH:
            yield found


def _scores(options: Options, report: Report) -> Scores | None:
    return score(report.marks, load(options.truth)) if options.truth is not None else None


class _Bars:
    """Two bars, of as many files as there are when the job begins."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._bars: dict[str, TaskID] = {}

    def advance(self, name: str) -> None:
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=self._total)
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
