"""Whatever process dies, or hangs: what was acknowledged is done, once in effect, and nobody has to help."""

import itertools
import os
import signal
from collections.abc import Awaitable, Callable

import anyio
import pytest

from agent_runtime import Node, RefusedError
from agent_runtime.agent import Task
from lab.keeping import BROKER
from lab.mesh import RunningMesh
from lab.plan import COORDINATOR
from schemas.errors import Reason
from tests.mesh.world import client_identity, eventually, is_alive, joined

pytestmark = pytest.mark.anyio

Held = Callable[[str], Awaitable[list[Task]]]
DONE_WITHIN = 120.0


async def counted(node: Node, prefix: str) -> dict[str, list[int]]:
    """Return (effects, arrivals) by name."""
    return await node.context().call("read", prefix, dict[str, list[int]])


async def hold(node: Node, names: list[str]) -> list[Task]:
    """Submit a task for each name, and return when each waits in some worker."""
    tasks = [await node.context().submit("hold", name) for name in names]
    with anyio.fail_after(90):
        while set(await counted(node, "held")) < set(names):  # noqa: ASYNC110 - only the counter knows
            await anyio.sleep(0.05)
    return tasks


async def release(node: Node, names: list[str], tasks: list[Task]) -> None:
    """Let the tasks end, and see that they do."""
    for name in names:
        await node.context().call("release", name, type(None))
    with anyio.fail_after(DONE_WITHIN):
        for task in tasks:
            assert await task.result(int) >= 1


async def test_invariant_10_nothing_is_lost_when_a_worker_is_killed(
    mesh: RunningMesh,
) -> None:
    (victim,) = [agent.instance for agent in mesh.admitted() if agent.name == "worker-1"]
    tallies = [f"tally {number}" for number in range(60)]
    async with joined(mesh, client_identity(mesh)) as desk:
        # The scheduler draws where a task goes: until one waits in the worker that is to die.
        for number in itertools.count():
            names = [f"held by a worker {number}"]
            held = await hold(desk, names)
            if victim in await desk.context().call("callers", names[0], list[str]):
                break
            await release(desk, names, held)
        counting = [await desk.context().submit("tally", name) for name in tallies]
        await mesh.rack.kill("worker-1")
        with anyio.fail_after(DONE_WITHIN):
            assert [await task.result(str) for task in counting] == tallies
        # Only another one can let it go: before its release it came there too.
        with anyio.fail_after(DONE_WITHIN):
            while (await counted(desk, names[0]))[names[0]][1] < 2:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        await release(desk, names, held)
        # Once in effect, although one was begun twice.
        assert [effects for effects, _ in (await counted(desk, "tally")).values()] == [1] * len(tallies)


@pytest.mark.slow
async def test_invariant_10_nothing_is_lost_when_a_scheduler_is_killed(mesh: RunningMesh) -> None:
    first = mesh.scheduler_pid
    async with joined(mesh, client_identity(mesh)) as desk:
        before = [await desk.context().submit("tally", f"scheduled {number}") for number in range(30)]
        os.kill(first, signal.SIGKILL)
        after = [await desk.context().submit("tally", f"scheduled later {number}") for number in range(30)]
        with anyio.fail_after(DONE_WITHIN):
            for task in [*before, *after]:
                await task.result(str)
        assert [effects for effects, _ in (await counted(desk, "scheduled")).values()] == [1] * 60
    assert mesh.scheduler_pid != first
    assert not is_alive(first)


async def test_invariant_10_nothing_is_lost_when_a_broker_is_killed(mesh: RunningMesh) -> None:
    assert mesh.broker is not None
    url, pid = mesh.broker.url, mesh.broker.pid
    async with joined(mesh, client_identity(mesh)) as desk:
        before = [await desk.context().submit("tally", f"broker {number}") for number in range(30)]
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: mesh.pids().get(BROKER, pid) != pid, within=120)
        after = [await desk.context().submit("tally", f"broker later {number}") for number in range(30)]
        with anyio.fail_after(DONE_WITHIN):
            for task in [*before, *after]:
                await task.result(str)
        assert [effects for effects, _ in (await counted(desk, "broker")).values()] == [1] * 60
    assert mesh.broker.url == url
    assert await mesh.broker_messages() is None  # it has forgotten what it had counted


async def test_invariant_10_nothing_is_lost_when_a_coordinator_is_killed(mesh: RunningMesh) -> None:
    names = [f"held by a term {number}" for number in range(3)]
    async with joined(mesh, client_identity(mesh)) as desk:
        term = desk.membership.term
        held = await hold(desk, names)
        instances = {agent.name: agent.instance for agent in mesh.admitted()}

        await mesh.rack.kill(COORDINATOR)
        await eventually(lambda: desk.membership.term == term + 1 and desk.membership.live(), within=120)

        # The same processes, admitted again; what was under way is sealed again and ends.
        await release(desk, names, held)
        await eventually(lambda: {agent.name: agent.instance for agent in mesh.admitted()} == instances)
        task = await desk.context().submit("fan", ["by another term"])
        with anyio.fail_after(DONE_WITHIN):
            assert await task.result(list[str]) == ["by another term"]


async def test_invariant_05_nobody_takes_or_sends_while_a_coordinator_hangs(mesh: RunningMesh) -> None:
    pid = mesh.rack.pids()[COORDINATOR]
    async with joined(mesh, client_identity(mesh)) as desk:
        held = await hold(desk, ["held in the dark"])
        os.kill(pid, signal.SIGSTOP)
        try:
            await eventually(lambda: not desk.membership.live())
            with pytest.raises(RefusedError) as refusal:
                await desk.context().submit("echo", "in the dark")
            assert refusal.value.reason is Reason.NOT_LIVE
            with pytest.raises(RefusedError, match=Reason.NOT_LIVE.value):
                await desk.context().call("release", "held in the dark", type(None))
            assert not held[0]._ended.is_set()  # type: ignore[attr-defined]
        finally:
            os.kill(pid, signal.SIGCONT)
        with anyio.fail_after(DONE_WITHIN):
            await desk.wait_live()
        await release(desk, ["held in the dark"], held)
