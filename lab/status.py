"""What is up in a lab, who is admitted and who was refused; and how all of it is stopped.

What runs is told by locks, which end with the process that holds them, never by what a file says.
"""

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from lab import logs
from lab.attached import UP, attach, is_up
from lab.facts import LAB_FILE, read_facts
from lab.logs import Admitted
from lab.plan import COORDINATOR, SCHEDULER
from lab.state import RUN, State, held_parts, holder
from schemas.errors import UsageError
from schemas.subjects import Party
from transport import Credentials, TransportError, connect

BROKER_PATIENCE = 3.0
STOP_PATIENCE = 20.0  # seconds for a part to end before it is killed: `up` stops its machines one by one
KILL_PATIENCE = 5.0
LOOK_AGAIN = 0.05

ALL_ADMITTED, SOME_NOT, NOT_UP = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Status:
    """A lab at a moment. `parts` are processes of this computer; in containers there are others."""

    url: str | None = None
    reachable: bool = False
    parts: dict[str, int] = field(default_factory=dict)
    starting: bool = False  # `up` runs, and is not done with bringing it up
    admitted: list[Admitted] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    revoked: dict[str, str] = field(default_factory=dict)  # was admitted, and by what it was put out
    missing: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)  # what was started here and does not run now
    forked: list[str] = field(default_factory=list)  # stopped with proof that the coordinator said two things

    @property
    def code(self) -> int:
        """The exit code that it stands for."""
        if not self.reachable:
            return NOT_UP
        worse = self.refused or self.revoked or self.missing or self.dead or self.forked
        return SOME_NOT if worse else ALL_ADMITTED


async def status_of(state: State) -> Status:
    """Look at a lab."""
    parts = held_parts(state.root)
    starting = UP in parts and not is_up(state.root)
    try:
        mesh = attach(state)
    except UsageError:
        return Status(parts=parts, starting=starting)
    if not await _reachable(mesh.url, mesh.credentials(Party.CLIENT)):
        return Status(mesh.url, parts=parts, starting=starting)
    refused = mesh.refused
    dead = sorted(_dead(state, parts, set(mesh.workloads)) - set(refused))
    # The coordinator hears nothing of a death: to it an agent is admitted until its admission expires.
    admitted = [agent for agent in mesh.admitted() if agent.name not in dead]
    known = {agent.name for agent in admitted} | set(refused) | set(dead)
    evicted = logs.evicted(state.logs, mesh.workloads)
    revoked = {name: cause for name, cause in evicted.items() if name not in known}
    missing = sorted(set(mesh.workloads) - known - set(revoked))
    forked = logs.forked(state.logs, mesh.workloads)
    return Status(mesh.url, True, parts, starting, admitted, refused, revoked, missing, dead, forked)


def _dead(state: State, parts: dict[str, int], machines: set[str]) -> set[str]:
    """Name what should run here and does not; nothing where all of it runs elsewhere."""
    if UP in parts:
        pids = read_facts(state.root).pids
        running = {name for name, pid in pids.items() if _is_child(pid, parts[UP])}
        return {COORDINATOR, SCHEDULER, *machines} - running
    return machines - set(parts) if machines & set(parts) else set()


def _is_child(pid: int, parent: int) -> bool:
    """Tell whether a process runs and is this parent's: its number alone may be somebody else's by now."""
    try:
        state, father, *_ = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return not Path("/proc/self/stat").exists()  # another system than Linux: what was written down holds
    return state != "Z" and int(father) == parent


async def _reachable(url: str, credentials: Credentials | None) -> bool:
    try:
        async with connect(url, name=Party.CLIENT.value, credentials=credentials, patience=BROKER_PATIENCE):
            return True
    except TransportError:
        return False


async def stop(root: Path) -> dict[str, int]:
    """Stop every part of a lab that runs on this computer; return those that ran. Safe at any time."""
    parts = held_parts(root)
    async with anyio.create_task_group() as tasks:
        for name in parts:
            tasks.start_soon(_end, root / RUN / f"{name}.lock")
    if not held_parts(root):
        (root / LAB_FILE).unlink(missing_ok=True)
    return parts


async def _end(lock: Path) -> None:
    for number, patience in ((signal.SIGTERM, STOP_PATIENCE), (signal.SIGKILL, KILL_PATIENCE)):
        # Who holds the lock is alive at this moment: its number is nobody else's.
        pid = holder(lock)
        if pid is None:
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise UsageError(f"process {pid} is another user's: stop it as that user") from error
        with anyio.move_on_after(patience):
            # A lock tells nobody when it is let go.
            while holder(lock) is not None:  # noqa: ASYNC110
                await anyio.sleep(LOOK_AGAIN)
            return
    raise UsageError(f"process {holder(lock)} does not end: look at it, then run this again")
