"""The shell around peer sessions: tool calls and one-way messages out; what comes in, sorted.

A call goes to one instance of the role that offers the tool, on the session with it that was completed
last; where there is none, one is made. A call that got no answer is asked again, under the same request
id: of the instance that was asked, which does not run it twice, and of another once that one is gone.
"""

from typing import Any

import anyio
from anyio.abc import TaskGroup

from agent_runtime.agent import encode_value
from agent_runtime.awaited import Awaited, UnheardError
from agent_runtime.coordination import Coordination, UnreachableError
from agent_runtime.errors import CallFailedError, RefusedError
from agent_runtime.gate import Gate, Way
from agent_runtime.links import Links
from agent_runtime.listings import Listings
from agent_runtime.membership import Membership, Moment
from agent_runtime.outgoing import FULL_OF_LARGE, Batch, Outgoing
from agent_runtime.peering import Link, Peering
from agent_runtime.refusals import REFUSED, Refusals
from agent_runtime.serving import ContextOf, ServeCall, Serving, TakeMessage
from schemas.errors import Reason, UsageError
from schemas.limits import CALL_LONGEST, MAX_VALUE, SECOND
from schemas.messages import Millis
from schemas.peer import (
    APART,
    MAX_MESSAGES,
    Call,
    Cancel,
    Encoded,
    Reopen,
    Reply,
    Send,
    encode_message,
    encode_with,
)
from transport import Transport

