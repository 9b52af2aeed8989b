"""Replay windows against the obvious reference: a set of everything that was here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealing.errors import ReplayedError
from sealing.window import ReplayWindow

SIZE = 8


class Remembering:
    """Forget nothing; refuse what is `size` or more behind the highest."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def accepts(self, counter: int) -> bool:
        return counter not in self.seen and counter > max(self.seen, default=-1) - SIZE


def accepts(window: ReplayWindow, counter: int) -> bool:
    try:
        window.check(counter)
    except ReplayedError:
        return False
    return True


NEAR = st.integers(0, 4 * SIZE)
COUNTERS = st.lists(NEAR | st.integers(0, 2**64 - 1), max_size=60)


@given(COUNTERS)
def test_the_window_agrees_with_a_set(counters: list[int]) -> None:
    window, reference = ReplayWindow(SIZE), Remembering()
    for counter in counters:
        expected = reference.accepts(counter)
        assert accepts(window, counter) is expected
        if expected:
            window.mark(counter)
            reference.seen.add(counter)


@given(COUNTERS, COUNTERS)
def test_checking_changes_nothing(marked: list[int], checked: list[int]) -> None:
    window, untouched = ReplayWindow(SIZE), ReplayWindow(SIZE)
    for counter in marked:
        if accepts(window, counter):
            window.mark(counter)
            untouched.mark(counter)
    for counter in checked:
        accepts(window, counter)
    assert [accepts(window, counter) for counter in marked + checked] == [
        accepts(untouched, counter) for counter in marked + checked
    ]


def test_the_oldest_that_is_known_is_one_less_than_the_window_behind() -> None:
    window = ReplayWindow(SIZE)
    window.mark(100)
    window.check(100 - SIZE + 1)
    with pytest.raises(ReplayedError):
        window.check(100 - SIZE)


def test_a_jump_to_the_last_counter_costs_no_memory() -> None:
    window = ReplayWindow(SIZE)
    window.mark(0)
    window.mark(2**64 - 1)
    assert not accepts(window, 2**64 - 1)
    assert not accepts(window, 0)
    assert accepts(window, 2**64 - 2)
