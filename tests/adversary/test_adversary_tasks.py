"""No scheduler makes a task run twice in an instance, end with what nobody made, or never end."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.adversary.network import Deed
from tests.adversary.tasks import MOVES, Tasks

number = st.integers(0, 2**16)


class TasksUnderAttack(RuleBasedStateMachine):
    """A client and two workers; scheduler and stream are hypothesis's."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = Tasks()

    @rule(size=st.sampled_from([0, 10, 900]))
    def submit(self, size: int) -> None:
        """The client submits a task."""
        self.tasks.do_submit(size)

    @rule(deed=st.sampled_from(MOVES), pick=number, other=number, place=number, dead=st.booleans())
    def attack(self, deed: Deed, pick: int, other: int, place: int, dead: bool) -> None:
        """A task or a result goes astray, comes again, or is another; it may be called undeliverable."""
        self.tasks.do(deed, pick, other, place, dead=dead)

    @rule()
    def all_arrives(self) -> None:
        """Scheduler and stream are honest for a moment."""
        self.tasks.settle()

    @rule(worker=st.integers(0, 1))
    def restart(self, worker: int) -> None:
        """A worker's process ends, and another instance begins."""
        self.tasks.do_restart(worker)

    @rule(worker=st.integers(0, 1))
    def evict(self, worker: int) -> None:
        """A worker is revoked: what was sealed to its role's epoch is sealed again."""
        self.tasks.do_evict(worker)

    @rule(milliseconds=st.sampled_from([1, 1_000, 8_000]))
    def wait(self, milliseconds: int) -> None:
        """Time passes, and what has no result is sent again."""
        self.tasks.do_wait(milliseconds)

    @invariant()
    def nothing_is_wrong(self) -> None:
        """What must hold after every step."""
        self.tasks.check()

    def teardown(self) -> None:
        """Let scheduler and stream turn honest: then a fresh task is done, and every other one ends."""
        self.tasks.heal()


def test_tasks_under_attack() -> None:
    run_state_machine_as_test(
        TasksUnderAttack, settings=settings(max_examples=15, stateful_step_count=25, deadline=None)
    )


@pytest.mark.slow
def test_tasks_under_long_attack() -> None:
    run_state_machine_as_test(
        TasksUnderAttack, settings=settings(max_examples=100, stateful_step_count=80, deadline=None)
    )
