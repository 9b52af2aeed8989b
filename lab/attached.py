"""A mesh that others brought up: `sealbus lab up` in another terminal, or parts in containers.

What is known of it is what lies in the lab's directory. Its processes are not ours: none is signalled, and
the broker's counters and the enclaves' own searches are not asked for.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from anyio import to_thread

from agent_runtime import RefusedError
from lab import logs
from lab.accounts import saved_accounts
from lab.blueprint import read_blueprint
from lab.facts import LAB_FILE, read_facts
from lab.logs import Admitted
from lab.mesh import recording_of
from lab.plan import machine_names
from lab.setup import blueprint_path
from lab.state import ANCHOR, State, held_parts
from lab.tap import measured
from schemas.errors import Reason, UsageError
from sealing.context import Mesh
from sealing.documents import open_anchor
from sealing.own_keys import OwnKeys
from transport import Credentials

BROKER_URL = "SEALBUS_NATS_URL"
UP = "up"  # the part that is a whole lab in one process


@dataclass(frozen=True)
class AttachedMesh:
    """Made by `attach`. What it says is of the moment at which it is asked."""

    state: State
    url: str
    anchor: bytes
    mesh: Mesh
    workloads: dict[str, str]

    @cached_property
    def _seeds(self) -> dict[str, str]:
        return saved_accounts(self.state)

    @property
    def refused(self) -> dict[str, str]:
        """The agents that were refused for good, and why."""
        return logs.refused(self.state.logs, self.workloads)

    @property
    def recording(self) -> Path | None:
        """Where the mesh's tap records, if it has one."""
        path = recording_of(self.state)
        return path if path.is_file() else None

    @property
    def store(self) -> Path | None:
        """The broker's folder, if it lies here."""
        return self.state.broker if any(self.state.broker.glob("jetstream/*")) else None

    @property
    def shared(self) -> bool:
        """Another command may have joined it before."""
        return True

    @property
    def enclaves(self) -> int:
        """None can be asked from here."""
        return 0

    def admitted(self) -> list[Admitted]:
        """Return each machine's agent whose admission has not ended."""
        return logs.standing(self.state.logs, self.workloads)

    def credentials(self, party: str) -> Credentials | None:
        """Return the broker account of a kind of party; None on a broker of somebody else's."""
        seed = self._seeds.get(party)
        return Credentials(seed=seed) if seed else None

    async def recorded(self) -> tuple[int, int]:
        """Count the recording from its beginning."""
        path = self.recording
        return (0, 0) if path is None else await to_thread.run_sync(measured, path)

    async def broker_messages(self) -> int | None:
        """The broker has counted since before this recording began, so that its count says nothing here."""
        return None

    async def own_keys(self) -> dict[str, OwnKeys]:
        """Nobody was asked."""
        return {}


def attach(state: State) -> AttachedMesh:
    """Return the mesh that is up on this lab's state, or raise `UsageError`."""
    anchor = state.load(ANCHOR)
    _, mesh = open_anchor(anchor)
    workloads = machine_names(read_blueprint(blueprint_path(state)))
    return AttachedMesh(state, url_of(state.root), anchor, mesh, workloads)


def url_of(root: Path) -> str:
    """Return where a lab that is up has its broker: as it wrote down, else as the environment names it."""
    if is_up(root):
        return read_facts(root).nats_url
    named = os.environ.get(BROKER_URL)
    if not named:
        raise UsageError(f"no lab is up in {root}: run: sealbus lab up --dir {root} (or set {BROKER_URL})")
    return named


def is_up(root: Path) -> bool:
    """Tell whether a whole lab is up in this directory, in a process of this computer."""
    return UP in held_parts(root) and (root / LAB_FILE).is_file()


def require_all_working(mesh: AttachedMesh) -> None:
    """Raise `RefusedError` if a workload has no agent that is admitted: work for it would wait."""
    serving = {agent.workload for agent in mesh.admitted()}
    for workload in sorted(set(mesh.workloads.values()) - serving):
        reasons = [reason for name, reason in mesh.refused.items() if mesh.workloads[name] == workload]
        why = f" ({reasons[0]})" if reasons else ""
        raise RefusedError(
            Reason.UNAVAILABLE,
            f"no {workload} is admitted{why}: see sealbus lab status --dir {mesh.state.root}",
        )
