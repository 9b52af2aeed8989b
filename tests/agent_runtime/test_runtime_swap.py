"""A policy or a quarantine that comes while work is under way: one request, one judgement, whole."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import anyio
import pytest
from msgspec.structs import replace

from agent_runtime import Agent, Context
from agent_runtime.context import NodeContext
from agent_runtime.errors import HandBackError, RefusedError
from agent_runtime.refusals import Refusals
from agent_runtime.working import Working
from schemas import codec
from schemas.errors import Reason
from schemas.limits import GRACE, MINUTE, SECOND
from schemas.messages import ResultBody
from schemas.peer import Call
from schemas.rules import Rule
from schemas.scheduling import BACK, DONE, Assign, Load, Status, TaskHints, TaskMessage
from sealing.errors import SealingError
from sealing.results import open_result
from tests.agent_runtime.world import Member, beat, client, enclave, mesh_up
from tests.coordinator.world import START, Party, World
from transport import Delivery

pytestmark = pytest.mark.anyio

TASKS = [bytes([number]) * 16 for number in range(4)]


@dataclass
class Wire:
    """What a worker sends and refuses: results and loads in their order."""

    results: list[bytes] = field(default_factory=list)
    load: Load | None = None
    statuses: list[Status] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    news: anyio.Event = field(default_factory=anyio.Event)

    async def append(self, subject: str, payload: bytes, *, message_id: str) -> None:
        self.results.append(payload)
        self._tell()

    async def publish(self, subject: str, payload: bytes) -> None:
        self.load = codec.decode(payload, Load)
        self.statuses += self.load.statuses
        self._tell()

    def note(self, place: str, reason: str) -> None:
        self.refused.append((place, reason))
        self._tell()

    def _tell(self) -> None:
        self.news.set()
        self.news = anyio.Event()

    async def until(self, holds: Any) -> None:
        with anyio.fail_after(30):
            while not holds(self):
                await self.news.wait()


@dataclass
class Slow:
    """A planner that works on two plans at a time and ends them when it is told."""

    agent: Agent = field(default_factory=lambda: Agent("planner", concurrency=2))
    callers: list[str] = field(default_factory=list)
    begun: anyio.Event = field(default_factory=anyio.Event)
    end: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        @self.agent.task("plan")
        async def plan(text: str, context: Context) -> str:
            self.callers.append(cast("NodeContext", context).caller_role)
            self.begun.set()
            await self.end.wait()
            return text


@asynccontextmanager
async def working(planner: Member, slow: Slow) -> AsyncIterator[tuple[Working, Wire]]:
    wire, refusals = Wire(), Refusals()
    refusals.note = wire.note  # type: ignore[method-assign]

    def context_for(task_id: bytes | None, role: str, instance: bytes) -> Context:
        nobody = cast("Any", None)
        return NodeContext(planner.membership, planner.gate, nobody, nobody, task_id, role, instance)

    made = Working(
        slow.agent,
        planner.membership,
        planner.gate,
        planner.seen,
        cast("Any", wire),
        refusals,
        context_for,
        lambda size: bytes(size),
    )
    async with anyio.create_task_group() as tasks:
        made.start(tasks)
        yield made, wire
        tasks.cancel_scope.cancel()


async def assign(made: Working, frame: bytes) -> None:
    message = TaskMessage(TaskHints(bytes(16), 5, 0, 8, None), frame)
    await made.assigned(Delivery("assign", codec.encode(Assign(codec.encode(message), False))))


def reason_of(world: World, frame: bytes) -> str:
    return codec.decode(open_result(world.mesh, b"k" * 32, frame), ResultBody).reason


@pytest.fixture
def up() -> tuple[World, Party]:
    return mesh_up()


async def test_a_request_is_judged_by_one_policy_from_start_to_end(up: tuple[World, Party]) -> None:
    world, operator = up
    desk, planner, slow = client(world), enclave(world, "planner"), Slow()
    async with working(planner, slow) as (made, wire):
        # Given two tasks that run and one that passed the gate and waits for its turn,
        for task_id in TASKS[:3]:
            await assign(made, desk.task(task_id=task_id, payload=b"\xa2ok"))
        with anyio.fail_after(30):
            await slow.begun.wait()
        before = planner.membership.held()
        # when a policy comes into force under which nobody may do anything,
        operator.event(world.policy_event(world.next_policy(world.policy(), rules=())))
        planner.refresh()
        assert planner.membership.held() is not before
        # then what comes after it is refused by it,
        await assign(made, desk.task(task_id=TASKS[3], payload=b"\xa2ok"))
        slow.end.set()
        await wire.until(lambda wire: len(wire.results) == 4)
    # and what was let pass before it is done, for whom the old policy said it is for.
    assert sorted(reason_of(world, each) for each in wire.results) == ["", "", "", Reason.NO_GRANT.value]
    assert slow.callers == ["submitter"] * 3


async def test_no_decision_sees_half_of_a_policy(up: tuple[World, Party]) -> None:
    # A rule's class moves to another role: by no mixture of the two policies may both, or neither, take it.
    world, operator = up
    desk, planner = client(world), enclave(world, "planner")
    redactor = enclave(world, "redactor")
    first = world.policy()
    classes = {**first.classes, "plan": first.classes["redact"]}
    second = world.next_policy(
        first, classes=classes, rules=(Rule(role="submitter", may="submit", what="plan"),)
    )
    assert planner.gate.task(desk.task(task_id=TASKS[0])).refusal is None
    sealed_before = desk.task(task_id=TASKS[1])
    operator.event(world.policy_event(second))
    held = planner.membership.held()
    holdings = planner.party.holdings()
    with pytest.raises(SealingError):
        planner.membership.hold(_torn(holdings))
    assert planner.membership.held() is held
    for each in (planner, redactor, desk):
        each.refresh()
    refusal = planner.gate.task(sealed_before).refusal
    assert isinstance(refusal, RefusedError)
    assert redactor.gate.task(desk.task("redactor", task_id=TASKS[2])).refusal is None


def _torn(holdings: Any) -> Any:
    """Return holdings whose last view was damaged on its way."""
    views = (*holdings.views[:-1], holdings.views[-1][:-1] + bytes([holdings.views[-1][-1] ^ 1]))
    return replace(holdings, views=views)


async def test_a_quarantined_instance_finishes_what_it_has_and_hands_back_what_is_new(
    up: tuple[World, Party],
) -> None:
    world, operator = up
    desk, planner, slow = client(world), enclave(world, "planner"), Slow()
    async with working(planner, slow) as (made, wire):
        await assign(made, desk.task(task_id=TASKS[0], payload=b"\xa2ok"))
        with anyio.fail_after(30):
            await slow.begun.wait()
        operator.event(world.revocation("quarantine", planner.instance.hex()))
        planner.refresh()
        with pytest.raises(HandBackError, match=Reason.QUARANTINED.value):
            planner.gate.task(desk.task(task_id=TASKS[1]))
        slow.end.set()
        await wire.until(lambda wire: wire.results)
        assert reason_of(world, wire.results[0]) == ""
        # The scheduler sees no credits, and that it leaves.
        await wire.until(lambda wire: wire.load is not None and wire.load.draining)
        assert wire.load is not None
        assert wire.load.credits == 0
    # Asked again for what it did, it answers from what it kept.
    assert planner.gate.task(desk.task(task_id=TASKS[0], payload=b"\xa2ok")).repeat


async def test_a_quarantined_instance_answers_no_new_call_and_peers_do_not_choose_it(
    up: tuple[World, Party],
) -> None:
    world, operator = up
    vault, redactor = enclave(world, "vault"), enclave(world, "redactor")
    call = Call(b"r" * 16, "pseudonym", b"", world.now + 60_000, None)
    vault.gate.call(redactor.instance, "redactor", "vault", call)
    operator.event(world.revocation("quarantine", vault.instance.hex()))
    for each in (vault, redactor):
        each.refresh()
    with pytest.raises(RefusedError, match=Reason.QUARANTINED.value):
        vault.gate.call(redactor.instance, "redactor", "vault", call)
    trust = redactor.membership.held()
    assert vault.instance in trust.shunned
    # It is no outcast: what it says, and the results that it owes, are believed.
    assert vault.instance not in trust.revoked
    assert redactor.membership.peer(vault.party.admitted.admission).subject == vault.instance


async def test_a_quarantine_survives_beacons_and_is_gone_with_its_entry(up: tuple[World, Party]) -> None:
    world, operator = up
    planner, desk = enclave(world, "planner"), client(world)
    operator.event(world.revocation("quarantine", planner.instance.hex()))
    world.tick(1_000)
    # A beacon that names the quarantine does not count for whoever has not heard of it.
    assert desk.beacons()[-1] is False
    desk.refresh()
    world.tick(1_000)
    assert desk.beacons()[-1] is True
    # By whatever way it was told, it is not taken for one who is out.
    trust = desk.membership.held()
    assert planner.instance in trust.quarantined
    assert planner.instance not in trust.revoked


@asynccontextmanager
async def waiting(world: World, **changes: Any) -> AsyncIterator[tuple[Member, Member, Slow, Wire]]:
    """Have a planner that works on one plan while the next, which passed the gate, waits for its turn."""
    desk, planner = client(world), enclave(world, "planner")
    slow = Slow(Agent("planner", concurrency=1))
    async with working(planner, slow) as (made, wire):
        for task_id in TASKS[:2]:
            await assign(made, desk.task(task_id=task_id, payload=b"\xa2ok", **changes))
        with anyio.fail_after(30):
            await slow.begun.wait()
        yield desk, planner, slow, wire


def states(wire: Wire, task_id: bytes) -> list[str]:
    return [status.state for status in wire.statuses if status.task_id == task_id]


async def test_a_task_that_waited_does_not_begin_after_its_sender_was_evicted(
    up: tuple[World, Party],
) -> None:
    world, operator = up
    async with waiting(world) as (desk, planner, slow, wire):
        operator.event(world.revocation("instance", desk.instance.hex()))
        planner.refresh()
        slow.end.set()
        await wire.until(lambda wire: DONE in states(wire, TASKS[0]) and DONE in states(wire, TASKS[1]))
        assert len(slow.callers) == 1
        # Nor does the result leave of what had begun.
        assert wire.results == []


async def test_a_task_that_waited_is_handed_back_by_who_is_not_live(up: tuple[World, Party]) -> None:
    world, _ = up
    async with waiting(world) as (_, planner, slow, wire):
        world.now += GRACE + 1
        assert not planner.membership.live()
        slow.end.set()
        await wire.until(lambda wire: ("task", Reason.NOT_LIVE.value) in wire.refused)
        assert len(slow.callers) == 1
        beat(world, planner)  # and its loads say so when it is live again
        await wire.until(lambda wire: BACK in states(wire, TASKS[1]))
        assert wire.results == []


async def test_a_task_that_waited_until_it_expired_does_not_begin(up: tuple[World, Party]) -> None:
    world, _ = up
    async with waiting(world) as (_, planner, slow, wire):
        for _ in range(MINUTE // SECOND):
            beat(world, planner)
        assert planner.membership.live()
        slow.end.set()
        await wire.until(lambda wire: DONE in states(wire, TASKS[1]))
        assert len(slow.callers) == 1


async def test_a_handler_that_never_ends_is_ended_with_its_task_and_leaves_its_slot(
    up: tuple[World, Party],
) -> None:
    world, _ = up
    desk, planner = client(world), enclave(world, "planner")
    slow = Slow(Agent("planner", concurrency=1))
    async with working(planner, slow) as (made, wire):
        await assign(made, desk.task(task_id=TASKS[0], payload=b"\xa2ok", expires=world.now + 100))
        with anyio.fail_after(30):
            await slow.begun.wait()
        slow.begun = anyio.Event()
        await assign(made, desk.task(task_id=TASKS[1], payload=b"\xa2ok"))
        world.now += 100
        await wire.until(lambda wire: wire.results)
        assert reason_of(world, wire.results[0]) == Reason.DEADLINE_PASSED
        assert ("task", Reason.DEADLINE_PASSED.value) in wire.refused
        # What waited for the slot has it.
        with anyio.fail_after(30):
            await slow.begun.wait()


async def test_a_task_that_waited_is_refused_outside_its_hours() -> None:
    begins = datetime.fromtimestamp(START / 1000, UTC)
    hours = f"{begins:%H:%M}-{begins + timedelta(minutes=2):%H:%M}"
    rules = (Rule(role="submitter", may="submit", what="plan", hours=hours),)
    world, _ = mesh_up(World().policy(rules=rules))
    async with waiting(world, expires=START + 5 * MINUTE) as (_, planner, slow, wire):
        for _ in range(2 * MINUTE // SECOND):
            beat(world, planner)
        slow.end.set()
        await wire.until(lambda wire: len(wire.results) == 2)
        reasons = {reason_of(world, each) for each in wire.results}
        assert reasons == {"", Reason.CONSTRAINT_VIOLATED.value}
        assert len(slow.callers) == 1


async def test_what_a_quarantined_instance_took_it_begins_too(up: tuple[World, Party]) -> None:
    world, operator = up
    async with waiting(world) as (_, planner, slow, wire):
        operator.event(world.revocation("quarantine", planner.instance.hex()))
        planner.refresh()
        slow.end.set()
        await wire.until(lambda wire: len(wire.results) == 2)
        assert len(slow.callers) == 2
