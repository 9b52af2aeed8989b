"""One task through its life, in virtual time."""

import pytest

from scheduler.lifecycle import (
    ACK_WAIT,
    BACKOFF_MOST,
    DEADLINE_SLACK,
    EXTEND_EVERY,
    FINAL,
    KEYS_PER_TASK,
    MAX_ATTEMPTS,
    MAX_UNTAKEN,
    MENTIONED_WITHIN,
    TAKEN_WITHIN,
    TRANSITIONS,
    Event,
    Nak,
    State,
    backoff,
)
from schemas.scheduling import BACK, DONE, TAKEN, WORKING
from tests.scheduler.script import BLUE, HOUR, NOW, RED, Desk, load, task, token


@pytest.fixture
def desk() -> Desk:
    """A scheduler that has heard of nobody."""
    return Desk()


def test_every_state_that_is_not_final_ends_at_its_deadline_and_no_final_one_moves() -> None:
    assert {state for state, event in TRANSITIONS if event is Event.DEADLINE} == set(State) - FINAL
    assert not [state for state, _ in TRANSITIONS if state in FINAL]


def test_a_task_is_acknowledged_only_when_its_agent_says_done(desk: Desk) -> None:
    desk.hear(1)
    key = desk.publish(task(1))
    assert desk.take_sends() == [(1, 1, False)]
    desk.hear(1, (1, TAKEN))
    desk.hear(1, (1, WORKING))
    assert desk.acked() == []
    desk.hear(1, (1, DONE))
    assert desk.acked() == [key]
    assert desk.core.gauges().in_flight == desk.core.gauges().held_bytes == 0


def test_a_task_that_ends_before_its_agent_says_taken_is_done(desk: Desk) -> None:
    desk.hear(1)
    key = desk.publish(task(1))
    desk.hear(1, (1, DONE))
    assert desk.acked() == [key]


def test_a_task_without_an_agent_waits_and_is_no_attempt(desk: Desk) -> None:
    key = desk.publish(task(1))
    desk.wait(20_000)
    assert desk.take_sends() == []
    assert desk.naked() == []
    desk.hear(1)
    assert desk.take_sends() == [(1, 1, False)]
    assert desk.extended().count(key) >= 20_000 // EXTEND_EVERY - 1


def test_a_class_without_agents_goes_back_to_the_stream_after_a_while(desk: Desk) -> None:
    key = desk.publish(task(1))
    desk.wait(31_000)
    assert [given for given, _ in desk.naked()] == [key]
    assert desk.core.gauges().waiting == desk.core.gauges().held_bytes == 0
    desk.publish(task(1))
    desk.hear(1)
    assert desk.take_sends() == [(1, 1, False)]


def test_silence_sends_a_task_elsewhere(desk: Desk) -> None:
    for agent in (1, 2):
        desk.hear(agent)
    desk.publish(task(1))
    [(first, _, _)] = desk.take_sends()
    desk.wait(TAKEN_WITHIN - 100, hearing=(1, 2))
    assert desk.take_sends() == []
    desk.wait(600, hearing=(1, 2))
    assert desk.take_sends() == [(3 - first, 1, False)]
    assert desk.core.counters.silent == 1


def test_a_task_handed_back_goes_elsewhere_if_another_has_the_class(desk: Desk) -> None:
    desk.hear(1)
    desk.publish(task(1))
    assert desk.take_sends() == [(1, 1, False)]
    desk.hear(2, credits_=0)
    desk.hear(1, (1, BACK))
    desk.wait(2_000, hearing=(1,))
    assert desk.take_sends() == []
    desk.hear(2)
    desk.wait(300)
    assert desk.take_sends() == [(2, 1, False)]


def test_a_task_handed_back_returns_to_its_agent_if_no_other_has_the_class(desk: Desk) -> None:
    desk.hear(1)
    desk.publish(task(1))
    desk.hear(1, (1, BACK))
    desk.wait(500, hearing=(1,))
    assert desk.take_sends() == [(1, 1, False)] * 2


def test_an_agent_that_cannot_take_is_not_waited_for_without_end(desk: Desk) -> None:
    desk.hear(1)
    desk.publish(task(1))
    desk.hear(1, (1, BACK))
    desk.take_sends()
    for _ in range(24):
        desk.hear(2, credits_=0)
        desk.wait(500, hearing=(1,))
    assert desk.take_sends() == [(1, 1, False)]


def test_an_agent_silent_for_three_seconds_is_lost_and_its_tasks_go_elsewhere(desk: Desk) -> None:
    desk.hear(1)
    desk.publish(task(1))
    desk.hear(1, (1, TAKEN))
    desk.take_sends()
    desk.wait(2_400, hearing=(2,))
    assert desk.take_sends() == []
    desk.wait(1_800, hearing=(2,))
    assert desk.take_sends() == [(2, 1, False)]
    assert desk.core.counters.agents_lost == 1


