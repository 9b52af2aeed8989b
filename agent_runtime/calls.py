"""The shell around peer sessions: tool calls and one-way messages out; what comes in, sorted.

A call goes to one instance of the role that offers the tool, on the session with it that was completed
last; where there is none, one is made. A call that got no answer is asked again, under the same request
id, so that its handler does not run twice.
"""

import asyncio
from typing import Any

import anyio
from anyio.abc import TaskGroup

from agent_runtime.agent import encode_value
from agent_runtime.coordination import Coordination, UnreachableError
from agent_runtime.errors import CallFailedError, RefusedError
from agent_runtime.gate import Gate, Way
from agent_runtime.links import Links
from agent_runtime.listings import Listings
from agent_runtime.membership import Membership
from agent_runtime.outgoing import FULL_OF_LARGE, Batch, Outgoing
from agent_runtime.peering import Link, Peering
from agent_runtime.refusals import REFUSED, Refusals
from agent_runtime.serving import ContextOf, ServeCall, Serving, TakeMessage
from schemas.errors import Reason, UsageError
from schemas.limits import CALL_LONGEST, SECOND
from schemas.peer import MAX_MESSAGES, Call, Cancel, Confirm, Reopen, Reply, Send, encode_message
from transport import Transport

CALL_SECONDS = CALL_LONGEST // SECOND  # that a call may take
ATTEMPT_DEADLINE = 5.0  # seconds without an answer before the call is asked again elsewhere
# Seconds until a peer that does not answer is sent a frame for nothing but the broker's word that it is gone:
# what was on its way when a peer ended is lost without one. Then at twice the age, and so on.
PROBE_AFTER = 0.1
_ON_MOST = FULL_OF_LARGE // 2  # bytes of payload with which a message goes the way of another of its turn
LOOK_AGAIN = 0.2  # seconds until a role that nobody holds, or that does not answer, is looked up again


class _UnheardError(UnreachableError):
    """The broker says that a peer is gone: the next look-up need not wait."""


