"""`sealbus lab`: make a lab, bring it up, measure again, evict."""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import anyio
import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from console.operating.options import reason_option
from lab import setup
from lab.attached import BROKER_URL, UP, attach
from lab.blueprint import installed_blueprint
from lab.broker import HOST
from lab.council import PASSPHRASE_FILE, hand_in, lab_council
from lab.export import export_all
from lab.facts import LAB_FILE, facts_of
from lab.keys import CREDENTIALS, export_keys
from lab.logs import Admitted
from lab.mesh import running_mesh, wait_admitted
from lab.operators import Operators
from lab.start import INIT, Part, initialise
from lab.start import start as run_part
from lab.state import DEFAULT, State, held_parts, hold_part, open_state
from lab.status import Status, status_of, stop
from lab.tap import Script
from lab.told import until_told
from lab.view import MeshView
from lab.wire import wire_command
from schemas.errors import Reason, UsageError
from sealing.context import SUITE_GCM, SUITES

MEASURED_OTHERWISE = Reason.MEASUREMENT_NOT_IN_POLICY.value

directory = click.option(
    "--dir",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT,
    show_default=True,
    help="The lab's state directory.",
)
as_json = click.option("--json", "machine", is_flag=True, help="One JSON object on standard output.")


@click.group()
def lab() -> None:
    """A mesh of simulated machines on this computer."""


@lab.command()
@directory
@click.option(
    "--blueprint",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="What to make it from; the redaction demo's if not given.",
)
@click.option(
    "--suite",
    type=click.Choice([str(suite) for suite in SUITES]),
    default=str(SUITE_GCM),
    show_default=True,
    help="How frames are sealed: 1 is AES-256-GCM, 2 AES-256-GCM-SIV. A mesh keeps its suite for life.",
)
def init(root: Path, blueprint: Path | None, suite: str) -> None:
    """Make a lab: simulated roots, keys of operators and clients, a signed policy."""
    console = Console(stderr=True)
    chosen = blueprint or installed_blueprint()
    setup.make(root, chosen, lambda text: console.print(f"  {text}"), suite=int(suite))
    console.print(f"made {root}")


@lab.command()
@directory
def resign(root: Path) -> None:
    """Measure what changed and have the operators sign a new policy version."""
    console = Console(stderr=True)
    with open_state(root) as state:
        version = setup.resign(state, lambda text: console.print(f"  {text}"))
    console.print(f"policy {version} is signed; it is in force from the next start on")


@lab.command()
@directory
@click.option("--tap", "tapped", is_flag=True, help="Put the tap before the broker: see sealbus lab wire.")
@as_json
def up(root: Path, tapped: bool, machine: bool) -> int:
    """Bring the lab up and keep it up until Ctrl-C; exit 1 if that came before it was up."""
    reached: list[str] = []
    with ready_state(root) as state, hold_part(state, UP):
        parts = sorted(set(held_parts(root)) - {UP})
        if parts:
            raise UsageError(f"{', '.join(parts)} of {root} run already: run: sealbus lab down --dir {root}")
        anyio.run(until_told, partial(_up, state, tapped, machine, reached.append))
    if not reached:
        click.echo("stopped before the lab was up", err=True)
    return int(not reached)


@lab.command()
@directory
@click.argument("name", metavar="PART")
@click.option("--host", default=HOST, show_default=True, help="Where `init`'s broker and `tap` listen.")
@click.option("--port", type=click.IntRange(1, 65535), help="Of `broker`; of `tap` the first of a row.")
@click.option("--ready", type=click.Path(path_type=Path), help="A file that is there while it is ready.")
def start(root: Path, name: str, host: str, port: int | None, ready: Path | None) -> None:
    """Run one part of a lab until Ctrl-C; SEALBUS_NATS_URL says where the part finds the broker.

    PART is init, broker, tap, operators, coordinator, scheduler, or the name of an agent's machine.
    """
    console = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        console.print(f"  {text}", markup=False, soft_wrap=True)

    if name == INIT:
        initialise(root, host, say)
        console.print(f"{root} is ready")
        return
    raise click.exceptions.Exit(anyio.run(run_part, root, Part(name, host, port, ready), say))


