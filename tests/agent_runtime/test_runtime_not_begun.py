"""A task that was taken and did not begin leaves nothing: given again, it is judged again, and whole."""

from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest

from agent_runtime import Agent
from schemas.errors import Reason
from schemas.limits import GRACE, MINUTE, SECOND
from schemas.rules import Rule
from schemas.scheduling import BACK, DONE
from tests.agent_runtime.test_runtime_swap import (
    TASKS,
    Slow,
    Wire,
    assign,
    reason_of,
    states,
    waiting,
    working,
)
from tests.agent_runtime.world import Member, beat, client, enclave, mesh_up
from tests.coordinator.test_coordinator_glass import glass
from tests.coordinator.world import START, Party, World

pytestmark = pytest.mark.anyio

SMALL, LARGE = msgspec.msgpack.encode("ok"), msgspec.msgpack.encode("a" * 300)
Play = tuple[World, Party, Member, Member]


def play(**constraints: Any) -> Play:
    rules = (Rule(role="submitter", may="submit", what="plan", **constraints),)
    world, operator = mesh_up(World().policy(rules=rules))
    return world, operator, client(world), enclave(world, "planner")


async def run_dry(
    played: Play, payload: bytes, meanwhile: Callable[[], None] = lambda: None
) -> tuple[int, Wire]:
    """Seal a task again that ended while it waited; return how many handlers began."""
    world, _, desk, planner = played
    slow = Slow(Agent("planner", concurrency=1))
    async with working(planner, slow) as (made, wire):
        await assign(made, desk.task(task_id=TASKS[0], payload=SMALL, expires=START + 10 * MINUTE))
        with anyio.fail_after(30):
            await slow.begun.wait()
        await assign(made, desk.task(task_id=TASKS[1], payload=payload, expires=START + 30 * SECOND))
        for _ in range(31):
            beat(world, planner)
        slow.end.set()
        await wire.until(lambda wire: DONE in states(wire, TASKS[1]))
        meanwhile()
        await assign(made, desk.task(task_id=TASKS[1], payload=payload, expires=START + 5 * MINUTE))
        await wire.until(lambda wire: len(states(wire, TASKS[1])) >= 3)
        return len(slow.callers), wire


async def test_what_was_too_large_is_too_large_again() -> None:
    played = play(max_bytes=64)
    begun, wire = await run_dry(played, LARGE)
    assert begun == 1
    assert reason_of(played[0], wire.results[-1]) == Reason.CONSTRAINT_VIOLATED.value


async def test_what_was_too_much_is_too_much_again() -> None:
    played = play(per_minute=1)
    begun, wire = await run_dry(played, SMALL)
    assert begun == 1
    assert reason_of(played[0], wire.results[-1]) == Reason.CONSTRAINT_VIOLATED.value


async def test_what_was_permitted_runs_when_it_is_sealed_again() -> None:
    begun, wire = await run_dry(play(), SMALL)
    assert begun == 2
    assert len(wire.results) == 2


async def test_who_was_quarantined_takes_nothing_that_it_had_not_begun() -> None:
    played = play()
    world, operator, _, planner = played

    def quarantine() -> None:
        operator.event(world.revocation("quarantine", planner.instance.hex()))
        planner.refresh()

    begun, wire = await run_dry(played, SMALL, quarantine)
    assert begun == 1
    assert states(wire, TASKS[1])[-1] == BACK


async def test_who_was_not_live_judges_the_very_same_copy_again() -> None:
    world, _, desk, planner = play(max_bytes=64)
    slow = Slow(Agent("planner", concurrency=1))
    async with working(planner, slow) as (made, wire):
        await assign(made, desk.task(task_id=TASKS[0], payload=SMALL))
        with anyio.fail_after(30):
            await slow.begun.wait()
        refused = desk.task(task_id=TASKS[1], payload=LARGE)
        await assign(made, refused)
        world.now += GRACE + 1
        slow.end.set()
        await wire.until(lambda wire: ("task", Reason.NOT_LIVE.value) in wire.refused)
        beat(world, planner)
        await assign(made, refused)
        await wire.until(lambda wire: wire.results)
        assert len(slow.callers) == 1
        assert reason_of(world, wire.results[0]) == Reason.CONSTRAINT_VIOLATED.value


async def test_what_still_runs_after_its_end_is_not_forgotten_and_not_run_twice() -> None:
    world, _, desk, planner = play()
    slow = Slow()
    async with working(planner, slow) as (made, wire):
        await assign(made, desk.task(task_id=TASKS[0], payload=SMALL, expires=START + 10 * SECOND))
        with anyio.fail_after(30):
            await slow.begun.wait()
        for _ in range((10 * SECOND + GRACE) // SECOND + 2):
            beat(world, planner)
        made.sweep()
        await assign(made, desk.task(task_id=TASKS[0], payload=SMALL, expires=START + 5 * MINUTE))
        slow.end.set()
        await wire.until(lambda wire: DONE in states(wire, TASKS[0]))
        await assign(made, desk.task(task_id=TASKS[0], payload=SMALL, expires=START + 5 * MINUTE))
        await wire.until(lambda wire: states(wire, TASKS[0]).count(DONE) == 2)
        assert len(slow.callers) == 1


async def test_a_right_that_was_given_for_a_while_begins_nothing_once_it_is_over() -> None:
    world, operator = mesh_up(World().policy(rules=(Rule(role="planner", may="submit", what="redact"),)))
    operator.event(glass(world, role="submitter", may="submit", what="plan", until=world.now + MINUTE))
    async with waiting(world, expires=START + 9 * MINUTE) as (_, planner, slow, wire):
        for _ in range(MINUTE // SECOND):
            beat(world, planner)
        slow.end.set()
        await wire.until(lambda wire: len(wire.results) == 2)
        assert len(slow.callers) == 1
        assert {reason_of(world, each) for each in wire.results} == {"", Reason.EXPIRED.value}