class _Waiting:
    """A call without an answer. It has a timer of its own only where the sweep would be too coarse."""

    __slots__ = ("_asked", "_probe_at", "_timer", "_until", "answer", "link")

    def __init__(self, link: Link, answer: "asyncio.Future[Reply]", within: float) -> None:
        loop = asyncio.get_running_loop()
        self.link = link
        self.answer = answer
        self._asked = loop.time()
        self._probe_at = self._asked + PROBE_AFTER
        self._until = self._asked + within
        self._timer = loop.call_later(within, self.give_up) if within < ATTEMPT_DEADLINE else None

    def sweep(self, now: float) -> None:
        """Give up if it is time to."""
        if now >= self._until:
            self.give_up()

    def is_silent(self, now: float) -> bool:
        """Tell whether it is time to see if anybody is there."""
        if now < self._probe_at:
            return False
        self._probe_at = now + (now - self._asked)
        return True

    def give_up(self, why: type[Exception] = TimeoutError) -> None:
        """End the wait with an error."""
        if not self.answer.done():
            self.answer.set_exception(why("no answer"))

    def done(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()


class Calls:
    """The calls and messages of one process on its sessions with peers."""

    def __init__(
        self,
        coordination: Coordination,
        membership: Membership,
        gate: Gate,
        peering: Peering,
        transport: Transport,
        refusals: Refusals,
        serve: ServeCall,
        take: TakeMessage,
        context_of: ContextOf,
    ) -> None:
        self._membership = membership
        self._gate = gate
        self._peering = peering
        self._refusals = refusals
        # An id is this process and a number: who answers forgets old ones by it.
        self._process, self._asked = coordination.party.random(8), 0
        # By peer and request: no peer can answer, or cancel, what is another's.
        self._waiting: dict[tuple[bytes, bytes], _Waiting] = {}
        self._probing: asyncio.TimerHandle | None = None
        self._outgoing = Outgoing(peering, transport, refusals)
        # By kind of message, while a turn lasts: all that was asked for one message holds for the next.
        self._routes: dict[str, tuple[int, Batch]] = {}
        self._routes_of = -1
        self.listings = Listings(coordination, membership, refusals)
        self.links = Links(
            membership, self.listings, peering, transport, self._outgoing, refusals, self._frame
        )
        transport.after_reading(self._outgoing.flush)
        self.serving = Serving(
            membership, gate, peering.requests, self._outgoing, refusals, serve, take, context_of
        )

    def start(self, tasks: TaskGroup) -> None:
        """Run the handlers of what comes in, and what answers inits, in `tasks`."""
        self.links.start(tasks)
        self.serving.start(tasks)

    async def call(
        self, way: Way, tool: str, arguments: bytes, *, within: float, idempotency: bytes | None
    ) -> bytes:
        """Call a tool and return its value's bytes, or raise `CallFailedError` or what forbids it."""
        _check_within(within)
        if len(arguments) > way.granted.most or way.granted.is_timed:
            way = way.of_size(len(arguments))
        deadline = way.now + int(within * SECOND)
        self._asked += 1
        request = self._process + self._asked.to_bytes(8, "big")
        call = Call(request, tool, arguments, deadline, idempotency)
        tried: set[bytes] = set()
        link, remaining = self.links.direct(way), within
        while True:
            if remaining <= 0:
                raise CallFailedError(Reason.DEADLINE_PASSED, f"no answer from {tool}")
            try:
                if link is None:
                    link = await self.links.find(way, tried)
                reply = await self._ask(link, call, min(ATTEMPT_DEADLINE, remaining))
                if reply.reason == Reason.QUARANTINED:
                    # It heard of it before we did: another instance takes the call.
                    tried.add(link.peer.subject)
                    raise UnreachableError("the instance takes nothing new")
            except (UnreachableError, RefusedError) as error:
                # A call that is under way while we are not live is asked again once we are.
                if isinstance(error, RefusedError) and error.reason is not Reason.NOT_LIVE:
                    raise
                # The peer may have restarted as another instance: look it up again.
                self.listings.look_up_again(way.role)
                if not isinstance(error, _UnheardError):
                    await anyio.sleep(min(LOOK_AGAIN, remaining))
                link, remaining = None, (deadline - self._membership.clock.now()) / SECOND
                continue
            if reply.reason:
                known = reply.reason in set(Reason)
                raise CallFailedError(Reason(reply.reason) if known else Reason.HANDLER_FAILED, reply.detail)
            return reply.value

    def send_on(self, kind: str, value: Any) -> bool:
        """Send a message the way that another of its kind went in this turn, if one did and there is room."""
        outgoing = self._outgoing
        if self._routes_of != outgoing.ended:
            self._routes.clear()
            return False
        route = self._routes.get(kind)
        if route is None or outgoing.congested:
            return False
        most, batch = route
        payload = encode_value(value)
        if len(payload) > most:
            return False
        # Thousands of these leave in one turn: what `say` would look up for each is known here.
        message = encode_message(Send(kind, payload))
        size = batch.size + len(message)
        if size > FULL_OF_LARGE or len(batch.messages) >= MAX_MESSAGES:
            outgoing.send(batch)
            size = len(message)
        batch.messages.append(message)
        batch.size = size
        return True

    async def send(self, way: Way, kind: str, payload: bytes, *, within: float) -> None:
        """Send a message that nobody answers; return when it is on its way, or raise what forbids it.

        `CallFailedError` if no instance of the role that takes it has a session with us in `within` seconds.
        """
        _check_within(within)
        way = way.of_size(len(payload))
        clock = self._membership.clock
        deadline = clock.now() + int(within * SECOND)
        tried: set[bytes] = set()
        while True:
            try:
                link = self.links.direct(way) or await self.links.find(way, tried)
            except UnreachableError as error:
                remaining = (deadline - clock.now()) / SECOND
                if remaining <= 0:
                    raise CallFailedError(Reason.UNAVAILABLE, f"nobody takes {kind} messages") from error
                self.listings.look_up_again(way.role)
                await anyio.sleep(min(LOOK_AGAIN, remaining))
                continue
            await self._outgoing.room()
            self._outgoing.say(link, encode_message(Send(kind, payload)), awaited=False)
            # Where there are several instances, each of a turn's messages is to find its own; and a turn may
            # last longer than a grant that looks at the clock.
            if self.links.is_only(way) and not (way.granted.checks_arguments or way.granted.is_timed):
                if self._routes_of != self._outgoing.ended:
                    # Ways of an earlier turn end in batches that have left.
                    self._routes.clear()
                    self._routes_of = self._outgoing.ended
                most = min(way.granted.most, _ON_MOST)
                self._routes[kind] = most, self._outgoing.batch(link)
            return

    def unheard(self, hint: str) -> None:
        """Take the broker's word that nobody listens: look earlier for who does, and lose nothing if it lied.

        What waits for an answer of a peer that seems to be gone is asked again, by the same id.
        """
        left = self.links.unheard(hint)
        if left is None:
            return
        self._routes.clear()
        for (asked, _), waiting in self._waiting.items():
            if asked == left.peer.subject:
                waiting.give_up(_UnheardError)

    def _probe(self) -> None:
        self._probing = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            now = loop.time()
            for link in {each.link for each in self._waiting.values() if each.is_silent(now)}:
                self._outgoing.say(link, encode_message(Confirm()))
            self._probing = loop.call_later(PROBE_AFTER, self._probe)

    async def sweep(self) -> None:
        """Give up calls without an answer, and drop ended sessions."""
        now = asyncio.get_running_loop().time()
        for waiting in list(self._waiting.values()):
            waiting.sweep(now)
        if await self.links.sweep():
            self._routes.clear()

    def flush(self) -> None:
        """Send what this turn has said so far."""
        self._outgoing.flush()

    async def drop_all(self) -> None:
        """End every session: at the end, or when another coordinator's term began."""
        self._routes.clear()
        await self.links.drop_all()

    async def _ask(self, link: Link, call: Call, within: float) -> Reply:
        if self._outgoing.congested:
            await self._outgoing.room()
            if link.retired:
                # Left meanwhile: nobody would tell this call of it, for it waits for nothing yet.
                raise _UnheardError("the session was left while the broker did not read")
        # Where no other call is under way, nothing else is about to be said. An answer is read in a later
        # turn: what waits for it is made while the peer works.
        self._outgoing.say(link, encode_message(call), at_once=not self._waiting)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()
        key = (link.peer.subject, call.request)
        waiting = self._waiting[key] = _Waiting(link, answer, within)
        if self._probing is None:
            self._probing = loop.call_later(PROBE_AFTER, self._probe)
        try:
            return await answer
        except TimeoutError as error:
            # Silence: the session may be gone on the other side, so the next attempt makes another. If one
            # message was lost, what else was asked on it is still answered, and the peer still heard.
            link.retired = True
            raise UnreachableError("no answer") from error
        except anyio.get_cancelled_exc_class():
            self._outgoing.say(link, encode_message(Cancel(call.request)))
            raise
        finally:
            waiting.done()
            self._waiting.pop(key, None)

    def _frame(self, frame: memoryview) -> None:
        self._outgoing.reading = True
        try:
            link, messages = self._peering.receive(frame)
        except REFUSED as error:
            self._refusals.caught("session", error)
            return
        sent: list[Send] = []
        for message in messages:
            if isinstance(message, Send):
                sent.append(message)
                continue
            if sent:
                self.serving.sent(link, sent)
                sent = []
            if isinstance(message, Reply):
                waiting = self._waiting.get((link.peer.subject, message.request))
                # A peer may answer twice: the first answer counts.
                if waiting is not None and not waiting.answer.done():
                    waiting.answer.set_result(message)
            elif isinstance(message, Call):
                self.serving.called(link, message)
            elif isinstance(message, Cancel):
                self.serving.cancelled(link, message.request)
            elif isinstance(message, Reopen):
                self.links.reopened(link, message)
        if sent:
            self.serving.sent(link, sent)


def _check_within(within: float) -> None:
    if within < 0:
        raise UsageError(f"{within} s have passed already: give `within` as seconds from now, 0 or more")
    if not within <= CALL_SECONDS:
        raise UsageError(f"a call may take {CALL_SECONDS} s, not {within}: submit a task for longer work")
