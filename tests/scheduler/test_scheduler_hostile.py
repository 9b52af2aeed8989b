"""Agents that lie and strangers that flood: a delay at most, never memory, never another's task."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import agents as agents_module
from scheduler import core as core_module
from scheduler.agents import LOAD_BYTES_PER_SECOND, MAX_AGENTS, MAX_CLASSES, WINDOW_FIRST, Agents
from scheduler.memory import Memory
from schemas.codec import decode
from schemas.errors import PeerError, Reason
from schemas.scheduling import BACK, DONE, TAKEN, WORKING, Load
from tests.scheduler.script import NOW, RED, Desk, load, task, token


@pytest.fixture
def desk() -> Desk:
    """A scheduler that has heard of nobody."""
    return Desk()


@pytest.mark.parametrize("state", [DONE, BACK, TAKEN, WORKING])
def test_the_word_of_an_agent_that_was_never_assigned_a_task_changes_nothing(desk: Desk, state: str) -> None:
    desk.hear(1)
    key = desk.publish(task(1))
    desk.hear(1, (1, TAKEN))
    desk.take_sends()
    desk.hear(666, (1, state))
    desk.wait(1_000, hearing=(1, 666))
    assert (desk.acked(), desk.take_sends()) == ([], [])
    assert desk.core.counters.foreign_statuses == 1
    desk.hear(1, (1, DONE))
    assert desk.acked() == [key]


def test_done_of_a_stranger_does_not_end_a_task_that_waits(desk: Desk) -> None:
    desk.publish(task(1))
    desk.hear(666, (1, DONE), classes=())
    assert desk.acked() == []
    desk.hear(1)
    assert desk.take_sends() == [(1, 1, False)]


def test_done_of_a_task_that_never_came_does_not_end_it(desk: Desk) -> None:
    desk.hear(666, (1, DONE))
    desk.publish(task(1))
    assert desk.acked() == []
    assert desk.core.counters.unknown_statuses == 1


def test_an_assign_token_belongs_to_the_first_that_named_it(desk: Desk) -> None:
    desk.hear(1)
    desk.hear_raw(token(666), load(1))
    assert desk.core.counters.refused_loads == 1
    assert desk.core.gauges().agents == 1


def test_an_agent_cannot_point_its_name_at_another_address(desk: Desk) -> None:
    desk.hear(1)
    desk.hear_raw(token(1), load(2))
    assert desk.core.counters.refused_loads == 1
    desk.publish(task(1))
    assert desk.take_sends() == [(1, 1, False)]


def test_endless_credits_of_one_that_never_answers_cost_a_window_of_delays(desk: Desk) -> None:
    desk.hear(666, credits_=65_535)
    for number in range(500):
        desk.publish(task(number))
    assert len(desk.take_sends()) == WINDOW_FIRST
    finished: set[int] = set()
    for _ in range(120):
        desk.wait(250)
        desk.hear(666, credits_=65_535)
        mine = [number for agent, number, _ in desk.take_sends() if agent == 1]
        finished.update(mine)
        desk.hear(1, *((number, DONE) for number in mine), credits_=50)
    assert finished == set(range(500))


def test_one_that_takes_and_never_finishes_holds_no_more_than_its_window(desk: Desk) -> None:
    desk.hear(666, credits_=65_535)
    for number in range(500):
        desk.publish(task(number))
    for _ in range(20):
        desk.hear(666, *((number, WORKING) for _, number, _ in desk.take_sends()), credits_=65_535)
        desk.wait(500)
    assert desk.core.gauges().in_flight == WINDOW_FIRST


@given(st.binary(max_size=200))
def test_any_bytes_on_a_load_subject_are_counted_and_harmless(data: bytes) -> None:
    desk = Desk()
    desk.hear_raw(token(1), data)
    counters = desk.core.counters
    assert counters.malformed_loads + counters.refused_loads + counters.agents_seen == 1


@given(st.binary(max_size=200))
def test_any_bytes_in_the_stream_are_acknowledged_or_a_task(data: bytes) -> None:
    desk = Desk()
    key = desk.publish(data)
    assert (desk.acked() == [key]) == (desk.core.gauges().waiting == 0)


@given(st.data())
def test_a_load_with_one_byte_changed_never_does_more_than_a_load(data: st.DataObject) -> None:
    whole = load(1, (1, DONE), (2, WORKING))
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    desk = Desk()
    desk.hear(2)
    key = desk.publish(task(1))
    desk.hear_raw(token(1), changed)
    assert key not in desk.acked()


def test_a_flood_from_one_name_is_refused_before_it_is_decoded(desk: Desk) -> None:
    heavy = load(1, *((number, WORKING) for number in range(4_000)))
    for _ in range(LOAD_BYTES_PER_SECOND // len(heavy) + 5):
        desk.hear_raw(token(1), heavy)
    assert desk.core.counters.refused_loads == 5
    desk.hear(2)
    desk.wait(1_000)
    desk.hear_raw(token(1), heavy)
    assert desk.core.counters.refused_loads == 5
    assert desk.core.gauges().agents == 2


def test_the_house_of_agents_has_room_for_so_many_and_the_lost_make_room() -> None:
    agents = Agents()
    message = decode(load(1), Load)
    for number in range(MAX_AGENTS):
        name = token(number)
        agents.charge(name, 10, now=NOW)
        agents.hear(name, Load(token(number, "a"), *message_rest(message)), now=NOW)
    with pytest.raises(PeerError, match="too many agents") as refusal:
        agents.charge(token(MAX_AGENTS), 10, now=NOW)
    assert refusal.value.reason is Reason.UNAVAILABLE
    agents.charge(token(0), 10, now=NOW)
    assert len(agents.lost(now=NOW + 3_000)) == MAX_AGENTS
    agents.charge(token(MAX_AGENTS), 10, now=NOW + 3_000)


def message_rest(message: Load) -> tuple[tuple[bytes, ...], int, int, tuple[()], bool]:
    """Return all of a load but its assign token and statuses."""
    return message.class_tokens, message.credits, message.level, (), message.draining


def test_strangers_names_are_counted_for_one_second_only() -> None:
    agents = Agents()
    for number in range(MAX_AGENTS + 1):
        agents.charge(token(number), 10, now=NOW)
    with pytest.raises(PeerError, match="too many load messages"):
        agents.charge(token(MAX_AGENTS + 1), 10, now=NOW)
    agents.charge(token(MAX_AGENTS + 1), 10, now=NOW + 1_000)


@pytest.mark.parametrize(("limit", "value"), [("HELD_MOST", 10), ("HELD_BYTES_MOST", 11_000)])
def test_what_is_held_is_bounded_in_number_and_bytes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(core_module, limit, value)
    desk.hear(1, credits_=5)
    for number in range(10):
        assert desk.core.demand(RED) > 0
        desk.publish(task(number, body=bytes(1_000)))
    assert desk.core.demand(RED) == 0
    desk.hear(1, *((number, DONE) for number in range(5)))
    assert desk.core.demand(RED) > 0


def test_invented_classes_are_bounded(desk: Desk) -> None:
    for agent in range(10):
        desk.hear(agent, classes=[b"%08d%08d" % (agent, number) for number in range(200)])
    assert desk.core.gauges().classes <= MAX_CLASSES
    assert desk.core.counters.refused_loads == 10 - MAX_CLASSES // 200
    desk.wait(4_000)
    assert desk.core.gauges().classes == 0


def test_memberships_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents_module, "MAX_MEMBERSHIPS", 5)
    agents = Agents()
    two = (b"%016d" % 1, b"%016d" % 2)
    for number in range(2):
        agents.hear(token(number), Load(token(number, "a"), two, 1, 0, (), False), now=NOW)
    with pytest.raises(PeerError, match="too many classes of agents"):
        agents.hear(token(3), Load(token(3, "a"), two, 1, 0, (), False), now=NOW)
    assert agents.get(token(3)) is None


def test_memory_is_bounded_in_number_and_time() -> None:
    memory = Memory(most=3, age=1_000)
    for number in range(5):
        memory.put(token(number), RED, now=NOW + number)
    assert [number for number in range(5) if token(number) in memory] == [2, 3, 4]
    memory.put(token(2), RED, now=NOW + 900)
    memory.forget(now=NOW + 1_500)
    assert [number for number in range(5) if token(number) in memory] == [2]


def test_what_a_crowd_claims_about_unknown_tasks_is_bounded(desk: Desk) -> None:
    for agent in range(30):
        desk.hear(agent, *((agent * 4_096 + number, WORKING) for number in range(4_096)), credits_=0)
    assert desk.core.counters.unknown_statuses == 30 * 4_096
    assert len(desk.core._claims) == 65_536
