"""Calls of ours that are under way: who waits for which answer, how long, and what is done about silence."""

import asyncio

import msgspec

from agent_runtime.coordination import UnreachableError
from agent_runtime.errors import CallFailedError
from agent_runtime.lingering import Linger
from agent_runtime.membership import Moment
from agent_runtime.outgoing import Outgoing
from agent_runtime.peering import Link
from schemas.errors import Reason
from schemas.peer import Cancel, Confirm, Encoded, Reply, encode_message

LOOK_EVERY = 0.1  # seconds
# Seconds. Who waits for so long or longer has no timer of his own: that look is fine enough.
TIMER_BELOW = 5.0
# Seconds until a peer that does not answer is sent a frame for nothing but the broker's word that it is gone:
# what was on its way when a peer ended is lost without one. Then at twice the age, and so on.
PROBE_AFTER = 0.1


class UnheardError(UnreachableError):
    """The broker says that a peer is gone: the next look-up need not wait."""


class _Waiting(msgspec.Struct, eq=False):
    link: Link
    answer: "asyncio.Future[Reply]"
    asked: float
    until: float
    probe_at: float
    timer: asyncio.TimerHandle | None


class Awaited:
    """The calls of one process that have no answer yet."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        # By peer and request: no peer can answer what another was asked.
        self._waiting: dict[tuple[bytes, bytes], _Waiting] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._linger = Linger()
        self._ended = False

    def ask(
        self, link: Link, request: bytes, call: Encoded, within: float, moment: Moment | None
    ) -> "asyncio.Future[Reply]":
        """Say a call; its answer is the future's, which ends with `UnreachableError` if there is none.

        `moment` is for who asked for it and ran nothing else since.
        """
        if self._ended:
            raise _left()
        # Where no other call is under way, nothing else is about to be said. An answer is read in a later
        # turn: what waits for it is made while the peer works.
        alone = not self._waiting
        self._outgoing.say(link, call, at_once=alone, moment=moment)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()
        now = loop.time()
        timer = loop.call_later(within, self._give_up, link, request) if within < TIMER_BELOW else None
        self._waiting[link.peer.subject, request] = _Waiting(
            link, answer, now, now + within, now + PROBE_AFTER, timer
        )
        if self._looking is None:
            self._looking = loop.call_later(LOOK_EVERY, self._look)
        if alone:
            self._linger.wait(loop, answer.done)
        return answer

    def taken(self, link: Link, request: bytes) -> "asyncio.Future[Reply] | None":
        """Take a call off those that wait; return its future if that waits still."""
        waiting = self._waiting.pop((link.peer.subject, request), None)
        if waiting is None:
            return None
        if waiting.timer is not None:
            waiting.timer.cancel()
        return None if waiting.answer.done() else waiting.answer

    def cancel(self, link: Link, request: bytes) -> None:
        """Let the peer end what it does for a call whose answer nobody waits for any more."""
        self.taken(link, request)
        if not self._ended:
            self._outgoing.say(link, encode_message(Cancel(request)))

    def end(self) -> None:
        """Let peers end what they do for any of them, and tell who waits: this process leaves."""
        self._ended = True
        for (_, request), waiting in list(self._waiting.items()):
            answer = self.taken(waiting.link, request)
            self._outgoing.say(waiting.link, encode_message(Cancel(request)))
            if answer is not None:
                answer.set_exception(_left())
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def unheard(self, left: Link) -> None:
        """Have all that a peer was asked be asked again: the broker says that it is gone."""
        for _, request in [key for key in self._waiting if key[0] == left.peer.subject]:
            self._give_up(left, request, UnheardError("nobody listens"))

    def _look(self) -> None:
        """Give up what has waited for as long as it may, and see if silent peers are there."""
        self._looking = None
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        silent: set[Link] = set()
        for (_, request), waiting in list(self._waiting.items()):
            if now >= waiting.until:
                self._give_up(waiting.link, request)
            elif now >= waiting.probe_at:
                waiting.probe_at = now + (now - waiting.asked)
                silent.add(waiting.link)
        for link in silent:
            self._outgoing.say(link, encode_message(Confirm()))
        self._looking = loop.call_later(LOOK_EVERY, self._look)

    def _give_up(self, link: Link, request: bytes, why: UnheardError | None = None) -> None:
        answer = self.taken(link, request)
        if answer is None:
            return
        if why is None:
            # Silence: the session may be gone on the other side, so the next attempt makes another. If one
            # message was lost, what else was asked on it is still answered, and the peer still heard.
            link.retired = True
        answer.set_exception(why or UnreachableError("no answer"))


def _left() -> CallFailedError:
    return CallFailedError(Reason.UNAVAILABLE, "this process has left the mesh")
