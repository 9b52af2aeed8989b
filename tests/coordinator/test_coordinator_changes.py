"""What beacons tell of changes: enough that nobody behind counts one, and no more than fits."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordinator.changes import TOLD_FOR, Changes
from schemas.limits import CHANGES_MOST, RECENTLY_REVOKED_MOST, SECOND

NOW = 1_800_000_000_000


def role(number: int) -> bytes:
    return number.to_bytes(16, "big")


def instance(number: int) -> bytes:
    return number.to_bytes(32, "big")


def versions(**roles: int) -> tuple[tuple[bytes, int], ...]:
    return tuple((name.encode(), version) for name, version in roles.items())


def test_what_did_not_change_is_not_told() -> None:
    changes = Changes()
    changes.views(versions(planner=1, vault=1), NOW)
    changes.views(versions(planner=2, vault=1), NOW + TOLD_FOR - 1)
    assert (changes.version, dict(changes.changed(NOW + TOLD_FOR - 1))) == (2, {b"planner": 2, b"vault": 1})
    assert dict(changes.changed(NOW + TOLD_FOR)) == {b"planner": 2}
    assert (changes.version, changes.since) == (2, 1)
    changes.views(versions(planner=2, vault=1), NOW + TOLD_FOR)
    assert (changes.version, changes.since) == (2, 1)


def test_a_role_that_is_gone_is_told_as_none() -> None:
    changes = Changes()
    changes.views(versions(planner=1, vault=7), NOW)
    changes.views(versions(planner=1), NOW)
    assert dict(changes.changed(NOW)) == {b"planner": 1, b"vault": 0}


def test_however_many_change_the_list_is_bounded_and_complete_from_where_it_says() -> None:
    changes = Changes()
    for number in range(10 * CHANGES_MOST):
        changes.views(
            tuple((role(each), 1 if each > number else 2) for each in range(10 * CHANGES_MOST)), NOW
        )
        assert len(changes.changed(NOW)) <= CHANGES_MOST
    assert changes.version - changes.since == CHANGES_MOST
    changes.views(tuple((role(each), 3) for each in range(10 * CHANGES_MOST)), NOW)
    # All at once are more than a list takes: nobody who was behind has enough of it.
    assert changes.since == changes.version


def test_who_was_revoked_is_named_for_a_while_and_only_while_still_out() -> None:
    changes = Changes()
    changes.revoked([instance(1), instance(2)], NOW)
    everybody = frozenset({instance(1), instance(2), instance(3)})
    assert set(changes.recently_revoked(NOW + TOLD_FOR - 1, everybody)) == {instance(1), instance(2)}
    assert changes.recently_revoked(NOW, everybody - {instance(1)}) == (instance(2),)
    assert changes.recently_revoked(NOW + TOLD_FOR, everybody) == ()


def test_of_many_who_were_revoked_the_latest_are_named() -> None:
    changes = Changes()
    everybody = [instance(number) for number in range(1_000)]
    changes.revoked(everybody, NOW)
    named = changes.recently_revoked(NOW, frozenset(everybody))
    assert set(named) == set(everybody[-RECENTLY_REVOKED_MOST:])


class Behind(RuleBasedStateMachine):
    """Whoever counts a beacon holds the current view, however many changes and beacons it has missed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.changes = Changes()
        self.current: dict[bytes, int] = {}
        self.held: dict[bytes, int] = {}
        self.held_at = 0  # the version of all views that what is held is of
        self.ever = 0

    @rule(roles=st.sets(st.integers(0, 3 * CHANGES_MOST), max_size=2 * CHANGES_MOST))
    def change(self, roles: set[int]) -> None:
        """Have some views change."""
        for each in roles:
            self.ever += 1
            self.current[role(each)] = self.ever
        self.changes.views(tuple(self.current.items()), self.now)

    @rule(roles=st.sets(st.integers(0, 3 * CHANGES_MOST), max_size=3))
    def remove(self, roles: set[int]) -> None:
        """Have some roles end."""
        for each in roles:
            self.current.pop(role(each), None)
        self.changes.views(tuple(self.current.items()), self.now)

    @rule(time=st.integers(0, TOLD_FOR // SECOND))
    def wait(self, time: int) -> None:
        """Let time pass."""
        self.now += time * SECOND

    @rule()
    def refresh(self) -> None:
        """Have the party get all that it holds."""
        self.held = dict(self.current)
        self.held_at = self.changes.version

    @rule(own=st.integers(0, 3 * CHANGES_MOST))
    def beacon(self, own: int) -> None:
        """Send a beacon to a party of one role, which counts it or does not."""
        changed = dict(self.changes.changed(self.now))
        held = self.held.get(role(own), 0)
        counts = self.held_at >= self.changes.since and changed.get(role(own), held) == held
        if counts:
            assert held == self.current.get(role(own), 0)
        if self.held_at == self.changes.version:
            assert counts  # nobody who is up to date is made to ask

    @invariant()
    def fits(self) -> None:
        """See that the list is short."""
        assert len(self.changes.changed(self.now)) <= CHANGES_MOST


Behind.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBehind = Behind.TestCase


@pytest.mark.parametrize("count", [0, 1, CHANGES_MOST, 100 * CHANGES_MOST])
def test_everything_that_is_told_is_in_order(count: int) -> None:
    changes = Changes()
    changes.views(tuple((role(each), 1) for each in range(count)), NOW)
    told = changes.changed(NOW)
    assert list(told) == sorted(told)
