"""What one may ask of a mesh that is up, whoever brought it up."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from agent_runtime import RefusedError
from lab.logs import Admitted
from lab.state import State
from schemas.errors import Reason, UsageError
from sealing.context import Mesh
from sealing.keys import SigningKey
from sealing.own_keys import OwnKeys
from transport import Credentials


class MeshView(Protocol):
    """A mesh that is up: brought up by this process, or by others."""

    @property
    def state(self) -> State: ...

    @property
    def url(self) -> str: ...

    @property
    def anchor(self) -> bytes: ...

    @property
    def mesh(self) -> Mesh: ...

    @property
    def workloads(self) -> Mapping[str, str]:
        """Each agent's machine with its workload."""
        ...

    @property
    def refused(self) -> Mapping[str, str]:
        """The agents that were refused for good, and why."""
        ...

    @property
    def recording(self) -> Path | None:
        """Where a tap records; None without one."""
        ...

    @property
    def store(self) -> Path | None:
        """The folder in which the broker keeps its streams; None where it is not at hand."""
        ...

    @property
    def shared(self) -> bool:
        """Whether others may look at it too, and plant what they search for."""
        ...

    @property
    def enclaves(self) -> int:
        """How many enclaves can be asked to search for their own keys."""
        ...

    def admitted(self) -> list[Admitted]: ...

    def credentials(self, party: str) -> Credentials | None: ...

    async def recorded(self) -> tuple[int, int]:
        """Count the recording: messages to the broker, and bytes both ways."""
        ...

    async def broker_messages(self) -> int | None:
        """Return the broker's own count of messages that came in; None where it cannot be asked."""
        ...

    async def own_keys(self) -> dict[str, OwnKeys]:
        """Have each of `enclaves` search for its own keys."""
        ...


def client_key(state: State, name: str) -> SigningKey:
    """Return the key of one of a lab's clients."""
    seeds = state.load_keys("clients")
    if name not in seeds:
        raise UsageError(f"this lab has no client {name!r}: there are {', '.join(sorted(seeds)) or 'none'}")
    return SigningKey(seeds[name])


def require_every_workload(mesh: MeshView) -> None:
    """Raise `RefusedError` if a workload has no admitted agent: what it serves would wait for ever."""
    serving = {agent.workload for agent in mesh.admitted()}
    for name, reason in sorted(mesh.refused.items()):
        if mesh.workloads[name] not in serving:
            raise RefusedError(
                Reason.UNAVAILABLE,
                f"no {mesh.workloads[name]} was admitted ({reason}); if its code was changed on purpose, "
                f"run: {mesh.state.command('resign')}",
            )
