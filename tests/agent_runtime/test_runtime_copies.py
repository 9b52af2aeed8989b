"""Copies of a task come in any order; a handler is told to end when the last of them expires."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import pytest

from agent_runtime import Agent, Context
from agent_runtime.working import Working
from schemas import codec
from schemas.errors import Reason
from schemas.messages import ResultBody
from schemas.scheduling import BACK, DONE, TAKEN, Assign, TaskHints, TaskMessage
from sealing.results import open_result
from tests.agent_runtime.test_runtime_swap import TASKS, Slow, Wire, assign, reason_of, states, working
from tests.agent_runtime.world import Member, client, enclave, mesh_up
from tests.coordinator.world import World
from transport import Delivery

pytestmark = pytest.mark.anyio

OK = b"\xa2ok"
SOON, LATER = 100, 30_000  # milliseconds
LATE = b"l" * 32  # a reply key


@dataclass
class Told:
    """A handler that does something of its own when it is told to end, and how often it was."""

    begun: anyio.Event = field(default_factory=anyio.Event)
    told: anyio.Event = field(default_factory=anyio.Event)
    end: anyio.Event = field(default_factory=anyio.Event)
    runs: int = 0
    times: int = 0
    tidied: bool = False

    async def stays(self, _text: str, _context: Context) -> str:
        """Go on in spite of it."""
        self.runs += 1
        self.begun.set()
        while not self.end.is_set():
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                self.times += 1
                self.told.set()
        return "late"

    async def tidies(self, _text: str, _context: Context) -> str:
        """Wait for something once it was told."""
        self.runs += 1
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.times += 1
            self.told.set()
            await self.end.wait()
            self.tidied = True
        raise AssertionError("it went on")

    async def fails(self, _text: str, _context: Context) -> str:
        """Fail once it was told."""
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            raise ZeroDivisionError


def planner_of(handler: Callable[[str, Context], Awaitable[str]], concurrency: int = 1) -> Slow:
    slow = Slow(Agent("unused"))
    slow.agent = Agent("planner", concurrency=concurrency)
    slow.agent.task("plan")(handler)
    return slow


async def give_up(made: Working, frame: bytes) -> None:
    message = TaskMessage(TaskHints(bytes(16), 5, 0, 8, None), frame)
    await made.assigned(Delivery("assign", codec.encode(Assign(codec.encode(message), True))))


async def wait_for(event: anyio.Event) -> None:
    with anyio.fail_after(30):
        await event.wait()


def copies_of(world: World, desk: Member, task: bytes) -> dict[str, bytes]:
    """Return a task's copy that expires soon, and the one that lives longer."""
    lives = {"1": SOON, "2": LATER}
    return {
        name: desk.task(task_id=task, payload=OK, expires=world.now + each) for name, each in lives.items()
    }


def parties() -> tuple[World, Member, Member]:
    world, _ = mesh_up()
    return world, client(world), enclave(world, "planner")


@pytest.mark.parametrize("order", ["12", "121", "21"])
async def test_a_handler_has_as_long_as_the_copy_that_lives_longest(order: str) -> None:
    world, desk, planner = parties()
    slow = Slow(Agent("planner", concurrency=1))
    copies = copies_of(world, desk, TASKS[0])
    async with working(planner, slow) as (made, wire):
        for copy in order:
            await assign(made, copies[copy])
        await wait_for(slow.begun)
        world.now += SOON
        # The timers of the copies that were here before this one was set are over when it is.
        over = anyio.Event()
        asyncio.get_running_loop().call_later(SOON / 1000, over.set)
        await wait_for(over)
        await anyio.wait_all_tasks_blocked()
        assert wire.results == []
        slow.end.set()
        await wire.until(lambda wire: DONE in states(wire, TASKS[0]))
        assert [reason_of(world, each) for each in wire.results] == [""]
    assert len(slow.callers) == 1