def test_eight_attempts_dead_letter_a_task_once_and_done_ends_it(desk: Desk) -> None:
    desk.hear(1)
    key = desk.publish(task(1))
    for _ in range(MAX_ATTEMPTS):
        assert desk.wait_for_sends(hearing=(1,)) == [(1, 1, False)]
        desk.hear(1, (1, TAKEN), (1, BACK))
    assert desk.wait_for_sends(hearing=(1,)) == [(1, 1, True)]
    assert desk.acked() == []
    desk.hear(1, (1, TAKEN), (1, DONE))
    assert desk.acked() == [key]
    assert desk.core.counters.dead_lettered == desk.core.counters.undeliverable == 1


def test_a_dead_letter_that_meets_silence_goes_to_another(desk: Desk) -> None:
    desk.hear(1)
    desk.publish(task(1))
    for _ in range(MAX_ATTEMPTS):
        desk.wait_for_sends(hearing=(1,))
        desk.hear(1, (1, TAKEN), (1, BACK))
    assert desk.wait_for_sends(hearing=(1,)) == [(1, 1, True)]
    assert desk.wait_for_sends(hearing=(1, 2)) == [(2, 1, True)]


def test_a_task_that_nobody_ever_takes_is_dead_lettered_too(desk: Desk) -> None:
    desk.hear(1)
    desk.publish(task(1))
    for _ in range(MAX_UNTAKEN):
        assert desk.wait_for_sends(hearing=(1,)) == [(1, 1, False)]
        desk.hear(1, (1, BACK))
    assert desk.wait_for_sends(hearing=(1,)) == [(1, 1, True)]


@pytest.mark.parametrize("said", [(), (TAKEN,)])
def test_a_passed_deadline_ends_a_task_wherever_it_stands(desk: Desk, said: tuple[str, ...]) -> None:
    desk.hear(1)
    key = desk.publish(task(1, deadline=NOW + 5_000))
    desk.hear(1, *((1, state) for state in said))
    desk.wait(4_900, hearing=(1,))
    assert desk.acked() == []
    desk.wait(DEADLINE_SLACK + 200, hearing=(1,))
    assert desk.acked() == [key]
    assert desk.core.counters.expired == 1


def test_a_task_that_arrives_too_late_is_dropped_at_once(desk: Desk) -> None:
    desk.hear(1)
    key = desk.publish(task(1, deadline=NOW - DEADLINE_SLACK))
    assert (desk.acked(), desk.take_sends()) == ([key], [])


def test_a_delivery_of_a_task_in_flight_is_not_run_twice_and_both_are_acknowledged(desk: Desk) -> None:
    desk.hear(1)
    first, second = desk.publish(task(1)), desk.publish(task(1))
    assert desk.take_sends() == [(1, 1, False)]
    desk.hear(1, (1, TAKEN), (1, DONE))
    assert desk.acked() == [first, second]
    third = desk.publish(task(1))
    assert desk.acked() == [first, second, third]
    assert desk.take_sends() == []
    assert (desk.core.counters.redelivered, desk.core.counters.repeated) == (1, 1)


def test_deliveries_of_one_task_are_bounded(desk: Desk) -> None:
    desk.hear(1)
    keys = [desk.publish(task(1)) for _ in range(KEYS_PER_TASK + 3)]
    assert desk.naked() == [(key, ACK_WAIT) for key in keys[KEYS_PER_TASK:]]


def test_a_frame_sealed_anew_waits_for_the_one_that_runs(desk: Desk) -> None:
    desk.hear(1)
    old = desk.publish(task(1))
    new = desk.publish(task(1, body=b"sealed anew"))
    assert [key for key, _ in desk.naked()] == [new]
    desk.hear(1, (1, DONE))
    assert desk.acked() == [old]


def test_a_frame_sealed_anew_replaces_one_that_waits(desk: Desk) -> None:
    """Else a frame that was damaged on its way would stand in the way of the good one."""
    desk.hear(1)
    old = desk.publish(task(1, body=b"damaged"))
    desk.hear(1, (1, BACK))
    new = desk.publish(task(1, body=b"sealed anew"))
    desk.take_sends()
    desk.wait(500, hearing=(1,))
    desk.hear(1, (1, DONE))
    assert desk.acked() == [old, new]
    assert desk.core.gauges().held_bytes == 0


