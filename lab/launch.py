"""Which images the lab launches, and the rack that holds many machines in one process."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import TaskGroup, TaskStatus

from lab.image import Spec
from lab.machine import Machine
from schemas.errors import UsageError

AGENT_FILE = "agent.py"  # as the child sees it, in its working directory

ENCLAVE_PACKAGES = ("schemas", "sealing", "attestation", "transport")
ENCLAVE_DISTRIBUTIONS = (
    "anyio",
    "cbor2",
    "cffi",
    "cryptography",
    "idna",
    "msgspec",
    "nats-py",
    "nkeys",
    "pynacl",
    "sniffio",
    "typing-extensions",
)
REDACTION_DISTRIBUTIONS = ("phonenumbers", "pyahocorasick", "python-stdnum")

STOP_DEADLINE = 3.0  # seconds from asking a child to end to killing it


def coordinator_spec(anchor: bytes, *arguments: str) -> Spec:
    """Say what a coordinator's machine launches."""
    return Spec(
        module="coordinator",
        packages=(*ENCLAVE_PACKAGES, "coordinator"),
        distributions=ENCLAVE_DISTRIBUTIONS,
        anchor=anchor,
        arguments=arguments,
    )


def agent_spec(
    anchor: bytes,
    agent: Path,
    *arguments: str,
    packages: tuple[str, ...] = (),
    distributions: tuple[str, ...] = (),
) -> Spec:
    """Say what the machine of an agent launches: `agent_runtime agent.py ARGUMENTS`."""
    return Spec(
        module="agent_runtime",
        packages=(*ENCLAVE_PACKAGES, "agent_runtime", *packages),
        distributions=(*ENCLAVE_DISTRIBUTIONS, *distributions),
        anchor=anchor,
        agent=agent,
        arguments=(AGENT_FILE, *arguments),
    )


@dataclass(frozen=True)
class Exited:
    """A machine's child has ended: with this status, or by the signal of this negative number."""

    name: str
    status: int


class Rack:
    """Machines by name, in one process. Made by `open_rack`."""

    def __init__(self, tasks: TaskGroup, report: Callable[[Exited], None]) -> None:
        self._tasks = tasks
        self._report = report
        self._running: dict[str, tuple[Machine, anyio.Event]] = {}

    async def start(self, machine: Machine) -> int:
        """Measure and launch a machine's image; return the child's pid. What ended can be started again."""
        if machine.name in self._running:
            raise UsageError(f"machine {machine.name} is running already; stop it first")
        pid: int = await self._tasks.start(self._run, machine)
        return pid

    def pids(self) -> dict[str, int]:
        """List the children that run now."""
        pids = {name: machine.pid for name, (machine, _) in self._running.items()}
        return {name: pid for name, pid in pids.items() if pid is not None}

    async def kill(self, name: str) -> None:
        """Kill a machine's child at once, as a power cut would, and wait until it is gone."""
        if name in self._running:
            machine, ended = self._running[name]
            machine.kill()
            await ended.wait()

    async def stop(self, name: str) -> None:
        """Ask a machine's child to end, kill it if it does not, and wait until it is gone."""
        if name in self._running:
            machine, ended = self._running[name]
            machine.terminate()
            with anyio.move_on_after(STOP_DEADLINE):
                await ended.wait()
            await self.kill(name)

    async def stop_all(self) -> None:
        """Stop every machine at the same time."""
        async with anyio.create_task_group() as tasks:
            for name in list(self._running):
                tasks.start_soon(self.stop, name)

    async def _run(self, machine: Machine, *, task_status: TaskStatus[int]) -> None:
        ended = anyio.Event()
        self._running[machine.name] = (machine, ended)
        try:
            status = await machine.run(task_status=task_status)
        finally:
            del self._running[machine.name]
            ended.set()
        self._report(Exited(machine.name, status))


@asynccontextmanager
async def open_rack(report: Callable[[Exited], None]) -> AsyncIterator[Rack]:
    """Open a rack, which tells `report` of every child that ended; leaving it kills those that still run."""
    async with anyio.create_task_group() as tasks:
        yield Rack(tasks, report)
        tasks.cancel_scope.cancel()