@pytest.mark.parametrize("order", ["12", "121", "21"])
async def test_a_task_that_waited_begins_if_any_copy_of_it_lives(order: str) -> None:
    world, desk, planner = parties()
    slow = Slow(Agent("planner", concurrency=1))
    copies = copies_of(world, desk, TASKS[1])
    async with working(planner, slow) as (made, wire):
        await assign(made, desk.task(task_id=TASKS[0], payload=OK))
        for copy in order:
            await assign(made, copies[copy])
        await wait_for(slow.begun)
        world.now += SOON
        slow.end.set()
        await wire.until(lambda wire: DONE in states(wire, TASKS[1]))
        assert [reason_of(world, each) for each in wire.results] == ["", ""]


async def test_who_waits_for_another_copy_is_answered_too() -> None:
    world, desk, planner = parties()
    slow = Slow(Agent("planner", concurrency=1))
    async with working(planner, slow) as (made, wire):
        await assign(made, desk.task(task_id=TASKS[0], payload=OK, expires=world.now + LATER))
        for _ in range(2):
            shorter = desk.task(task_id=TASKS[0], payload=OK, expires=world.now + LATER - 1, reply_key=LATE)
            await assign(made, shorter)
        slow.end.set()
        await wire.until(lambda wire: DONE in states(wire, TASKS[0]))
        last, longest = wire.results
        assert codec.decode(open_result(world.mesh, LATE, last), ResultBody).reason == ""
        assert reason_of(world, longest) == ""


async def test_a_copy_of_what_is_held_needs_no_room_and_another_task_of_its_id_does() -> None:
    world, desk, planner = parties()
    other = enclave(world, "planner")
    slow = Slow(Agent("planner", concurrency=1))
    async with working(planner, slow) as (made, wire):
        for task_id in TASKS[:2]:
            await assign(made, desk.task(task_id=task_id, payload=OK, expires=world.now + SOON))
        await wait_for(slow.begun)
        held = len(planner.seen)
        # Of another sender, that is another task.
        await assign(made, other.task(task_id=TASKS[0], payload=OK))
        await wire.until(lambda wire: BACK in states(wire, TASKS[0]))
        assert len(planner.seen) == held
        for task_id in TASKS[:2]:
            await assign(made, desk.task(task_id=task_id, payload=OK, expires=world.now + LATER))
        world.now += SOON
        slow.end.set()
        await wire.until(lambda wire: len(wire.results) == 2)
        assert [reason_of(world, each) for each in wire.results] == ["", ""]
        await wire.until(lambda wire: DONE in states(wire, TASKS[1]))
        assert BACK not in states(wire, TASKS[1])


async def test_a_copy_that_outlives_a_handler_that_was_ended_is_for_another_instance() -> None:
    world, desk, planner = parties()
    told = Told()
    told.end.set()
    async with working(planner, planner_of(told.tidies)) as (made, wire):
        later = desk.task(task_id=TASKS[0], payload=OK, expires=world.now + LATER)
        await assign(made, desk.task(task_id=TASKS[0], payload=OK, expires=world.now + SOON))
        await wait_for(told.begun)
        world.now += SOON
        await wire.until(lambda wire: DONE in states(wire, TASKS[0]))
        assert [reason_of(world, each) for each in wire.results] == [Reason.DEADLINE_PASSED]
        await assign(made, later)
        await wire.until(lambda wire: BACK in states(wire, TASKS[0]))
        assert len(wire.results) == 1
        # That no other took it either, its submitter hears.
        await give_up(made, later)
        await wire.until(lambda wire: len(wire.results) == 2)
        assert reason_of(world, wire.results[1]) == Reason.DEADLINE_PASSED
    # It never runs here again.
    assert told.runs == 1