def test_a_frame_sealed_anew_after_done_goes_to_who_kept_the_result_but_only_once(desk: Desk) -> None:
    for agent in range(1, 21):
        desk.hear(agent)
    desk.publish(task(1))
    [(agent, _, _)] = desk.take_sends()
    desk.hear(agent, (1, DONE))
    desk.publish(task(1, body=b"again"))
    assert desk.take_sends() == [(agent, 1, False)]
    desk.hear(agent, (1, DONE))
    others = set()
    for round_ in range(10):
        desk.publish(task(1, body=b"and again %d" % round_))
        [(chosen, _, _)] = desk.take_sends()
        others.add(chosen)
        desk.hear(chosen, (1, DONE))
    assert len(others) > 1


def test_after_a_restart_a_task_goes_to_the_agent_that_has_it() -> None:
    restarted = Desk()
    for agent in range(1, 21):
        restarted.hear(agent, *([(1, WORKING)] if agent == 13 else []))
    key = restarted.publish(task(1))
    assert restarted.take_sends() == [(13, 1, False)]
    restarted.hear(13, (1, WORKING))
    restarted.hear(13, (1, DONE))
    assert restarted.acked() == [key]


def test_a_task_of_an_agent_that_changed_its_name_stays_with_it(desk: Desk) -> None:
    desk.hear(1)
    desk.publish(task(1))
    desk.hear(1, (1, TAKEN))
    desk.take_sends()
    for _ in range(9):
        desk.hear(2)
        desk.hear(3, (1, WORKING))
        desk.wait(500)
    assert desk.take_sends() == [(3, 1, False)]


def test_a_slow_earlier_holder_keeps_the_task_while_nobody_else_has_it(desk: Desk) -> None:
    desk.hear(1)
    key = desk.publish(task(1))
    desk.wait(TAKEN_WITHIN + 10, hearing=(1,))
    desk.take_sends()
    desk.hear(1, (1, WORKING))
    desk.wait(MENTIONED_WITHIN - 500, hearing=(1, 2))
    assert desk.take_sends() == []
    desk.hear(1, (1, DONE))
    assert desk.acked() == [key]


def test_a_holder_that_stops_speaking_of_a_task_is_asked_again(desk: Desk) -> None:
    """Its last word may have been lost; it answers from what it kept."""
    desk.hear(1)
    key = desk.publish(task(1))
    desk.hear(1, (1, TAKEN))
    desk.take_sends()
    desk.wait(MENTIONED_WITHIN + 200, hearing=(1, 2))
    assert desk.take_sends() == [(1, 1, False)]
    desk.hear(1, (1, DONE))
    assert desk.acked() == [key]
    assert desk.core.counters.silent == 0


def test_silence_while_the_broker_is_away_is_nobodys_fault(desk: Desk) -> None:
    for agent in (1, 2):
        desk.hear(agent)
    desk.publish(task(1))
    desk.publish(task(2))
    desk.hear(1, (1, TAKEN), (2, TAKEN))
    desk.take_sends()
    desk.now += 60_000
    desk.core.excuse(now=desk.now)
    desk.wait(TAKEN_WITHIN - 100, hearing=(1, 2))
    assert desk.take_sends() == []
    assert desk.core.counters.agents_lost == desk.core.counters.silent == 0


def test_draining_hands_back_what_waits_and_leaves_what_runs(desk: Desk) -> None:
    desk.hear(1, credits_=1)
    running, waiting = desk.publish(task(1)), desk.publish(task(2))
    assert desk.core.drain(now=NOW) == [Nak(waiting, 0)]
    desk.hear(1, (1, DONE))
    assert desk.acked() == [running]


def test_backoff_doubles_is_bounded_and_half_of_it_is_random() -> None:
    assert [backoff(failures, 0) for failures in (1, 2, 3)] == [100, 200, 400]
    assert [backoff(failures, 0.999_999) for failures in (1, 2, 3)] == [199, 399, 799]
    assert backoff(10_000, 0.999_999) <= BACKOFF_MOST


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 40,
        load(1),
        task(1)[:-1],
        task(1, name=BLUE),
        task(1, body=b"")[: -len(token(1, "t"))],
    ],
)
def test_malformed_tasks_are_counted_and_leave_the_stream(desk: Desk, data: bytes) -> None:
    desk.hear(1)
    key = desk.publish(data, name=RED)
    assert desk.acked() == [key]
    assert desk.core.counters.malformed_tasks == 1
    assert desk.take_sends() == []


def test_a_task_that_no_assignment_could_carry_is_counted_and_leaves_the_stream(desk: Desk) -> None:
    key = desk.publish(task(1, body=bytes(1024 * 1024 - 100)))
    assert desk.acked() == [key]
    assert desk.core.counters.oversize_tasks == 1


def test_the_far_future_is_a_deadline_like_any_other(desk: Desk) -> None:
    desk.hear(1)
    key = desk.publish(task(1, deadline=2**63 - 1))
    desk.wait(HOUR // 60, hearing=(1,), step=500)
    desk.hear(1, (1, DONE))
    assert desk.acked() == [key]
