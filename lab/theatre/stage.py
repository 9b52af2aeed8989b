"""What an act has at hand: the mesh's machines, wire and files, honest work, and the agents' own words."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from lab.image import Spec
from lab.machine import Simulator
from lab.mesh import RunningMesh
from lab.tap import Tap
from schemas.errors import Reason

LOOK_AGAIN = 0.05
PATIENCE = 30.0  # seconds for a mesh on a busy machine to say what it did

_REFUSED = re.compile(r" refused at (\S.*): (\S+) \((\d+) so far\)$")
_NOT_ADMITTED = re.compile(r" sealbus\.agent (?:not admitted: )?([a-z]+(?:-[a-z]+)+)(?::|$)")
_ADMITTED = " admitted as "

Work = Callable[[], Awaitable[str]]
"""Do honest work through the mesh; return what was wrong with its results, or nothing."""


@dataclass
class Stage:
    """A mesh behind its tap, with somebody's honest work to disturb."""

    mesh: RunningMesh
    tap: Tap
    work: Work
    folder: Path  # for what an act makes
    serial: int = 0

    def log_of(self, name: str) -> str:
        """Return what a machine's child has printed."""
        try:
            return (self.mesh.state.logs / f"{name}.log").read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def refusals(self, name: str, reason: Reason, place: str = "") -> int:
        """Return how often an agent has said so far that it refused something for `reason`, at `place`."""
        latest: dict[str, int] = {}
        for line in self.log_of(name).splitlines():
            found = _REFUSED.search(line)
            if found is not None and found[2] == reason.value and place in ("", found[1]):
                # A process that was started again counts from the beginning.
                latest[found[1]] = int(found[3])
        return sum(latest.values())

    def admissions(self, name: str) -> int:
        """Return how often a machine's child was admitted."""
        return self.log_of(name).count(_ADMITTED)

    async def until(self, holds: Callable[[], bool], within: float = PATIENCE) -> bool:
        """Tell whether something comes about in time: files tell nobody when they grow."""
        with anyio.move_on_after(within):
            while not holds():  # noqa: ASYNC110
                await anyio.sleep(LOOK_AGAIN)
            return True
        return False

    @asynccontextmanager
    async def machine(
        self,
        like: str,
        *,
        spec: Spec | None = None,
        simulator: Simulator | None = None,
        debug: bool = False,
    ) -> AsyncIterator[str]:
        """Run one machine more, like an honest one but for what is given; yield its name."""
        self.serial += 1
        name = f"attacker-{self.serial}"
        output = self.mesh.state.logs / f"{name}.log"
        output.unlink(missing_ok=True)
        url = await self.tap.listen(name)
        machine = self.mesh.machines[like].altered(
            name, output, spec=spec, simulator=simulator, debug=debug, nats_url=url
        )
        async with anyio.create_task_group() as tasks:
            await tasks.start(machine.run)
            try:
                yield name
            finally:
                tasks.cancel_scope.cancel()

    async def judgement(self, name: str) -> str:
        """Return why a machine's child was not admitted; empty if it was, or nothing was said in time."""
        await self.until(lambda: self.admissions(name) > 0 or self._refusal(name) != "")
        return "" if self.admissions(name) else self._refusal(name)

    def _refusal(self, name: str) -> str:
        for line in self.log_of(name).splitlines():
            found = _NOT_ADMITTED.search(line)
            # Who was not heard is asked again; that is no judgement.
            if found is not None and found[1] in set(Reason):
                return found[1]
        return ""