async def test_a_copy_that_comes_while_a_handler_is_ending_is_handed_back() -> None:
    world, desk, planner = parties()
    told = Told()
    async with working(planner, planner_of(told.tidies)) as (made, wire):
        later = desk.task(task_id=TASKS[0], payload=OK, expires=world.now + LATER)
        await assign(made, desk.task(task_id=TASKS[0], payload=OK, expires=world.now + SOON))
        await wait_for(told.begun)
        world.now += SOON
        await wait_for(told.told)
        await assign(made, later)
        told.end.set()
        await wire.until(lambda wire: BACK in states(wire, TASKS[0]))
        assert (wire.results, told.runs, told.tidied) == ([], 1, True)


async def test_a_handler_is_told_once_and_keeps_its_slot_until_it_ends() -> None:
    world, desk, planner = parties()
    told = Told()
    async with working(planner, planner_of(told.stays)) as (made, wire):
        later = desk.task(task_id=TASKS[0], payload=OK, expires=world.now + LATER)
        await assign(made, desk.task(task_id=TASKS[0], payload=OK, expires=world.now + SOON))
        await wait_for(told.begun)
        await assign(made, desk.task(task_id=TASKS[1], payload=OK, expires=world.now + LATER))
        world.now += SOON
        await wait_for(told.told)
        await assign(made, later)
        for _ in range(100):
            await asyncio.sleep(0)
        assert (told.times, told.runs, wire.results) == (1, 1, [])
        told.end.set()
        await wire.until(lambda wire: DONE in states(wire, TASKS[1]))
        # What it returned is the result: for whoever still waits.
        assert [reason_of(world, each) for each in wire.results] == ["", ""]
        assert told.runs == 2


async def test_a_handler_that_fails_because_it_was_told_to_end_has_met_its_deadline() -> None:
    world, desk, planner = parties()
    told = Told()
    async with working(planner, planner_of(told.fails)) as (made, wire):
        await assign(made, desk.task(task_id=TASKS[0], payload=OK, expires=world.now + SOON))
        await wait_for(told.begun)
        world.now += SOON
        await wire.until(lambda wire: DONE in states(wire, TASKS[0]))
        assert [reason_of(world, each) for each in wire.results] == [Reason.DEADLINE_PASSED]


async def cancels_itself(_text: str, _context: Context) -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return "went on"


async def cancels_itself_last(_text: str, _context: Context) -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "value"


@pytest.mark.parametrize(
    ("handler", "reason"), [(cancels_itself, Reason.HANDLER_FAILED.value), (cancels_itself_last, "")]
)
async def test_a_handler_that_cancels_itself_ends_nobody_else(
    handler: Callable[[str, Context], Awaitable[str]], reason: str
) -> None:
    world, desk, planner = parties()
    async with working(planner, planner_of(handler)) as (made, wire):
        for task_id in TASKS[:2]:
            await assign(made, desk.task(task_id=task_id, payload=OK))
            await wire.until(lambda wire, task_id=task_id: DONE in states(wire, task_id))
        assert [reason_of(world, each) for each in wire.results] == [reason] * 2


async def test_who_kept_the_task_of_a_handler_that_ended_ends_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, desk, planner = parties()
    kept, append = list["asyncio.Task[object]"](), Wire.append

    async def keeps(text: str, _context: Context) -> str:
        task = asyncio.current_task()
        assert task is not None
        kept.append(task)
        return text

    async def cancelled(wire: Wire, subject: str, payload: bytes, *, message_id: str) -> None:
        monkeypatch.undo()
        kept[0].cancel()
        await asyncio.sleep(0)
        await append(wire, subject, payload, message_id=message_id)

    monkeypatch.setattr(Wire, "append", cancelled)
    async with working(planner, planner_of(keeps)) as (made, wire):
        frame = desk.task(task_id=TASKS[0], payload=OK)
        await assign(made, frame)
        await wire.until(lambda wire: BACK in states(wire, TASKS[0]))
        await assign(made, frame)
        await wire.until(lambda wire: DONE in states(wire, TASKS[0]))
        assert [reason_of(world, each) for each in wire.results] == [""]
        assert states(wire, TASKS[0]) == [TAKEN, BACK, TAKEN, DONE]
    assert len(kept) == 1