@lab.command()
@directory
@as_json
def status(root: Path, machine: bool) -> None:
    """Say what is up and who is admitted; exit 0 if all are, 1 if some are not, 3 if nothing is up."""
    with open_state(root, exclusive=False) as state:
        found = anyio.run(status_of, state)
    if machine:
        click.echo(msgspec.json.encode(found))
    else:
        show_status(Console(stderr=True, highlight=False), root, found)
    raise click.exceptions.Exit(found.code)


@lab.command()
@directory
def down(root: Path) -> None:
    """Stop what `up` or `start` runs in this directory, in whatever state it is."""
    console = Console(stderr=True, highlight=False)
    stopped = anyio.run(stop, root)
    for name, pid in stopped.items():
        console.print(f"stopped {name} (process {pid})")
    if not stopped:
        console.print(f"nothing of {root} runs on this computer")


@lab.command()
@directory
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where PLATFORM/NAME/ folders go.",
)
@as_json
def evidence(root: Path, out: Path, machine: bool) -> None:
    """Write the Evidence of every admitted enclave, for other tools to judge."""
    with open_state(root, exclusive=False) as state:
        exported = export_all(state, out)
    if machine:
        click.echo(msgspec.json.encode({each.name: str(each.folder) for each in exported}))
        return
    console = Console(stderr=True, highlight=False)
    for each in exported:
        console.print(f"{each.name}: {each.folder}", markup=False, soft_wrap=True)


@lab.command()
@directory
@click.option("--kind", type=click.Choice(["instance", "chip", "workload"]), default="instance")
@reason_option
@click.argument("value")
def evict(root: Path, kind: str, reason: str, value: str) -> None:
    """Have the operators of a lab that is up revoke an instance, a chip or a workload."""
    raise click.exceptions.Exit(anyio.run(_evict, root, kind, value, reason))


@lab.command()
@directory
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="A folder that is not there yet.",
)
def keys(root: Path, out: Path) -> None:
    """Write the operators' keys of a lab that is up, for mesh, policy, agents, workloads and audit."""
    console = Console(stderr=True, highlight=False)
    with open_state(root, exclusive=False) as state:
        url = attach(state).url
        written = export_keys(state, out)
    for path in written:
        console.print(f"{path}", markup=False, soft_wrap=True)
    first = next(path for path in written if path.suffix == ".key")
    seed = f" --credentials {out / CREDENTIALS}" if out / CREDENTIALS in written else ""
    line = (
        f"sealbus mesh status --mesh {out / 'anchor.cbor'} --key {first} "
        f"--passphrase-file {out / PASSPHRASE_FILE} --nats {url}{seed}"
    )
    console.print("and now, for example:", markup=False)
    click.echo(line)


@lab.command("hand-in")
@directory
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
def hand_in_keys(root: Path, folder: Path) -> None:
    """Give a lab the keys of operators who came by a change: FOLDER has them, as `lab keys` writes it."""
    console = Console(stderr=True, highlight=False)
    with open_state(root, exclusive=False) as state:
        came = hand_in(state, folder)
        council, _ = lab_council(state)
    console.print(f"operators of version {council.version}; keys that came: {', '.join(came) or 'none'}")


lab.add_command(wire_command)


def ready_state(root: Path) -> AbstractContextManager[State]:
    """Open a lab's state, made first if there is none."""
    if not root.exists():
        console = Console(stderr=True)
        console.print(f"making a lab in {root} (once)")
        setup.make(root, installed_blueprint(), lambda text: console.print(f"  {text}"))
    return open_state(root)


def broker_url() -> str | None:
    """Return the broker that the environment names instead of the embedded one."""
    return os.environ.get(BROKER_URL) or None


