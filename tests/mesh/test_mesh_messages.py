"""One-way messages, and what ends on the other side when a caller has enough or a deadline passes."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import anyio
import pytest

from agent_runtime import Agent, CallFailedError, Context, Node, RefusedError
from agent_runtime.gate import Way
from agent_runtime.listings import Listing
from lab.mesh import RunningMesh
from schemas.errors import Reason, UsageError
from schemas.granted import Granted
from tests.mesh.world import client_identity, enclave_identity, forge, joined

pytestmark = pytest.mark.anyio


@dataclass
class Pair:
    """A client and an enclave, both within this process, over a real broker and a real coordinator."""

    desk: Node
    counter: Node


@asynccontextmanager
async def pair(mesh: RunningMesh, agent: Agent) -> AsyncIterator[Pair]:
    """Bring up a client that knows of no counter but the one that runs `agent` here."""
    async with (
        joined(mesh, client_identity(mesh)) as desk,
        joined(mesh, enclave_identity(mesh, "counter", "counter"), agent) as counter,
    ):
        held = counter.membership.held()
        listing = Listing(((held.admission, held.admission_bytes),), 2**62, frozenset())
        desk.calls.listings._listings["counter"] = listing
        with anyio.fail_after(90):
            yield Pair(desk, counter)


async def test_what_was_sent_last_arrives_although_its_sender_leaves_at_once(mesh: RunningMesh) -> None:
    agent, heard, all_there = Agent("counter"), list[int](), anyio.Event()

    @agent.message("note")
    async def note(number: int, context: Context) -> None:
        heard.append(number)
        if number == 9:
            all_there.set()

    async with joined(mesh, enclave_identity(mesh, "counter", "counter"), agent) as counter:
        held = counter.membership.held()
        async with joined(mesh, client_identity(mesh)) as desk:
            listing = Listing(((held.admission, held.admission_bytes),), 2**62, frozenset())
            desk.calls.listings._listings["counter"] = listing
            for number in range(10):
                await desk.context().send("note", number)
        with anyio.fail_after(90):
            await all_there.wait()
    assert heard == list(range(10))


@pytest.mark.parametrize(
    ("within", "says"),
    [
        (float("inf"), "3600 s"),
        (float("nan"), "0 or more"),
        (3601.0, "3600 s"),
        (-1, "seconds from now, 0 or more"),
        (float("-inf"), "seconds from now, 0 or more"),
    ],
)
async def test_what_may_not_last_so_long_or_is_over_is_refused_at_once(
    mesh: RunningMesh, within: float, says: str
) -> None:
    async with joined(mesh, client_identity(mesh)) as desk:
        with pytest.raises(UsageError, match=says):
            await desk.context().send("note", 1, within=within)
        with pytest.raises(UsageError, match=says):
            await desk.context().call("read", "x", int, within=within)


@pytest.mark.parametrize("lifetime", [0, -1, float("inf"), float("nan")])
async def test_a_task_has_a_lifetime(mesh: RunningMesh, lifetime: float) -> None:
    async with joined(mesh, client_identity(mesh)) as desk:
        with pytest.raises(UsageError, match="some seconds"):
            await desk.context().submit("work", "x", lifetime=lifetime)


async def test_messages_arrive_once_in_order_and_nobody_answers(mesh: RunningMesh) -> None:
    agent, heard, all_there = Agent("counter"), list[tuple[int, str, bytes | None]](), anyio.Event()

    @agent.message("note")
    async def note(number: int, context: Context) -> None:
        heard.append((number, context.caller_role, context.task_id))
        if number == 999:
            all_there.set()

    async with pair(mesh, agent) as parties:
        for number in range(1000):
            await parties.desk.context().send("note", number)
        await all_there.wait()
        assert heard == [(number, "desk", None) for number in range(1000)]
        (link,) = parties.desk.calls._peering._links.values()
        # Many share a frame, and none of them comes back.
        assert link.session._counter < 100
        assert parties.counter.calls._peering._links[link.session._peer_id].session._counter == 0


async def test_a_grant_that_looks_at_the_clock_is_asked_for_each_message(
    mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, all_there, asked = Agent("counter"), anyio.Event(), list[str]()

    @agent.message("note")
    async def note(number: int, context: Context) -> None:
        if number == 99:
            all_there.set()

    async with pair(mesh, agent) as parties:
        trust, may_say = parties.desk.membership.held(), parties.desk._gate.may_say
        timed = {
            right: Granted(granted.audience, granted.constraints, expires=2**40)
            for right, granted in trust.grants.items()
        }
        parties.desk.membership.trust = replace(trust, grants=timed)

        def ask(action: str, what: str, value: object) -> Way:
            asked.append(action)
            return may_say(action, what, value)

        monkeypatch.setattr(parties.desk._gate, "may_say", ask)
        for number in range(100):
            await parties.desk.context().send("note", number)
        await all_there.wait()
    assert asked == ["send"] * 100


async def test_a_message_that_is_not_granted_does_not_leave(mesh: RunningMesh) -> None:
    guests = client_identity(mesh, "guest")
    async with joined(mesh, client_identity(mesh)) as desk, joined(mesh, guests) as guest:
        with pytest.raises(RefusedError, match="no-grant"):
            await guest.context().send("note", 1)
        with pytest.raises(RefusedError, match="no-grant"):
            await desk.context().send("small", 1)
        with pytest.raises(RefusedError, match="constraint-violated"):
            await desk.context().send("note", bytes(100_001))


async def test_invariant_04_a_message_without_a_grant_is_refused_at_the_gate(mesh: RunningMesh) -> None:
    agent, heard, last = Agent("counter"), list[str](), anyio.Event()

    @agent.message("small")
    async def small(text: str, context: Context) -> None:
        heard.append(text)

    @agent.message("note")
    async def note(text: str, context: Context) -> None:
        last.set()

    async with pair(mesh, agent) as parties:
        desk, counts = parties.desk, parties.counter.refusals.counts
        desk.membership.trust = forge(desk.membership.held(), "send", "small", "counter")
        await desk.context().send("small", "forged")
        await desk.context().send("note", "last")
        await last.wait()
        assert heard == []
        assert counts["message", Reason.NO_GRANT.value] == 1


async def test_a_message_that_nobody_takes_is_an_error_in_the_end(mesh: RunningMesh) -> None:
    async with joined(mesh, client_identity(mesh)) as desk:
        desk.calls.listings._listings["counter"] = Listing((), 2**62, frozenset())
        with pytest.raises(CallFailedError) as failure:
            await desk.context().send("note", "x", within=0)
    assert failure.value.reason is Reason.UNAVAILABLE


async def test_a_bad_message_is_counted_and_the_next_one_heeded(mesh: RunningMesh) -> None:
    agent, last = Agent("counter"), anyio.Event()

    @agent.message("note")
    async def note(number: int, context: Context) -> None:
        if number < 0:
            raise ZeroDivisionError
        last.set()

    async with pair(mesh, agent) as parties:
        await parties.desk.context().send("note", "no number")
        await parties.desk.context().send("note", -1)
        await parties.desk.context().send("note", 1)
        await last.wait()
        counts = parties.counter.refusals.counts
        assert counts["handler note", Reason.ARGUMENTS_INVALID.value] == 1
        (bug,) = [place for place, kind in counts if kind == "ZeroDivisionError"]
        assert re.fullmatch(r"handler note, test_mesh_messages\.py:\d+", bug)


async def test_a_handler_whose_time_is_over_before_it_waits_or_that_is_cancelled_ends_nothing_else(
    mesh: RunningMesh,
) -> None:
    agent, begun, heard, last = Agent("counter"), anyio.Event(), list[str](), anyio.Event()
    kept: list[asyncio.Task[object]] = []

    async def none_left() -> str:
        try:
            async with asyncio.timeout(0):
                await anyio.sleep_forever()
        except TimeoutError:
            return "timed out"
        return "went on"

    @agent.tool("read")
    async def read(prefix: str, context: Context) -> str:
        if prefix == "exit":
            raise SystemExit(3)
        if prefix == "stop":
            kept[0].cancel()
        if prefix != "stay":
            return await none_left()
        task = asyncio.current_task()
        assert task is not None
        kept.append(task)
        begun.set()
        await anyio.sleep_forever()
        return "went on"

    @agent.message("note")
    async def note(text: str, context: Context) -> None:
        heard.append(await none_left())
        if text == "last":
            last.set()

    async with pair(mesh, agent) as parties:
        context, stopped = parties.desk.context(), list[str]()

        async def stay() -> None:
            with pytest.raises(CallFailedError) as failure:
                await context.call("read", "stay", str, within=60)
            stopped.append(failure.value.reason.value)

        assert await context.call("read", "x", str) == "timed out"
        await context.send("note", "first")
        await context.send("note", "last")
        await last.wait()
        assert heard == ["timed out"] * 2
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stay)
            await begun.wait()
            assert await context.call("read", "stop", str) == "timed out"
        assert stopped == [Reason.HANDLER_FAILED.value]
        with pytest.raises(CallFailedError, match="SystemExit"):
            await context.call("read", "exit", str)
        assert await context.call("read", "x", str) == "timed out"


async def test_a_caller_who_gives_up_ends_the_handler(mesh: RunningMesh) -> None:
    agent, begun, ended = Agent("counter"), anyio.Event(), anyio.Event()

    @agent.tool("read")
    async def read(prefix: str, context: Context) -> str:
        if prefix == "at once":
            return prefix
        try:
            with anyio.fail_after(80):
                begun.set()
                await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            ended.set()
            raise
        return prefix

    async with pair(mesh, agent) as parties:
        context = parties.desk.context()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(context.call, "read", "for ever", str)
            await begun.wait()
            tasks.cancel_scope.cancel()
        await ended.wait()
        # The worker that ran it serves on.
        assert await context.call("read", "at once", str) == "at once"
        assert parties.counter.calls.serving._running == {}


async def test_an_agent_that_leaves_ends_what_its_handlers_wait_for_at_peers(mesh: RunningMesh) -> None:
    asked, asking = Agent("counter"), Agent("counter")
    begun, ended = anyio.Event(), anyio.Event()

    @asked.tool("stay")
    async def stay(prefix: str, context: Context) -> str:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        return prefix

    @asking.tool("read")
    async def read(prefix: str, context: Context) -> str:
        return await context.call("stay", prefix, str, within=3000)

    identity = enclave_identity(mesh, "counter", "counter")

    def listing(node: Node) -> Listing:
        held = node.membership.held()
        return Listing(((held.admission, held.admission_bytes),), 2**62, frozenset())

    async def ask() -> None:
        # Who asks the agent that leaves outlives it, and then asks one that knows of another tool.
        with suppress(CallFailedError, RefusedError):
            await desk.context().call("read", "x", str, within=3000)

    async with pair(mesh, asked) as parties, anyio.create_task_group() as tasks:
        desk, counter = parties.desk, parties.counter
        async with joined(mesh, identity, asking) as leaving:
            for node in (counter, leaving):
                node.membership.trust = forge(node.membership.held(), "call", "stay", "counter")
            desk.calls.listings._listings["counter"] = listing(leaving)
            leaving.calls.listings._listings["counter"] = listing(counter)
            tasks.start_soon(ask)
            await begun.wait()
        await ended.wait()
        tasks.cancel_scope.cancel()


async def test_a_deadline_that_passes_ends_the_handler_and_nothing_is_answered(mesh: RunningMesh) -> None:
    agent, ended = Agent("counter"), anyio.Event()

    @agent.tool("read")
    async def read(prefix: str, context: Context) -> str:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            # One that does not care: its answer is not sent all the same.
            ended.set()
        return prefix

    async with pair(mesh, agent) as parties:
        with pytest.raises(CallFailedError) as failure:
            await parties.desk.context().call("read", "for ever", str, within=0.5)
        assert failure.value.reason is Reason.DEADLINE_PASSED
        await ended.wait()
        counter = parties.counter
        assert counter.refusals.counts["call", Reason.DEADLINE_PASSED.value] == 1
        assert [link.session._counter for link in counter.calls._peering._links.values()] == [0]


async def test_plain_functions_that_take_their_time_keep_an_agent_from_nothing(mesh: RunningMesh) -> None:
    many = 45  # more than anyio lets run in threads for whoever names no limiter
    agent, free = Agent("counter"), threading.Event()
    begun = threading.Semaphore(0)

    @agent.tool("callers")
    def callers(number: int, context: Context) -> int:
        begun.release()
        free.wait(60)
        return number

    async with pair(mesh, agent) as both, asyncio.TaskGroup() as tasks:
        try:
            calls = [
                tasks.create_task(both.desk.context().call("callers", number, int, within=60.0))
                for number in range(many)
            ]
            for _ in range(many):
                assert await asyncio.to_thread(begun.acquire, timeout=30)
            # Both appraise a coordinator, in a thread.
            await both.counter.coordination.renew()
            await both.counter.coordination.join()
        finally:
            free.set()
        assert [await call for call in calls] == list(range(many))
