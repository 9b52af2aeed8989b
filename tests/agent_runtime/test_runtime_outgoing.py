"""Messages to peers leave together at the end of a turn."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from agent_runtime.outgoing import FEW, FULL, FULL_OF_LARGE, Outgoing
from agent_runtime.peering import Link, Peering
from agent_runtime.refusals import Refusals
from schemas.errors import Reason, UsageError
from schemas.limits import MAX_BODY
from schemas.peer import MAX_MESSAGES, Parts
from sealing.errors import SealingError
from transport import Transport

pytestmark = pytest.mark.anyio


@dataclass
class Wire:
    """Keeps frames as the lists of messages that they carry, and plays session and broker."""

    frames: list[list[bytes]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    pushed: int = 0
    breathed: int = 0
    busy: bool = False
    refuses: bool = False

    def seal_encoded(
        self, link: Link, count: int, messages: Sequence[bytes], _moment: object = None
    ) -> tuple[str, bytes, bytes]:
        if self.refuses:
            raise SealingError(Reason.NOT_LIVE)
        self.counts.append(count)
        self.frames.append(list(messages))
        return "subject", b"header", b"sealed"

    def post(self, subject: str, *parts: bytes, hint: str) -> bool:
        return self.busy

    def push(self) -> None:
        self.pushed += 1

    async def breathe(self) -> None:
        self.breathed += 1


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def refusals() -> Refusals:
    return Refusals()


@pytest.fixture
def outgoing(wire: Wire, refusals: Refusals) -> Outgoing:
    return Outgoing(cast("Peering", wire), cast("Transport", wire), refusals)


@dataclass(eq=False)
class Peer:
    """All that is asked of a link here."""

    hint: str = "ab"


def link() -> Link:
    return cast("Link", Peer())


async def turn() -> None:
    await asyncio.sleep(0)


async def test_all_of_one_turn_to_one_peer_is_one_frame(wire: Wire, outgoing: Outgoing) -> None:
    vault, linker = link(), link()
    for number in range(3):
        outgoing.say(vault, b"v%d" % number)
        outgoing.say(linker, b"l%d" % number)
    assert wire.frames == []
    await turn()
    assert wire.frames == [[b"v0", b"v1", b"v2"], [b"l0", b"l1", b"l2"]]
    assert wire.pushed == 1
    outgoing.say(vault, b"alone")
    await turn()
    assert wire.frames[2:] == [[b"alone"]]


async def test_no_frame_holds_more_than_a_receiver_takes(wire: Wire, outgoing: Outgoing) -> None:
    vault = link()
    for _ in range(MAX_MESSAGES + 1):
        outgoing.say(vault, b"x")
    outgoing.say(vault, bytes(FULL_OF_LARGE))
    outgoing.say(vault, b"after")
    await turn()
    assert [len(frame) for frame in wire.frames] == [MAX_MESSAGES, 1, 1, 1]
    assert max(len(frame) for frame in wire.frames) <= MAX_MESSAGES


async def test_small_messages_leave_early_and_large_ones_together(wire: Wire, outgoing: Outgoing) -> None:
    vault = link()
    for _ in range(2 * FEW + 1):
        outgoing.say(vault, bytes(FULL // FEW))
    await turn()
    assert [len(frame) for frame in wire.frames] == [FEW, FEW, 1]
    wire.frames.clear()
    for _ in range(9):
        outgoing.say(vault, bytes(FULL_OF_LARGE // 8))
    await turn()
    assert [len(frame) for frame in wire.frames] == [8, 1]


async def test_what_fits_no_frame_is_told_to_who_said_it_and_nobody_else_loses_by_it(
    wire: Wire, outgoing: Outgoing
) -> None:
    outgoing.say(link(), b"before")
    with pytest.raises(UsageError, match="do not fit one message"):
        outgoing.say(link(), bytes(MAX_BODY - 2))
    outgoing.say(link(), bytes(MAX_BODY - 3))
    await turn()
    assert [len(frame[0]) for frame in wire.frames] == [6, MAX_BODY - 3]


async def test_who_says_much_waits_while_the_broker_does_not_read(wire: Wire, outgoing: Outgoing) -> None:
    await outgoing.room()
    assert wire.breathed == 0
    wire.busy = True
    outgoing.say(link(), b"x")
    await turn()
    await outgoing.room()
    assert wire.breathed == 1


async def test_what_a_session_refuses_is_counted_and_the_rest_goes_out(
    wire: Wire, outgoing: Outgoing, refusals: Refusals
) -> None:
    wire.refuses = True
    outgoing.say(link(), b"x")
    await turn()
    assert refusals.counts["send", "not-live"] == 1
    wire.refuses = False
    outgoing.say(link(), b"y")
    await turn()
    assert wire.frames == [[b"y"]]


async def test_what_is_said_in_a_read_leaves_with_its_end(wire: Wire, outgoing: Outgoing) -> None:
    outgoing.reading = True
    vault = link()
    outgoing.say(vault, b"one")
    outgoing.say(vault, b"two", at_once=True)
    assert wire.frames == []
    outgoing.flush()
    assert (wire.frames, wire.pushed) == ([[b"one", b"two"]], 1)
    await turn()
    assert wire.pushed == 1


async def test_what_nobody_shares_a_turn_with_leaves_at_once(wire: Wire, outgoing: Outgoing) -> None:
    vault = link()
    outgoing.say(vault, b"alone", at_once=True)
    assert (wire.frames, wire.pushed) == ([[b"alone"]], 1)
    # Somebody else was first after all: order holds, and they go together.
    outgoing.say(vault, b"first")
    outgoing.say(vault, b"second", at_once=True)
    await turn()
    assert wire.frames[1:] == [[b"first", b"second"]]


async def test_every_frame_that_leaves_ends_a_turn(wire: Wire, outgoing: Outgoing) -> None:
    vault = link()
    before = outgoing.ended
    outgoing.say(vault, b"x", at_once=True)
    outgoing.say(vault, b"y")
    assert outgoing.ended == before + 1
    await turn()
    assert outgoing.ended == before + 2


@pytest.mark.parametrize(("said", "reading", "waits"), [(1, True, 1), (2, True, 0), (1, False, 0)])
async def test_who_answered_one_alone_waits_awake_for_the_next_read(
    outgoing: Outgoing, monkeypatch: pytest.MonkeyPatch, said: int, reading: bool, waits: int
) -> None:
    waited: list[Callable[[], bool]] = []
    monkeypatch.setattr(outgoing._linger, "wait", lambda _loop, done: waited.append(done))
    outgoing.reading, vault = reading, link()
    for _ in range(said):
        outgoing.say(vault, b"answer")
    outgoing.flush()
    assert len(waited) == waits
    assert not any(done() for done in waited)
    outgoing.flush()
    assert all(done() for done in waited)


async def test_a_message_in_parts_is_one_message_of_its_frame(wire: Wire, outgoing: Outgoing) -> None:
    vault, apart = link(), Parts(b"he", b"", b"ad", bytes(FULL_OF_LARGE - 4))
    for _ in range(2):
        outgoing.say(vault, b"small")
        outgoing.say(vault, apart)
    await turn()
    assert wire.counts == [1, 1, 1, 1]
    assert [b"".join(frame) for frame in wire.frames] == [b"small", b"".join(apart.parts)] * 2