async def _up(state: State, tapped: bool, machine: bool, reached: Callable[[str], None]) -> int:
    console = Console(stderr=True)
    async with running_mesh(
        state,
        url=broker_url(),
        say=lambda text: console.print(f"  {text}"),
        script=Script() if tapped else None,
    ) as mesh:
        await wait_admitted(mesh)
        facts = facts_of(mesh)
        path = state.root / LAB_FILE

        def write() -> None:
            state.save(LAB_FILE, msgspec.json.format(msgspec.json.encode(facts_of(mesh))))

        def rewrite() -> None:
            try:
                write()
            except UsageError as error:
                console.print(f"[yellow]{escape(str(error))}[/yellow]", soft_wrap=True)

        try:
            write()
            mesh.on_change = rewrite
            reached(mesh.url)
            if machine:
                click.echo(msgspec.json.encode(facts))
            else:
                show_agents(console, mesh)
                console.print(f"up at {mesh.url}; {path} says more; Ctrl-C ends it")
            await anyio.sleep_forever()
        finally:
            mesh.on_change = lambda: None
            path.unlink(missing_ok=True)
    return 0


async def _evict(root: Path, kind: str, value: str, reason: str) -> int:
    console = Console(stderr=True)
    with open_state(root, exclusive=False) as state:
        mesh = attach(state)
        if kind == "instance":
            value = _instance(value, {agent.name: agent.instance for agent in mesh.admitted()})
        await Operators(state, mesh.url).revoke(kind, value, reason)
    console.print(f"revoked: the coordinator's signed receipt is here ({kind} {value})")
    return 0


def _instance(value: str, admitted: Mapping[str, str]) -> str:
    if value in admitted:
        return admitted[value]
    if re.fullmatch("[0-9a-f]{64}", value):
        return value
    names = ", ".join(sorted(admitted)) or "nobody"
    raise UsageError(f"{value!r} is no instance id and names no agent that is admitted: there are {names}")


def show_status(console: Console, root: Path, found: Status) -> None:
    """Print what is up."""
    if found.starting:
        pid = found.parts[UP]
        console.print(f"starting: `lab up` runs here as process {pid}; its agents are not admitted yet")
        return
    if not found.reachable:
        where = f"the broker at {found.url} does not answer" if found.url else "nothing is up"
        console.print(f"{where}: run: sealbus lab up --dir {root}", soft_wrap=True)
        return
    console.print(f"broker at {found.url}")
    for name, pid in sorted(found.parts.items()):
        console.print(f"{name} runs here as process {pid}")
    show_admitted(console, found.admitted, found.refused, State(root))
    for name in found.dead:
        console.print(f"[red]dead[/red] {name}: no process of it runs at this moment")
    for name, cause in sorted(found.revoked.items()):
        console.print(f"[red]revoked[/red] {name}: {escape(cause)}", soft_wrap=True)
    for name in found.forked:
        proof = root / "logs" / f"{name}.log"
        said = f"[red]equivocation[/red] {name} has stopped: its coordinator said two things"
        console.print(f"{said}; the proof is in {escape(str(proof))}", soft_wrap=True)
    for name in found.missing:
        console.print(f"[yellow]missing[/yellow] {name}: neither admitted nor refused")


def show_agents(console: Console, mesh: MeshView) -> None:
    """Print who was admitted on which TEE, and who was refused."""
    show_admitted(console, mesh.admitted(), mesh.refused, mesh.state)


def show_admitted(
    console: Console, admitted: list[Admitted], refused: Mapping[str, str], state: State
) -> None:
    """Print the same of lists."""
    table = Table(title="admitted", title_justify="left")
    for column in ("machine", "TEE", "workload", "instance"):
        table.add_column(column)
    for agent in admitted:
        table.add_row(agent.name, agent.platform, agent.workload or "coordinator", agent.instance[:16])
    console.print(table)
    for name, reason in sorted(refused.items()):
        console.print(f"[red]refused[/red] {name}: {reason}", highlight=False, soft_wrap=True)
    if any(reason.startswith(MEASURED_OTHERWISE) for reason in refused.values()):
        console.print(
            "Their code is not what the operators signed. If the change is meant, have it signed: "
            f"{state.command('resign')}",
            highlight=False,
            markup=False,
            soft_wrap=True,  # a command that was broken in two can't be pasted
        )