CALL_SECONDS = CALL_LONGEST // SECOND  # that a call may take
ATTEMPT_DEADLINE = 5.0  # seconds without an answer before the call is asked again
_ON_MOST = FULL_OF_LARGE // 2  # bytes of payload with which a message goes the way of another of its turn
LOOK_AGAIN = 0.2  # seconds until a role that nobody holds, or that does not answer, is looked up again


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
        self._outgoing = Outgoing(peering, transport, refusals)
        self._awaited = Awaited(self._outgoing)
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
        self, way: Way, tool: str, arguments: Encoded, *, within: float, idempotency: bytes | None
    ) -> bytes | memoryview:
        """Call a tool and return its value's bytes, or raise `CallFailedError` or what forbids it."""
        check_within(within)
        size = len(arguments)
        if size > MAX_VALUE:
            raise _too_large(size)
        if size > way.granted.most or way.granted.is_timed:
            way = way.of_size(size)
        deadline = way.now + int(within * SECOND)
        self._asked += 1
        request = self._process + self._asked.to_bytes(8, "big")
        if isinstance(arguments, bytes) and size < APART:
            call: Encoded = encode_message(Call(request, tool, arguments, deadline, idempotency))
        else:
            call = encode_with(Call(request, tool, b"", deadline, idempotency), arguments)
        link, remaining = self.links.direct(way), within
        # To look into arguments may have taken any time.
        moment: Moment | None = None if way.granted.checks_arguments else (way.trust, way.now)
        asked: Link | None = None
        first: bytes | None = None
        tried: set[bytes] = set()
        try:
            while True:
                if remaining <= 0:
                    raise CallFailedError(Reason.DEADLINE_PASSED, f"no answer from {tool}")
                try:
                    if asked is not None:
                        way = self._gate.still(way, "call", tool, size)
                    if link is None or self._outgoing.congested:
                        link, moment = await self._way_out(way, link, tried, first), None
                    # Who was asked may be at it still: another would do it a second time.
                    asked, first = link, link.peer.subject
                    attempt = min(ATTEMPT_DEADLINE, remaining)
                    reply = await self._awaited.ask(link, request, call, attempt, moment)
                    if not reply.reason:
                        return reply.value
                    if reply.reason != Reason.QUARANTINED:
                        raise _failed(reply)
                    # It heard of it before we did: another instance takes the call.
                    tried.add(link.peer.subject)
                    raise UnreachableError("the instance takes nothing new")
                except (UnreachableError, RefusedError) as error:
                    # A call that is under way while we are not live is asked again once we are.
                    if isinstance(error, RefusedError) and error.reason is not Reason.NOT_LIVE:
                        if asked is not None:
                            self._awaited.cancel(asked, request)
                        raise
                    # The peer may have restarted as another instance: look it up again.
                    self.listings.look_up_again(way.role)
                    remaining = self._left(deadline)
                    if isinstance(error, UnheardError):
                        first = None
                    elif remaining > 0:
                        await anyio.sleep(min(LOOK_AGAIN, remaining))
                    link, remaining = None, self._left(deadline)
        except anyio.get_cancelled_exc_class():
            if asked is not None:
                self._awaited.cancel(asked, request)
            raise

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
        if size > FULL_OF_LARGE or batch.count >= MAX_MESSAGES:
            outgoing.send(batch)
            size = len(message)
        batch.parts.append(message)
        batch.count += 1
        batch.size = size
        return True

    async def send(self, way: Way, kind: str, payload: bytes, *, within: float) -> None:
        """Send a message that nobody answers; return when it is on its way, or raise what forbids it.

        `CallFailedError` if no instance of the role that takes it has a session with us in `within` seconds.
        """
        check_within(within)
        if len(payload) > MAX_VALUE:
            raise _too_large(len(payload))
        way = way.of_size(len(payload))
        clock = self._membership.clock
        deadline = clock.now() + int(within * SECOND)
        tried: set[bytes] = set()
        while True:
            try:
                link = self.links.direct(way) or await self.links.find(way, tried)
            except UnreachableError as error:
                remaining = self._left(deadline)
                if remaining <= 0:
                    raise CallFailedError(Reason.UNAVAILABLE, f"nobody takes {kind} messages") from error
                self.listings.look_up_again(way.role)
                await anyio.sleep(min(LOOK_AGAIN, remaining))
                way = self._gate.still(way, "send", kind, len(payload))
                continue
            await self._outgoing.room()
            if link.retired:
                continue  # left while the broker did not read
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
        self._awaited.unheard(left)

    async def sweep(self) -> None:
        """Drop ended sessions."""
        if await self.links.sweep():
            self._routes.clear()

    def leave(self) -> None:
        """Let peers end what they do for calls of ours, and tell who waits for the answers."""
        self._awaited.end()

    def flush(self) -> None:
        """Send what this turn has said so far."""
        self._outgoing.flush()

    async def drop_all(self) -> None:
        """End every session: at the end, or when another coordinator's term began."""
        self._routes.clear()
        await self.links.drop_all()

    async def _way_out(self, way: Way, link: Link | None, tried: set[bytes], first: bytes | None) -> Link:
        """Return a session when there is one, and room for what is said on it."""
        if link is None:
            link = await self.links.find(way, tried, first)
        if self._outgoing.congested:
            await self._outgoing.room()
            if link.retired:
                # Left meanwhile: nobody would tell this call of it, for it waits for nothing yet.
                raise UnheardError("the session was left while the broker did not read")
        return link

    def _left(self, deadline: Millis) -> float:
        """Return the seconds until a time."""
        return (deadline - self._membership.clock.now()) / SECOND

    def _frame(self, frame: memoryview) -> None:
        self._outgoing.reading = True
        try:
            link, messages, moment = self._peering.receive(frame)
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
                # A peer may answer twice: the first answer counts.
                answer = self._awaited.taken(link, message.request)
                if answer is not None:
                    answer.set_result(message)
            elif isinstance(message, Call):
                self.serving.called(link, message, moment if len(messages) == 1 else None)
            elif isinstance(message, Cancel):
                self.serving.cancelled(link, message.request)
            elif isinstance(message, Reopen):
                self.links.reopened(link, message)
        if sent:
            self.serving.sent(link, sent)


def _failed(reply: Reply) -> CallFailedError:
    known = reply.reason in set(Reason)
    return CallFailedError(Reason(reply.reason) if known else Reason.HANDLER_FAILED, reply.detail)


def check_within(within: float) -> None:
    """Raise `UsageError` for what is no time that a call or message may take."""
    if not within >= 0:
        raise UsageError(f"{within} s have passed already: give `within` as seconds from now, 0 or more")
    if within > CALL_SECONDS:
        raise UsageError(f"a call may take {CALL_SECONDS} s, not {within}: submit a task for longer work")


def _too_large(size: int) -> UsageError:
    return UsageError(f"{size} bytes do not fit one message: {MAX_VALUE} do; send them in parts")
