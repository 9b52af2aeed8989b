"""The seen-set never forgets early, whatever is taken, handed back, extended and forgotten in between."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_runtime.seen import Entry, SeenTasks, TaskKey

KEYS = st.tuples(st.sampled_from([b"a", b"b"]), st.integers(0, 4).map(lambda n: bytes([n]) * 16))
TIMES = st.integers(0, 100)
LIMIT = 5


class Seen(RuleBasedStateMachine):
    """Beside a plain dictionary that says until when each task has to be known."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = SeenTasks(limit=LIMIT)
        self.until: dict[TaskKey, int] = {}
        self.entries: dict[TaskKey, Entry] = {}
        self.highest = 0

    @precondition(lambda self: not self.seen.full())
    @rule(key=KEYS, until=TIMES)
    def take(self, key: TaskKey, until: int) -> None:
        """Take a task as the gate does: a known one is extended, and keeps its result."""
        if self.seen.get(key) is None:
            self.entries[key] = self.seen.insert(key, until)
            self.until[key] = until
        else:
            self.seen.extend(key, until)
            self.until[key] = max(self.until[key], until)

    @rule(key=KEYS)
    def finish(self, key: TaskKey) -> None:
        """Keep a result."""
        entry = self.seen.get(key)
        if entry is not None:
            entry.body = b"result"

    @rule(key=KEYS)
    def hand_back(self, key: TaskKey) -> None:
        """Forget what never ran."""
        self.seen.remove(key)
        self.until.pop(key, None)

    @rule(passed=TIMES)
    def forget(self, passed: int) -> None:
        """Let time go on."""
        self.highest = max(self.highest, passed)
        self.seen.forget(self.highest)
        self.until = {key: until for key, until in self.until.items() if until >= self.highest}

    @invariant()
    def holds_exactly_what_has_not_passed(self) -> None:
        """Everything that may come again is known, by the very entry that ran, and nothing else."""
        assert len(self.seen) == len(self.until) <= LIMIT
        assert self.seen.full() == (len(self.until) == LIMIT)
        for key in self.until:
            assert self.seen.get(key) is self.entries[key]


TestSeen = Seen.TestCase


def test_task_taken_again_after_it_was_handed_back_is_known_to_its_new_end() -> None:
    seen = SeenTasks()
    key = (b"owner", b"t" * 16)
    seen.insert(key, 10)
    seen.remove(key)
    entry = seen.insert(key, 50)
    seen.forget(20)  # the first one's place in the order of expiry is still there
    assert seen.get(key) is entry


@pytest.mark.parametrize(("highest", "known"), [(9, True), (10, True), (11, False)])
def test_task_is_known_until_its_end_has_passed(highest: int, known: bool) -> None:
    seen = SeenTasks()
    key = (b"owner", b"t" * 16)
    seen.insert(key, 10)
    seen.forget(highest)
    assert (seen.get(key) is not None) is known
