"""Requests of peers: each runs once, replies are kept within their limit, what has passed is forgotten."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime.errors import RefusedError
from agent_runtime.requests import FORGET_LOOKS, RequestMemory
from schemas.errors import PeerError, Reason
from schemas.limits import CALL_DEADLINE_MOST, HOUR, MINUTE
from schemas.messages import Millis
from schemas.peer import Encoded
from sealing.errors import ReplayedError

PEER, OTHER, THIRD = b"p" * 32, b"o" * 32, b"t" * 32


def number(n: int, process: int = 0) -> bytes:
    return process.to_bytes(8, "big") + n.to_bytes(8, "big")


def begin(memory: RequestMemory, peer: bytes, request: bytes, until: Millis = 100) -> Encoded | None:
    return memory.begin(peer, request, until=until, now=0)


def assert_counted(memory: RequestMemory) -> None:
    """Hold what is counted to what is kept."""
    for asked in memory._peers.values():
        ids = {request for process in asked.processes.values() for request in process.ids}
        assert asked.count == sum(len(each.ids) for each in asked.processes.values()) == len(ids)
        assert asked.size == sum(map(len, asked.replies.values()))
        assert asked.replies.keys() <= ids
    assert memory._size == sum(asked.size for asked in memory._peers.values()) <= memory._reply_bytes


def test_repeated_request_gets_its_reply_and_does_not_run_again() -> None:
    memory = RequestMemory()
    assert begin(memory, PEER, number(1)) is None
    with pytest.raises(ReplayedError):
        begin(memory, PEER, number(1))
    memory.finish(PEER, number(1), b"reply")
    assert begin(memory, PEER, number(1)) == b"reply"
    assert begin(memory, OTHER, number(1)) is None


def test_request_is_remembered_until_its_end_has_passed() -> None:
    memory = RequestMemory()
    begin(memory, PEER, number(1))
    memory.finish(PEER, number(1), b"reply")
    memory.forget(100)
    assert begin(memory, PEER, number(1)) == b"reply"
    memory.forget(101)
    assert begin(memory, PEER, number(1), 200) is None
    # What ended after it was forgotten is kept for nobody.
    memory.finish(OTHER, number(2), b"reply")
    assert begin(memory, OTHER, number(2), 200) is None


def test_deadline_further_than_a_call_may_last_is_refused_and_leaves_nothing() -> None:
    memory = RequestMemory()
    with pytest.raises(RefusedError) as refusal:
        memory.begin(PEER, number(1), until=7 + CALL_DEADLINE_MOST + 1, now=7)
    assert refusal.value.reason is Reason.CONSTRAINT_VIOLATED
    assert memory._peers == {}
    assert memory.begin(PEER, number(1), until=7 + CALL_DEADLINE_MOST, now=7) is None


def test_what_runs_is_not_forgotten_before_it_has_ended() -> None:
    memory = RequestMemory(requests=2)
    running = {(PEER, number(1))}
    memory.running = running
    begin(memory, PEER, number(1))
    memory.forget(101)
    with pytest.raises(ReplayedError):
        begin(memory, PEER, number(1), 200)
    # Nor for want of room.
    for n in range(2, 9):
        assert begin(memory, PEER, number(n), 200) is None
        with pytest.raises(ReplayedError, match=r"here before$"):
            begin(memory, PEER, number(1), 200)
    running.add((PEER, number(8)))
    with pytest.raises(RefusedError, match="unavailable"):
        begin(memory, PEER, number(9), 200)
    running.clear()
    memory.forget(201)
    assert memory._peers == {}


def test_replies_are_kept_at_the_cost_of_who_holds_most() -> None:
    memory = RequestMemory(reply_bytes=100)
    for n in range(9):
        begin(memory, PEER, number(n))
        memory.finish(PEER, number(n), bytes(10))
    begin(memory, OTHER, number(0))
    memory.finish(OTHER, number(0), bytes(30))
    assert begin(memory, OTHER, number(0)) == bytes(30)
    for n in (0, 1):
        with pytest.raises(ReplayedError):
            begin(memory, PEER, number(n))
    assert begin(memory, PEER, number(2)) == bytes(10)


def test_one_large_reply_in_a_crowd_costs_few_looks_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def nlargest(count: int, peers: Iterable[Any], key: Callable[[Any], int]) -> list[Any]:
        looks.append(count)
        return sorted(peers, key=key, reverse=True)[:count]

    monkeypatch.setattr("agent_runtime.requests.heapq.nlargest", nlargest)
    memory = RequestMemory(reply_bytes=100_000)
    crowd = [bytes([each]) * 32 for each in range(10)]
    for n in range(1_000):
        for peer in crowd:
            begin(memory, peer, number(n))
            memory.finish(peer, number(n), bytes(10))
    assert looks == []
    begin(memory, PEER, number(0))
    memory.finish(PEER, number(0), bytes(8_000))
    assert_counted(memory)
    assert begin(memory, PEER, number(0)) == bytes(8_000)
    # 800 replies had to go, of ten peers that held the same.
    assert len(looks) <= 800 // 64 + 1
    left = [memory._peers[peer].size for peer in crowd]
    assert max(left) - min(left) <= 2 * 64 * 10


def test_first_reply_of_a_request_is_kept_and_counted_once() -> None:
    memory = RequestMemory(reply_bytes=100)
    begin(memory, PEER, number(1))
    memory.finish(PEER, number(1), bytes(60))
    memory.finish(PEER, number(1), b"another")
    assert begin(memory, PEER, number(1)) == bytes(60)
    assert_counted(memory)
    memory.forget(101)
    assert (memory._size, memory._peers) == (0, {})
    # What is larger than all that may be kept costs nobody else anything in the end.
    begin(memory, PEER, number(2))
    memory.finish(PEER, number(2), bytes(101))
    assert_counted(memory)


def test_room_of_what_was_forgotten_is_free_again() -> None:
    memory = RequestMemory(reply_bytes=100)
    begin(memory, PEER, number(1), 10)
    memory.finish(PEER, number(1), bytes(90))
    begin(memory, PEER, number(2))
    memory.finish(PEER, number(2), bytes(10))
    memory.forget(11)
    # The peer holds 10 bytes now: it is not the one that holds the most.
    for n in (1, 2):
        begin(memory, OTHER, number(n))
        memory.finish(OTHER, number(n), bytes(45))
    assert begin(memory, PEER, number(2)) == bytes(10)
    assert begin(memory, OTHER, number(1)) == bytes(45)
    begin(memory, OTHER, number(3))
    memory.finish(OTHER, number(3), b"+")
    assert begin(memory, PEER, number(2)) == bytes(10)


def test_of_the_revoked_replies_go_and_ids_stay() -> None:
    memory = RequestMemory()
    for peer in (PEER, OTHER):
        begin(memory, peer, number(1))
        memory.finish(peer, number(1), b"reply")
    memory.forget(1, frozenset({PEER, THIRD}))
    assert_counted(memory)
    assert begin(memory, OTHER, number(1)) == b"reply"
    # A later policy may name the instance again.
    with pytest.raises(ReplayedError):
        begin(memory, PEER, number(1))


def test_a_peer_that_asks_for_more_than_can_be_kept_is_answered_and_old_requests_never_run_again() -> None:
    memory = RequestMemory(requests=2)
    for n in range(1, 9):
        assert begin(memory, PEER, number(n), 100 + n) is None
        memory.finish(PEER, number(n), b"reply")
    for n in range(1, 7):
        with pytest.raises(ReplayedError):
            begin(memory, PEER, number(n), 200)
    assert begin(memory, PEER, number(7), 200) == b"reply"
    assert begin(memory, OTHER, number(1)) is None
    assert_counted(memory)
    assert memory._size == 2 * len(b"reply")
    # Another process of the peer counts for itself.
    assert begin(memory, PEER, number(0, 2), 200) is None
    # When the last that was forgotten could not pass the gate any more, neither could the others.
    memory.forget(106)
    with pytest.raises(ReplayedError):
        begin(memory, PEER, number(1), 200)
    memory.forget(300)
    assert memory._peers == {}


def test_who_asks_most_pays_and_many_short_lived_processes_keep_nobody_out() -> None:
    memory = RequestMemory(requests=100)
    for process in range(1, 51):
        begin(memory, PEER, number(1, process), HOUR)
    for n in range(1_000):
        assert begin(memory, PEER, number(n), 30_000) is None
        memory.finish(PEER, number(n), b"reply")
    # None of the others paid for it, and a new one finds room too.
    for process in range(1, 51):
        with pytest.raises(ReplayedError, match=r"here before$"):
            begin(memory, PEER, number(1, process), HOUR)
    assert begin(memory, PEER, number(1, 51), HOUR) is None
    assert begin(memory, PEER, number(999)) == b"reply"


def test_of_two_processes_the_one_that_asks_pays() -> None:
    memory = RequestMemory(requests=5)
    for n in (1, 2, 3):
        begin(memory, PEER, number(n, 1))
    for n in (1, 2, 3):
        begin(memory, PEER, number(n, 2))
    with pytest.raises(ReplayedError, match="too late to tell"):
        begin(memory, PEER, number(1, 2))
    with pytest.raises(ReplayedError, match=r"here before$"):
        begin(memory, PEER, number(1, 1))


def test_what_was_forgotten_early_is_refused_until_the_last_of_it_has_passed() -> None:
    memory = RequestMemory(requests=1)
    begin(memory, PEER, number(1), 300)
    begin(memory, PEER, number(2), 100)
    # This one's process has no id left, and is not forgotten for that.
    begin(memory, PEER, number(1, 2), 100)
    memory.forget(300)
    with pytest.raises(ReplayedError):
        begin(memory, PEER, number(1), 300)
    memory.forget(301)
    assert memory._peers == {}


def test_who_draws_ids_by_chance_may_have_so_many_and_then_no_more() -> None:
    memory = RequestMemory(requests=4, processes=8)
    for process in range(8):
        assert begin(memory, PEER, number(0, process)) is None
    with pytest.raises(RefusedError, match="unavailable"):
        begin(memory, PEER, b"\xff" * 16)
    assert begin(memory, OTHER, b"\xff" * 16) is None
    memory.forget(101)
    assert begin(memory, PEER, b"\xff" * 16, 200) is None


def test_forgetting_looks_at_so_many_at_once_and_gets_through_to_everybody() -> None:
    memory = RequestMemory()
    full = 3 * FORGET_LOOKS
    for n in range(full):
        begin(memory, PEER, number(n))
    # This one's are all in each other's way.
    for process in range(1_000):
        for n in range(20):
            begin(memory, THIRD, number(n, process), HOUR)
    begin(memory, OTHER, number(1))
    kept = [full]
    while PEER in memory._peers or OTHER in memory._peers:
        memory.forget(101)
        kept.append(memory._peers[PEER].count if PEER in memory._peers else 0)
        assert len(kept) < 20
    assert all(former - left <= FORGET_LOOKS for former, left in pairwise(kept))
    assert memory._peers[THIRD].count == 20_000
    assert_counted(memory)


def test_processes_with_much_under_way_keep_none_behind_them_in_memory() -> None:
    looks_at_one = 256
    # So many that one `forget` gets no further than through these.
    busy = FORGET_LOOKS // looks_at_one + 1
    memory = RequestMemory(processes=2 * busy)
    for process in range(busy):
        for n in range(looks_at_one):
            begin(memory, PEER, number(n, process), HOUR)
    for process in range(busy, 2 * busy):
        begin(memory, PEER, number(0, process))
    with pytest.raises(RefusedError, match="unavailable"):
        begin(memory, PEER, number(0, 2 * busy))
    memory.forget(101)
    memory.forget(101)
    assert memory._peers[PEER].processes.keys() == {number(0, process)[:8] for process in range(busy)}
    assert begin(memory, PEER, number(0, 2 * busy), HOUR) is None
    assert_counted(memory)


def test_a_call_with_much_time_is_not_in_the_way_of_what_has_passed() -> None:
    memory = RequestMemory()
    begin(memory, PEER, number(0), HOUR)
    for n in range(1, 9):
        begin(memory, PEER, number(n), MINUTE // 2)
    memory.forget(MINUTE // 2 + 1)
    assert memory._peers[PEER].count == 1


@given(asked=st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 9)), max_size=60))
def test_however_requests_come_none_runs_twice(asked: list[tuple[int, int]]) -> None:
    memory, ran = RequestMemory(requests=3), set()
    for process, n in asked:
        request = number(n, process)
        with suppress(ReplayedError):
            begin(memory, PEER, request)
            assert request not in ran
            ran.add(request)
        assert memory._peers[PEER].count <= 3


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "finish", "end", "forget", "revoke"]),
        st.sampled_from([PEER, OTHER, THIRD]),
        st.integers(0, 4),
        st.sampled_from([0, 1, 2**63]),
        st.integers(0, 40),
    ),
    max_size=80,
)


@given(steps=STEPS)
def test_nothing_runs_twice_at_once_or_before_its_deadline_and_what_is_counted_is_kept(
    steps: list[tuple[str, bytes, int, int, int]],
) -> None:
    # A handler ends when it likes: whether or not its deadline has passed, and answers when it likes, often.
    memory = RequestMemory(reply_bytes=50, requests=4, processes=3)
    running: set[tuple[bytes, bytes]] = set()
    memory.running = running
    first: dict[tuple[bytes, bytes], Millis] = {}
    highest = 0
    for what, peer, n, process, size in steps:
        key = peer, number(n, process)
        if what == "begin":
            with suppress(PeerError):
                if memory.begin(*key, until=highest + size, now=highest) is None:
                    assert key not in running
                    assert highest > first.get(key, -1)
                    running.add(key)
                    first[key] = highest + size
        elif what == "finish":
            memory.finish(*key, bytes(size))
        elif what == "end":
            running.discard(key)
        else:
            highest += size
            memory.forget(highest, {peer} if what == "revoke" else ())
        assert_counted(memory)
        assert all(asked.count <= 4 and len(asked.processes) <= 3 for asked in memory._peers.values())
        # What runs is known.
        for runs, request in running:
            assert request in memory._peers[runs].processes[request[:8]].ids
    running.clear()
    memory.forget(highest + 100)
    assert (memory._size, memory._peers) == (0, {})
