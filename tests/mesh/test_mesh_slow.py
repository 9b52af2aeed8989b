"""A tool that takes longer than a caller waits before it asks again, where more than one instance has it."""

import itertools
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus

from agent_runtime import Agent, Context, Node, calls
from agent_runtime.errors import CallFailedError, RefusedError
from agent_runtime.listings import Listing
from lab.mesh import RunningMesh
from schemas.errors import Reason
from tests.mesh.world import client_identity, enclave_identity, eventually, joined

pytestmark = pytest.mark.anyio

ASKED_AGAIN = 3


def known(desk: Node, *counters: Node) -> None:
    """Have a client know of these counters alone, for as long as they live."""
    held = [each.membership.held() for each in counters]
    listing = Listing(tuple((each.admission, each.admission_bytes) for each in held), 2**62, frozenset())

    async def of(_role: str) -> Listing:
        return listing

    setattr(desk.calls.listings, "of", of)  # noqa: B010


@dataclass
class Life:
    """A node that leaves when it is told to, whoever came first."""

    node: Node
    leave: anyio.Event

    @classmethod
    async def begin(cls, tasks: TaskGroup, mesh: RunningMesh, agent: Agent) -> "Life":
        async def live(*, task_status: TaskStatus["Life"]) -> None:
            async with joined(mesh, enclave_identity(mesh, "counter", "counter"), agent) as node:
                life = cls(node, anyio.Event())
                task_status.started(life)
                await life.leave.wait()

        made: Life = await tasks.start(live)
        return made


async def test_it_runs_once_on_one_of_them(mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "ATTEMPT_DEADLINE", 0.3)
    runs, release = Counter[int](), anyio.Event()

    def counter(number: int) -> Agent:
        agent = Agent("counter")

        @agent.tool("read")
        async def read(prefix: str, context: Context) -> int:
            runs[number] += 1
            await release.wait()
            return number

        return agent

    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(joined(mesh, client_identity(mesh)))
        identity = enclave_identity(mesh, "counter", "counter")
        counters = [
            await stack.enter_async_context(joined(mesh, identity, counter(number))) for number in range(3)
        ]
        known(desk, *counters)
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await desk.context().call("read", "x", int, within=60))

        def asked_again() -> int:
            return sum(each.refusals.counts["call", "under-way"] for each in counters)

        with anyio.fail_after(90):
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(ask)
                await eventually(lambda: asked_again() >= 4 * ASKED_AGAIN)
                release.set()
        assert sum(runs.values()) == len(answers) == 4
        assert Counter(answers) == runs


async def test_when_one_of_them_is_gone_another_takes_the_call(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ATTEMPT_DEADLINE", 0.5)
    numbers, begun = itertools.count(), anyio.Event()
    ran: list[int] = []

    def counter() -> Agent:
        agent, number = Agent("counter"), next(numbers)

        @agent.tool("read")
        async def read(prefix: str, context: Context) -> int:
            ran.append(number)
            begun.set()
            if len(ran) == 1:
                await anyio.sleep_forever()
            return number

        return agent

    async with joined(mesh, client_identity(mesh)) as desk, anyio.create_task_group() as tasks:
        lives = [await Life.begin(tasks, mesh, counter()) for _ in range(2)]
        known(desk, *(each.node for each in lives))
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await desk.context().call("read", "x", int, within=60))

        with anyio.fail_after(90):
            async with anyio.create_task_group() as asking:
                asking.start_soon(ask)
                await begun.wait()
                lives[ran[0]].leave.set()
        assert answers == [1 - ran[0]]
        assert ran == [ran[0], 1 - ran[0]]
        tasks.cancel_scope.cancel()


async def test_what_is_no_longer_granted_is_not_sent_again_and_ends_at_the_peer(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ATTEMPT_DEADLINE", 0.3)
    agent, begun, ended = Agent("counter"), anyio.Event(), anyio.Event()

    @agent.tool("read")
    async def read(prefix: str, context: Context) -> int:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        return 0

    refusals: list[RefusedError] = []
    async with (
        joined(mesh, client_identity(mesh)) as desk,
        joined(mesh, enclave_identity(mesh, "counter", "counter"), agent) as counter,
    ):
        known(desk, counter)

        async def ask() -> None:
            with pytest.raises(RefusedError) as refusal:
                await desk.context().call("read", "x", int, within=600)
            refusals.append(refusal.value)

        with anyio.fail_after(90):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await begun.wait()
                desk.membership.trust = replace(desk.membership.held(), grants={})
            await ended.wait()
    assert [each.reason for each in refusals] == [Reason.NO_GRANT]


async def test_a_deadline_that_passes_is_told_when_it_passes(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "LOOK_AGAIN", 60.0)
    agent = Agent("counter")

    @agent.tool("read")
    async def read(prefix: str, context: Context) -> int:
        await anyio.sleep_forever()
        return 0

    async with (
        joined(mesh, client_identity(mesh)) as desk,
        joined(mesh, enclave_identity(mesh, "counter", "counter"), agent) as counter,
    ):
        known(desk, counter)
        with anyio.fail_after(30), pytest.raises(CallFailedError) as failure:
            await desk.context().call("read", "x", int, within=0.3)
        assert failure.value.reason is Reason.DEADLINE_PASSED


async def test_who_waits_when_its_client_leaves_is_told_at_once(mesh: RunningMesh) -> None:
    agent, begun = Agent("counter"), anyio.Event()

    @agent.tool("read")
    async def read(prefix: str, context: Context) -> int:
        begun.set()
        await anyio.sleep_forever()
        return 0

    failures: list[CallFailedError] = []

    async with (
        joined(mesh, enclave_identity(mesh, "counter", "counter"), agent) as counter,
        anyio.create_task_group() as tasks,
    ):

        async def ask(desk: Node) -> None:
            with pytest.raises(CallFailedError) as failure:
                await desk.context().call("read", "x", int, within=600)
            failures.append(failure.value)

        with anyio.fail_after(90):
            async with joined(mesh, client_identity(mesh)) as desk:
                known(desk, counter)
                tasks.start_soon(ask, desk)
                await begun.wait()
            await eventually(lambda: failures != [])
    assert [each.reason for each in failures] == [Reason.UNAVAILABLE]
