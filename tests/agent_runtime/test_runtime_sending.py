"""One-way messages of several kinds, in turns that end when they like: each leaves once, in order."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime.calls import Calls
from agent_runtime.gate import Way
from agent_runtime.outgoing import Outgoing
from agent_runtime.peering import Link, Peering
from agent_runtime.refusals import Refusals
from agent_runtime.trust import Trust
from schemas.documents import Constraints
from schemas.errors import UsageError
from schemas.granted import Granted
from schemas.limits import MAX_BODY
from schemas.peer import MAX_MESSAGES, Send, array_head, decode_messages
from transport import Transport

KINDS = {"note": 0, "memo": 1, "entry": 0}  # with the session that each goes on
SIZES = st.sampled_from([0, 10, 3_000, 70_000, 140_000, 400_000])
SENDING = st.tuples(st.sampled_from(sorted(KINDS)), SIZES)
# What comes between two messages: the turn ends, the loop runs, a read begins, the broker will not read what
# leaves next, or did not read what left last.
BETWEEN = st.sampled_from(["flush", "yield", "read", "slow", "congested"])


@dataclass
class Wire:
    """Keeps what each frame said, and plays session, broker, clock and links."""

    said: list[tuple[Link, str, bytes]] = field(default_factory=list)
    congested: bool = False

    def seal_encoded(
        self, link: Link, count: int, messages: Sequence[bytes], _moment: object = None
    ) -> tuple[str, bytes, bytes]:
        assert 0 < count == len(messages) <= MAX_MESSAGES
        body = b"".join((array_head(count), *messages))
        assert len(body) <= MAX_BODY
        for each in decode_messages(body):
            assert isinstance(each, Send)
            self.said.append((link, each.kind, bytes(each.payload)))
        return "subject", b"", b""

    def post(self, subject: str, *parts: bytes, hint: str) -> bool:
        return self.congested

    def push(self) -> None:
        self.congested = False

    async def breathe(self) -> None:
        await asyncio.sleep(0)

    def now(self) -> int:
        return 0

    def is_only(self, way: Way) -> bool:
        return True


class Sender:
    """Calls with stand-ins for all that they stand on."""

    def __init__(self) -> None:
        self.wire, self.links = Wire(), [cast("Link", _Link()) for _ in range(2)]
        self.outgoing = Outgoing(cast("Peering", self.wire), cast("Transport", self.wire), Refusals())
        self.calls = Calls.__new__(Calls)
        given: Any = self.calls
        given._outgoing, given._routes, given._routes_of = self.outgoing, {}, -1
        given._membership, given.links = _Clocked(self.wire), self.wire
        self.wire.direct = lambda way: self.links[KINDS[way.role]]  # type: ignore[attr-defined]

    async def send(self, kind: str, value: bytes, within: float = 30) -> None:
        if not self.calls.send_on(kind, value):
            way = Way("desk", kind, Granted(kind, Constraints()), cast("Trust", None), 0)
            payload = b"\xc6" + len(value).to_bytes(4, "big") + value
            await self.calls.send(way, kind, payload, within=within)

    async def between(self, what: str) -> None:
        if what == "flush":
            self.outgoing.flush()
        elif what == "yield":
            await asyncio.sleep(0)
        elif what == "read":
            self.outgoing.reading = True
        elif what == "slow":
            self.wire.congested = True
        else:
            self.outgoing.congested = True


class _Link:
    hint = ""
    retired = False


@dataclass
class _Clocked:
    clock: Wire


@pytest.mark.parametrize("tasks", [1, 3])
@given(steps=st.lists(SENDING | BETWEEN, min_size=1, max_size=40))
def test_each_message_leaves_once_in_order_on_its_session(tasks: int, steps: list[Any]) -> None:
    async def work() -> None:
        sender = Sender()
        wanted: dict[int, list[tuple[Link, str, bytes]]] = {}

        async def one(number: int) -> None:
            for index, step in enumerate(steps):
                if isinstance(step, str):
                    await sender.between(step)
                    continue
                kind, size = step
                value = bytes([number, index]) + bytes(size)
                wanted.setdefault(number, []).append((sender.links[KINDS[kind]], kind, value))
                await sender.send(kind, value)

        await asyncio.gather(*(one(number) for number in range(tasks)))
        sender.outgoing.flush()
        heard = [(link, kind, _value(payload)) for link, kind, payload in sender.wire.said]
        assert len(heard) == sum(map(len, wanted.values()))
        for number, sent in wanted.items():
            for link in sender.links:
                here = [each for each in heard if each[0] is link and each[2][0] == number]
                assert here == [each for each in sent if each[0] is link]

    asyncio.run(work())


def _value(payload: bytes) -> bytes:
    return payload[{0xC4: 2, 0xC5: 3, 0xC6: 5}[payload[0]] :]


def test_a_kind_whose_turn_is_over_is_not_said_into_what_has_left() -> None:
    """Congestion between two kinds: what one of them had filled has left when the other has made room."""

    async def work() -> None:
        sender = Sender()
        await sender.send("note", b"1")
        await sender.between("congested")
        await sender.send("memo", b"2")
        await sender.send("note", b"3")
        sender.outgoing.flush()
        assert [_value(payload) for _, _, payload in sender.wire.said] == [b"1", b"2", b"3"]

    asyncio.run(work())


def test_a_time_that_has_passed_is_refused_with_what_to_give_and_none_at_all_is_not() -> None:
    async def scenario() -> None:
        sender = Sender()
        for within in (-1, -0.001, float("-inf")):
            with pytest.raises(UsageError, match="seconds from now, 0 or more"):
                await sender.send("note", b"x", within)
            way = Way("desk", "read", Granted("note", Constraints()), cast("Trust", None), 0)
            with pytest.raises(UsageError, match="seconds from now, 0 or more"):
                await sender.calls.call(way, "read", b"\xc0", within=within, idempotency=None)
        await sender.send("note", b"x", 0)
        sender.outgoing.flush()
        assert len(sender.wire.said) == 1

    asyncio.run(scenario())
