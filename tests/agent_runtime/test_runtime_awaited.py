"""Calls under way: each ends once, by its answer or by what is done about silence."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from agent_runtime import awaited
from agent_runtime.awaited import Awaited, UnheardError
from agent_runtime.coordination import UnreachableError
from agent_runtime.errors import CallFailedError
from agent_runtime.outgoing import Outgoing
from agent_runtime.peering import Link
from schemas.errors import Reason
from schemas.peer import Cancel, Confirm, Encoded, Reply, encode_message

pytestmark = pytest.mark.anyio

LONG = 60.0


@dataclass
class Said:
    """All that is asked of what goes out."""

    messages: list[tuple[Link, Encoded]] = field(default_factory=list)
    at_once: list[bool] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, link: Link, message: Encoded, *, at_once: bool = False, moment: object = None) -> None:
        self.messages.append((link, message))
        self.at_once.append(at_once)
        self.heard.set()

    def told(self) -> list[Encoded]:
        """Return what was said since somebody last asked."""
        said, self.messages = self.messages, []
        return [message for _, message in said]


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def calls(said: Said) -> Awaited:
    return Awaited(cast("Outgoing", said))


def link(peer: bytes = b"peer") -> Link:
    return cast("Link", _Link(peer=SimpleNamespace(subject=peer), retired=False))


class _Link(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


def ask(calls: Awaited, to: Link, request: bytes = b"1", within: float = LONG) -> "asyncio.Future[Reply]":
    return calls.ask(to, request, b"call", within, None)


async def test_an_answer_is_taken_once_and_by_who_was_asked(calls: Awaited) -> None:
    to = link()
    answer = ask(calls, to)
    assert calls.taken(link(b"other"), b"1") is None
    assert calls.taken(to, b"2") is None
    # The peer may have another session by now.
    assert calls.taken(link(), b"1") is answer
    assert calls.taken(to, b"1") is None


async def test_only_a_call_by_itself_spares_the_turn(calls: Awaited, said: Said) -> None:
    to = link()
    for request in (b"1", b"2"):
        ask(calls, to, request)
    calls.taken(to, b"1")
    ask(calls, to, b"3")
    calls.taken(to, b"2")
    calls.taken(to, b"3")
    ask(calls, to, b"4")
    assert said.at_once == [True, False, False, True]


async def test_silence_ends_a_call_and_leaves_its_session(calls: Awaited) -> None:
    to = link()
    answer = ask(calls, to, within=0.0)
    with pytest.raises(UnreachableError):
        await answer
    assert to.retired
    assert calls.taken(to, b"1") is None


async def test_who_has_no_timer_of_his_own_is_told_all_the_same(
    calls: Awaited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaited, "TIMER_BELOW", 0.0)
    to = link()
    one, other = ask(calls, to, b"1", within=0.0), ask(calls, to, b"2", within=LONG)
    async with asyncio.timeout(LONG):
        with pytest.raises(UnreachableError):
            await one
    assert not other.done()


async def test_a_peer_that_is_gone_ends_what_it_was_asked_and_nothing_else(calls: Awaited) -> None:
    gone, there = link(), link(b"other")
    ended, goes_on = ask(calls, gone), ask(calls, there)
    gone.retired = True  # as whoever heard of it has done
    calls.unheard(gone)
    with pytest.raises(UnheardError):
        await ended
    assert not goes_on.done()
    assert not there.retired


@pytest.mark.parametrize("silent", [False, True])
async def test_who_gives_up_says_so_even_while_he_waits_to_ask_again(
    calls: Awaited, said: Said, silent: bool
) -> None:
    to = link()
    answer = ask(calls, to, within=0.0 if silent else LONG)
    if silent:
        with pytest.raises(UnreachableError):
            await answer
    else:
        answer.cancel()
    said.told()
    calls.cancel(to, b"1")
    assert said.told() == [encode_message(Cancel(b"1"))]
    assert calls.taken(to, b"1") is None


async def test_who_leaves_ends_all_at_the_peers_and_here(calls: Awaited, said: Said) -> None:
    to = link()
    answers = [ask(calls, to, request) for request in (b"1", b"2")]
    answers[0].cancel()  # its task was cancelled and has not run since
    said.told()
    calls.end()
    assert said.told() == [encode_message(Cancel(request)) for request in (b"1", b"2")]
    with pytest.raises(CallFailedError) as failure:
        await answers[1]
    assert failure.value.reason is Reason.UNAVAILABLE
    # What was said is not said again, and nothing new: nobody would be here for an answer.
    calls.cancel(to, b"1")
    calls.end()
    with pytest.raises(CallFailedError):
        ask(calls, to)
    assert said.told() == []


async def test_a_silent_peer_is_sent_something_for_the_brokers_word_that_it_is_gone(
    calls: Awaited, said: Said
) -> None:
    to = link()
    ask(calls, to)
    said.told()
    said.heard.clear()
    async with asyncio.timeout(LONG):
        await said.heard.wait()
    assert said.told() == [encode_message(Confirm())]
