"""`sealbus lab`: make a lab, bring it up, measure again, evict."""

import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path

import anyio
import click
import msgspec
from rich.console import Console
from rich.table import Table

from lab import setup
from lab.blueprint import installed_blueprint
from lab.facts import LAB_FILE, facts_of, read_facts
from lab.mesh import RunningMesh, running_mesh, wait_admitted
from lab.operators import Operators
from lab.state import DEFAULT, State, open_state
from lab.tap import Script
from lab.wire import wire_command
from schemas.errors import Reason

BROKER_URL = "SEALBUS_NATS_URL"
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
def init(root: Path, blueprint: Path | None) -> None:
    """Make a lab: simulated roots, keys of operators and clients, a signed policy."""
    console = Console(stderr=True)
    setup.make(root, blueprint or installed_blueprint(), lambda text: console.print(f"  {text}"))
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
def up(root: Path, tapped: bool, machine: bool) -> None:
    """Bring the lab up and keep it up until Ctrl-C."""
    with ready_state(root) as state:
        anyio.run(_up, state, tapped, machine)


@lab.command()
@directory
@click.option("--kind", type=click.Choice(["instance", "chip", "workload"]), default="instance")
@click.option("--reason", default="ordered on the command line", help="Goes into the audit log.")
@click.argument("value")
def evict(root: Path, kind: str, reason: str, value: str) -> None:
    """Have the operators of a lab that is up revoke an instance, a chip or a workload."""
    raise click.exceptions.Exit(anyio.run(_evict, root, kind, value, reason))


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


async def _up(state: State, tapped: bool, machine: bool) -> None:
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
        state.save(LAB_FILE, msgspec.json.format(msgspec.json.encode(facts)))
        if machine:
            click.echo(msgspec.json.encode(facts))
        else:
            show_agents(console, mesh)
            console.print(f"up at {mesh.url}; {path} says more; Ctrl-C ends it")
        try:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    break
        finally:
            path.unlink(missing_ok=True)


async def _evict(root: Path, kind: str, value: str, reason: str) -> int:
    facts = read_facts(root)
    console = Console(stderr=True)
    with open_state(root, exclusive=False) as state:
        if kind == "instance":
            value = {agent.name: agent.instance for agent in facts.admitted}.get(value, value)
        await Operators(state, facts.nats_url).revoke(kind, value, reason)
    console.print(f"revoked: the coordinator's signed receipt is here ({kind} {value})")
    return 0


def show_agents(console: Console, mesh: RunningMesh) -> None:
    """Print who was admitted on which TEE, and who was refused."""
    table = Table(title="admitted", title_justify="left")
    for column in ("machine", "TEE", "workload", "instance"):
        table.add_column(column)
    for agent in mesh.admitted():
        table.add_row(agent.name, agent.platform, agent.workload or "coordinator", agent.instance[:16])
    console.print(table)
    for name, reason in sorted(mesh.refused.items()):
        console.print(f"[red]refused[/red] {name}: {reason}", highlight=False, soft_wrap=True)
    if any(reason.startswith(MEASURED_OTHERWISE) for reason in mesh.refused.values()):
        console.print(
            "Their code is not what the operators signed. If the change is meant: sealbus lab resign"
        )
