"""A whole mesh for tests: real processes and the real broker, laid out once and brought up many times."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import to_thread

from agent_runtime import Agent, Identity, Node
from agent_runtime.trust import Trust
from lab import setup
from lab.image import Builder
from lab.layers import Store
from lab.mesh import RunningMesh, running_mesh, wait_admitted
from lab.plan import read_plans
from lab.state import open_state
from lab.tap import Script
from schemas.documents import ClassInfo, Constraints
from schemas.evidence import Endorsements, Evidence
from schemas.granted import Granted
from schemas.limits import MINUTE
from schemas.subjects import Party
from sealing.context import SUITE_GCM
from sealing.keys import SigningKey
from transport import connect

T = TypeVar("T")

BLUEPRINT = Path(__file__).parent / "blueprint"
LAB, AGENTS = "lab", "agents"
JOIN_DEADLINE = 90.0
LOOK_AGAIN = 0.02
# What a run leaves behind, and what every copy shares with its template.
_NOT_COPIED = (
    *("layers", "logs", "broker", "accounts", "lock", "term", "audit"),
    *("lab.json", "run", "wire", "evidence", "seen"),
)


def make_lab(home: Path, blueprint: Path = BLUEPRINT, *, suite: int = SUITE_GCM) -> Path:
    """Make a lab in `home` with agent files of its own; return its state directory."""
    shutil.copytree(blueprint, home / AGENTS, ignore=shutil.ignore_patterns("__pycache__"))
    setup.make(home / LAB, home / AGENTS / "blueprint.toml", lambda _: None, suite=suite)
    return home / LAB


def stage(lab: Path) -> None:
    """Stage what the machines of a lab launch: a store is not for two processes, but once full it is read."""
    with open_state(lab) as state:
        builder = Builder(Store(state.layers))
        for plan in read_plans(state).values():
            builder.stage(builder.build(plan.spec))


def copy_lab(template: Path, home: Path) -> Path:
    """Copy a lab to `home`: the same mesh, policy and roots, with agent files and a life of its own."""
    shutil.copytree(template.with_name(AGENTS), home / AGENTS)
    shutil.copytree(template, home / LAB, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    share_layers(template, home / LAB)
    (home / LAB / setup.BLUEPRINT).write_bytes(os.fsencode(home / AGENTS / "blueprint.toml"))
    return home / LAB


def share_layers(template: Path, lab: Path) -> None:
    """Let a lab launch what was staged for another: most of its images are the same."""
    (template / "layers").mkdir(mode=0o700, exist_ok=True)
    (lab / "layers").symlink_to(template / "layers")


@asynccontextmanager
async def up(lab: Path, *, url: str | None = None) -> AsyncIterator[RunningMesh]:
    """Bring a lab's mesh up; every agent is admitted, or was refused."""
    with open_state(lab) as state:
        async with running_mesh(state, url=url, monitor=url is None, script=Script()) as mesh:
            await wait_admitted(mesh)
            yield mesh


@asynccontextmanager
async def in_own_task(manager: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """Hold `manager` open in a task of its own: fixtures end in an order that no task group would bear."""
    entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def hold() -> None:
        try:
            async with manager as value:
                entered.set_result(value)
                await leave.wait()
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)

    task = asyncio.create_task(hold())
    try:
        yield await entered
    finally:
        leave.set()
        await task


async def eventually(holds: Callable[[], bool], within: float = 90.0) -> None:
    """Return when something outside of this process has come about, which tells nobody when it does."""
    with anyio.fail_after(within):
        while not holds():  # noqa: ASYNC110
            await anyio.sleep(LOOK_AGAIN)


class LabAttester:
    """Evidence of one of a mesh's machines, for keys of this very process: its host plays the adversary."""

    def __init__(self, mesh: RunningMesh, machine: str, *, debug: bool = False) -> None:
        self.machine = mesh.machines[machine]
        self.measurements = self.machine.image().measurements(self.machine.platform)
        self.debug = debug

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        return await to_thread.run_sync(self.mint, key_binding, challenge)

    def mint(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        return self.machine._simulator.evidence(
            dict(self.measurements), key_binding, challenge, now=datetime.now(UTC), debug=self.debug
        )


def client_identity(mesh: RunningMesh, name: str = "desk", key: SigningKey | None = None) -> Identity:
    """Return a client's identity: by default with its own key, its role is called as it is."""
    return Identity(mesh.anchor, (name,), key=key or mesh.client_key(name))


def enclave_identity(mesh: RunningMesh, machine: str, role: str) -> Identity:
    """Return the identity of an enclave that runs in this process."""
    return Identity(mesh.anchor, (role,), LabAttester(mesh, machine))


@asynccontextmanager
async def joined(mesh: RunningMesh, identity: Identity, agent: Agent | None = None) -> AsyncIterator[Node]:
    """Take part in a mesh from within this process, live."""
    party = Party.CLIENT if identity.attester is None else Party.AGENT
    async with connect(mesh.url, name=party.value, credentials=mesh.credentials(party)) as transport:
        node = Node(identity, transport, agent)
        async with node.running():
            with anyio.fail_after(JOIN_DEADLINE):
                await node.wait_live()
            yield node


def forge(trust: Trust, action: str, what: str, role: str) -> Trust:
    """Return the trust of a party that made itself believe it may do `what` at `role`."""
    granted = {(own, action, what): Granted(role, Constraints()) for own in trust.admission.roles}
    return replace(
        trust,
        grants={**trust.grants, **granted},
        classes={**trust.classes, what: ClassInfo(what, role, MINUTE)},
        tools={**trust.tools, what: role},
    )


def log_of(mesh: RunningMesh, name: str) -> str:
    """Return what a process of the mesh has printed."""
    return (mesh.state.logs / f"{name}.log").read_text("utf-8")


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
