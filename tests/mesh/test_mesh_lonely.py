"""An agent whose broker or coordinator is not there: it looks on without end, and ends only when told."""

import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from agent_runtime import __main__ as program
from agent_runtime import joining
from agent_runtime.errors import EXIT_REFUSED
from lab.machine import Machine
from lab.mesh import RunningMesh
from schemas.errors import PeerError, Reason, UsageError
from tests.mesh.world import eventually
from transport import NotPermittedError

pytestmark = pytest.mark.anyio
LOOKING, ADMITTED = "looking for the broker", "admitted as"


@contextmanager
def nobody() -> Iterator[int]:
    """Hold a port of loopback at which nobody listens, and which nobody else can take."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@asynccontextmanager
async def lonely(mesh: RunningMesh, log: Path, port: int) -> AsyncIterator[tuple[Machine, list[int]]]:
    """Run an agent that looks for its broker at `port`; yield its machine and how it has ended."""
    url = f"nats://127.0.0.1:{port}"
    machine = mesh.machines["worker-1"].altered("lonely", log, nats_url=url)
    ended: list[int] = []

    async def run(*, task_status: anyio.abc.TaskStatus[int] = anyio.TASK_STATUS_IGNORED) -> None:
        ended.append(await machine.run(task_status=task_status))

    async with anyio.create_task_group() as tasks:
        await tasks.start(run)
        await eventually(lambda: LOOKING in log.read_text(), within=120)
        yield machine, ended
        tasks.cancel_scope.cancel()


async def test_an_agent_takes_part_when_its_broker_comes_and_is_not_ended_by_a_question(
    mesh: RunningMesh, tmp_path: Path
) -> None:
    assert mesh.tap is not None
    log = tmp_path / "log"
    with nobody() as port:
        async with lonely(mesh, log, port) as (machine, ended):
            assert machine._process is not None
            machine._process.send_signal(signal.SIGUSR1)  # whose default action is to end a process
            await mesh.tap.listen("lonely", port=port)
            await eventually(lambda: ADMITTED in log.read_text(), within=120)
            assert ended == []


async def test_an_agent_that_is_told_to_end_before_it_found_a_broker_ends_in_order(
    mesh: RunningMesh, tmp_path: Path
) -> None:
    with nobody() as port:
        async with lonely(mesh, tmp_path / "log", port) as (machine, ended):
            machine.terminate()
            await eventually(lambda: ended == [0], within=120)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (joining.AdmissionRefusedError(Reason.MEASUREMENT_NOT_IN_POLICY), EXIT_REFUSED),
        (PeerError(Reason.UNAVAILABLE, "the device is gone"), 1),
        (UsageError("no such file"), 2),
        (NotPermittedError("the account"), 3),
    ],
)
def test_only_the_coordinators_final_no_tells_a_supervisor_to_let_it_be(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise ExceptionGroup("of a task", [error])

    monkeypatch.setattr(program, "_run", fail)
    assert program.main(["agent.py"]) == code


def test_the_code_of_a_final_no_is_nothing_that_ends_by_itself_has() -> None:
    assert EXIT_REFUSED == 77
