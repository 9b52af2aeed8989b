"""Calls that are asked again: none runs twice, and answers to repeats cost no more than they may."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from agent_runtime.handlers import Ended
from agent_runtime.outgoing import Outgoing
from agent_runtime.peering import Link
from agent_runtime.refusals import Refusals
from agent_runtime.requests import RequestMemory
from agent_runtime.serving import Serving
from schemas.errors import Reason
from schemas.granted import Granted
from schemas.limits import CALL_DEADLINE_MOST, HOUR, KEPT_PER_TURN, MINUTE
from schemas.messages import Millis
from schemas.peer import Call, Reply, array_head, decode_messages

pytestmark = pytest.mark.anyio

PEER = b"p" * 32
LARGE = 900_000


def number(n: int) -> bytes:
    return b"process1" + n.to_bytes(8, "big")


class Callee:
    """What serves calls, with all around it that says and refuses; handlers do as a test tells them."""

    def __init__(self, memory: RequestMemory) -> None:
        self.now: Millis = 1_000
        self.said: list[tuple[Link, Reply]] = []
        self.runs: Counter[bytes] = Counter()
        self.refusals = Refusals()
        self.busy = False
        self.breathing: list[asyncio.Event] = []
        self.memory = memory
        self.handler: Callable[[Call], Awaitable[bytes]] = self.answer
        self.outgoing = Outgoing(cast("Any", self), cast("Any", self), self.refusals)
        membership = SimpleNamespace(clock=_Clock(self))
        self.serving = Serving(
            cast("Any", membership),
            cast("Any", SimpleNamespace(call=lambda *_: None)),
            memory,
            self.outgoing,
            self.refusals,
            self.serve,
            cast("Any", None),
            cast("Any", None),
        )

    async def serve(self, _link: Link, call: Call, _granted: Granted) -> Ended:
        self.runs[call.request] += 1
        return Ended("", "", await self.handler(call))

    async def answer(self, call: Call) -> bytes:
        return bytes(call.arguments)

    # As session and broker.

    def seal_encoded(
        self, link: Link, count: int, messages: Sequence[bytes], _moment: object = None
    ) -> tuple[str, bytes, bytes]:
        for reply in decode_messages(array_head(count) + b"".join(messages)):
            assert isinstance(reply, Reply)
            self.said.append((link, reply))
        return "subject", b"header", b"sealed"

    def post(self, _subject: str, *_parts: bytes, hint: str) -> bool:
        return self.busy

    def push(self) -> None:
        pass

    async def breathe(self) -> None:
        breath = asyncio.Event()
        self.breathing.append(breath)
        await breath.wait()

    # As caller.

    def link(self) -> Link:
        peer = SimpleNamespace(subject=PEER, expires=2)
        return cast(
            "Link",
            _Link(peer=peer, peer_role="desk", own_role="vault", received=self.now, hint="ab"),
        )

    def ask(self, link: Link, n: int, within: Millis = MINUTE, arguments: bytes = b"value") -> None:
        link.received = self.now
        self.serving.called(link, Call(number(n), "tool", arguments, self.now + within, None))

    def answers(self) -> list[tuple[str, bytes]]:
        """Return what was said since somebody last asked, as reasons and values."""
        said, self.said = self.said, []
        return [(reply.reason, bytes(reply.value)) for _, reply in said]


class _Clock:
    def __init__(self, callee: Callee) -> None:
        self._callee = callee

    def now(self) -> Millis:
        return self._callee.now

    @property
    def latest(self) -> Millis:
        return self._callee.now


class _Link(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


@asynccontextmanager
async def serving(memory: RequestMemory | None = None) -> AsyncIterator[Callee]:
    callee = Callee(memory or RequestMemory())
    async with anyio.create_task_group() as tasks:
        callee.serving.start(tasks)
        await settled()
        yield callee
        tasks.cancel_scope.cancel()


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_call_that_runs_is_run_once_whatever_becomes_of_its_callers_admission() -> None:
    async with serving() as callee:
        release = asyncio.Event()

        async def wait(_call: Call) -> bytes:
            await release.wait()
            return b"waited"

        callee.handler = wait
        callee.ask(callee.link(), 1, 2 * MINUTE)
        # The admission of its first session ended long ago: the caller has been renewed, and asks again.
        callee.now += MINUTE
        callee.memory.forget(callee.now)
        again = callee.link()
        callee.ask(again, 1, MINUTE)
        await settled()
        assert callee.runs == {number(1): 1}
        assert callee.answers() == []
        assert len(callee.serving._running) == 1
        release.set()
        await settled()
        assert callee.answers() == [("", b"waited")]
        assert callee.serving._running == {}
        callee.memory.forget(callee.now)
        callee.ask(again, 1, MINUTE)
        await settled()
        assert callee.answers() == [("", b"waited")]
        assert callee.runs == {number(1): 1}


@pytest.mark.parametrize("by", ["cancel", "deadline"])
async def test_handler_that_does_not_end_when_it_is_told_to_keeps_its_id(by: str) -> None:
    async with serving() as callee:
        release, told = asyncio.Event(), asyncio.Event()

        async def stay(_call: Call) -> bytes:
            try:
                await release.wait()
            except asyncio.CancelledError:
                told.set()
                await release.wait()
            return b"late"

        callee.handler = stay
        link = callee.link()
        callee.ask(link, 1, 1)
        await settled()
        if by == "cancel":
            callee.serving.cancelled(link, number(1))
        with anyio.fail_after(10):
            await told.wait()
        callee.now += MINUTE
        callee.memory.forget(callee.now)
        # Its caller has another deadline now. It must not run beside itself.
        callee.ask(link, 1, MINUTE)
        await settled()
        assert callee.runs == {number(1): 1}
        assert callee.answers() == []
        release.set()
        await settled()
        assert callee.serving._running == {}
        assert callee.refusals.counts["reply", Reason.DEADLINE_PASSED.value] == 1


async def test_call_that_was_cancelled_before_it_began_leaves_nothing_behind() -> None:
    async with serving() as callee:
        link = callee.link()
        async with anyio.create_task_group() as tasks:

            async def ask_and_cancel() -> None:
                # From within a task: a worker makes the first step, later.
                callee.ask(link, 1)
                callee.serving.cancelled(link, number(1))

            tasks.start_soon(ask_and_cancel)
        await settled()
        assert callee.runs == {}
        assert callee.serving._running == {}


async def test_call_that_was_forgotten_for_want_of_room_is_told_so() -> None:
    async with serving(RequestMemory(requests=2)) as callee:
        link = callee.link()
        for n in range(1, 5):
            callee.ask(link, n)
            await settled()
        assert callee.answers() == [("", b"value")] * 4
        callee.ask(link, 1)
        await settled()
        assert callee.answers() == [("replayed", b"")]
        assert callee.runs.total() == 4


async def test_repeat_whose_reply_is_not_kept_is_told_so() -> None:
    async with serving(RequestMemory(reply_bytes=1)) as callee:
        link = callee.link()
        for _ in range(2):
            callee.ask(link, 1)
            await settled()
        assert callee.answers() == [("", b"value"), ("replayed", b"")]
        assert callee.runs == {number(1): 1}


async def test_deadline_that_is_too_far_is_refused_and_the_same_call_with_another_runs() -> None:
    async with serving() as callee:
        link = callee.link()
        callee.ask(link, 1, CALL_DEADLINE_MOST + 1)
        await settled()
        assert callee.answers() == [("constraint-violated", b"")]
        callee.ask(link, 1, HOUR)
        await settled()
        assert callee.answers() == [("", b"value")]


async def test_repeat_of_what_was_turned_away_gets_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as callee:
        monkeypatch.setattr(callee.serving._pool, "offer", lambda _work: None)
        link = callee.link()
        callee.ask(link, 1)
        await settled()
        monkeypatch.undo()
        callee.ask(link, 1)
        await settled()
        assert callee.answers() == [("unavailable", b"")] * 2
        assert callee.runs == {}


async def test_kept_reply_is_said_once_a_turn_on_a_session_however_often_it_is_asked_for() -> None:
    async with serving() as callee:
        link, other = callee.link(), callee.link()
        callee.ask(link, 1, arguments=bytes(LARGE))
        await settled()
        callee.said.clear()
        for turn in range(1, 4):
            # What one read brings: eight frames of as many repeats as fit.
            callee.outgoing.reading = True
            for _ in range(8 * 256):
                callee.ask(link, 1)
            callee.ask(other, 1)
            callee.outgoing.flush()
            assert [to for to, _ in callee.said] == [link, other] * turn
        assert callee.refusals.counts["repeat", "flood"] == 3 * (8 * 256 - 1)


async def test_what_is_said_again_in_one_turn_is_bounded_and_the_rest_is_for_another() -> None:
    async with serving() as callee:
        link = callee.link()
        for n in range(20):
            callee.ask(link, n, arguments=bytes(LARGE))
        await settled()
        callee.said.clear()
        callee.outgoing.reading = True
        for n in range(20):
            callee.ask(link, n)
        callee.outgoing.flush()
        said = sum(len(value) for _, value in callee.answers())
        assert KEPT_PER_TURN - LARGE - 1_000 < said <= KEPT_PER_TURN
        callee.ask(link, 19)
        await settled()
        assert [len(value) for _, value in callee.answers()] == [LARGE]


async def test_nothing_is_said_again_while_the_broker_does_not_read_and_somebody_sees_when_it_does() -> None:
    async with serving() as callee:
        links = [callee.link() for _ in range(3)]
        callee.ask(links[0], 1, arguments=bytes(LARGE))
        await settled()
        callee.said.clear()
        callee.busy = True
        for read in range(100):
            for link in links:
                callee.ask(link, 1)
                callee.ask(link, 2 + read)
            await settled()
        kept = [value for _, value in callee.answers() if len(value) == LARGE]
        # Those of the turn in which it ceased to.
        assert len(kept) <= len(links)
        assert callee.refusals.counts["repeat", "flood"] >= 3 * 100 - len(links) - 1
        callee.busy = False
        for breath in callee.breathing:
            breath.set()
        await settled()
        assert not callee.outgoing.congested
        callee.said.clear()
        callee.ask(links[0], 1)
        await settled()
        assert [len(value) for _, value in callee.answers()] == [LARGE]


async def test_repeat_of_what_filled_the_way_is_answered_once_the_broker_has_read_it() -> None:
    async with serving() as callee:
        link = callee.link()
        callee.busy = True
        callee.ask(link, 1, arguments=bytes(LARGE))
        await settled()
        callee.said.clear()
        callee.busy = False
        # It may have been read long ago: nobody has looked since.
        for _ in range(3):
            callee.ask(link, 1)
        await settled()
        assert (callee.answers(), len(callee.breathing)) == ([], 1)
        callee.breathing[0].set()
        await settled()
        assert [len(value) for _, value in callee.answers()] == [LARGE]
        assert callee.refusals.counts == {("repeat", "flood"): 2}
