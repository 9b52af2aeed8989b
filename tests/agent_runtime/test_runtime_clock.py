"""Mesh time: from the coordinator alone, by an answer that came soon enough; what was held never sinks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent_runtime.clock import MeshClock, boottime
from schemas.errors import Reason
from schemas.limits import GRACE
from sealing.errors import SealingError


class Local:
    """A machine's own clock, set by the test."""

    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def local() -> Local:
    return Local()


@pytest.fixture
def clock(local: Local) -> MeshClock:
    return MeshClock(local)


def test_before_anybody_told_it_the_time_is_the_beginning(clock: MeshClock, local: Local) -> None:
    local.now += 10_000
    assert (clock.is_set, clock.now(), clock.highest()) == (False, 0, 0)


def test_time_goes_on_from_when_the_question_left(clock: MeshClock, local: Local) -> None:
    local.now = 1_300
    clock.set(50_000, sent=1_000, grace=GRACE)
    # Ahead of the truth by the way of the answer at most, and never behind.
    assert clock.is_set
    assert clock.now() == 50_300
    local.now = 2_000
    assert clock.now() == 51_000


@pytest.mark.parametrize(("took", "taken"), [(GRACE // 2 - 1, True), (GRACE // 2, False), (GRACE, False)])
def test_answer_that_took_half_the_grace_sets_nothing(
    clock: MeshClock, local: Local, took: int, taken: bool
) -> None:
    clock.set(50_000, sent=1_000, grace=GRACE)
    local.now = 1_000 + took
    before = clock.now()
    if taken:
        clock.set(90_000, sent=1_000, grace=GRACE)
        assert clock.now() == 90_000 + took
    else:
        with pytest.raises(SealingError) as refusal:
            clock.set(90_000, sent=1_000, grace=GRACE)
        assert refusal.value.reason is Reason.NOT_LIVE
        assert clock.now() == before


def test_clock_that_is_set_back_keeps_its_highest(clock: MeshClock, local: Local) -> None:
    clock.set(50_000, sent=1_000, grace=GRACE)
    local.now = 2_000  # 51 000 was reached here, though nobody asked
    clock.set(40_000, sent=2_000, grace=GRACE)
    assert (clock.now(), clock.highest()) == (40_000, 51_000)


@given(told=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10_000)), min_size=1))
def test_highest_never_sinks(told: list[tuple[int, int]]) -> None:
    local = Local()
    clock, reached = MeshClock(local), 0
    for time, passes in told:
        clock.set(time, sent=local.now, grace=GRACE)
        local.now += passes
        reached = max(reached, clock.now())
        assert clock.highest() == reached


class Clocks(RuleBasedStateMachine):
    """A clock that is asked seldom, beside the same one asked after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.local = Local()
        self.seldom, self.often = MeshClock(self.local), MeshClock(self.local)

    @rule(told=st.integers(0, 10**6), took=st.integers(0, GRACE))
    def tell(self, told: int, took: int) -> None:
        """The coordinator answers, perhaps too late."""
        for clock in (self.seldom, self.often):
            try:
                clock.set(told, sent=self.local.now - took, grace=GRACE)
            except SealingError:
                assert took >= GRACE // 2

    @rule(passes=st.integers(0, 10_000))
    def wait(self, passes: int) -> None:
        """Time passes."""
        self.local.now += passes

    @rule()
    def ask(self) -> None:
        """Whether somebody asked in between makes no difference."""
        assert self.seldom.highest() == self.often.highest()

    @invariant()
    def ask_often(self) -> None:
        """Ask after every step."""
        assert self.often.now() <= self.often.highest()


TestClocks = Clocks.TestCase


def test_own_clock_goes_on() -> None:
    first = boottime()
    assert 0 < first <= boottime()
