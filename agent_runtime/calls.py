"""The shell around peer sessions: tool calls and one-way messages out; what comes in, sorted.

A call goes to one instance of the role that offers the tool, on the session with it that was completed
last; where there is none, one is made. A call that got no answer is asked again, under the same request
id, so that its handler does not run twice.
"""

import asyncio
import random as _random
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from agent_runtime.absences import Absences
from agent_runtime.agent import encode_value
from agent_runtime.coordination import Coordination, UnreachableError
from agent_runtime.door import Door
from agent_runtime.errors import CallFailedError, RefusedError
from agent_runtime.gate import Gate, Way
from agent_runtime.membership import Membership
from agent_runtime.outgoing import Outgoing
from agent_runtime.peering import ForkError, Link, Peering
from agent_runtime.refusals import REFUSED, Refusals
from agent_runtime.serving import ContextOf, ServeCall, Serving, TakeMessage
from schemas import codec
from schemas.documents import Admission
from schemas.errors import Reason
from schemas.limits import SECOND
from schemas.messages import Directory, Get, Millis
from schemas.peer import Call, Cancel, Confirm, Reopen, Reply, Send, encode_message
from transport import Delivery, Subscription, Transport

# Seconds. A peer that is there answers in milliseconds; four openings of this length, each of them lost,
# outlast the first one's half-open session, so that the next is never one too many.
HANDSHAKE_DEADLINE = 1.3
ATTEMPT_DEADLINE = 5.0  # seconds without an answer before the call is asked again elsewhere
DIRECTORY_LIFETIME = 10 * SECOND  # shorter than an agent takes to be missed
# Seconds for a peer to accept after the broker said that it does not listen: it may have lied.
UNHEARD_DEADLINE = 0.2
# Seconds until a peer that does not answer is sent a frame for nothing but the broker's word that it is gone:
# what was on its way when a peer ended is lost without one. Then at twice the age, and so on.
PROBE_AFTER = 0.1
LOOK_AGAIN = 0.2  # seconds until a role that nobody holds, or that does not answer, is looked up again

T = TypeVar("T")


class _UnheardError(UnreachableError):
    """The broker says that a peer is gone: the next look-up need not wait."""


@dataclass(frozen=True, slots=True)
class _Listing:
    """Instances of a role: what each was admitted with, and the signed bytes that say so."""

    peers: tuple[tuple[Admission, bytes], ...]
    until: Millis
    shunned: frozenset[bytes]  # what `peers` were last compared with


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
    """Every session of one process with its peers, and the calls on them."""

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
        self._coordination = coordination
        self._membership = membership
        self._gate = gate
        self._peering = peering
        self._transport = transport
        self._refusals = refusals
        self._subscriptions: dict[bytes, Subscription] = {}
        self._accepts: dict[str, MemoryObjectSendStream[bytes]] = {}
        # By peer and request: no peer can answer, or cancel, what is another's.
        self._waiting: dict[tuple[bytes, bytes], _Waiting] = {}
        self._listings: dict[str, _Listing] = {}
        self._opening: dict[bytes, anyio.Lock] = {}
        self._looking: dict[str, anyio.Lock] = {}
        self._absences = Absences()
        self._unaccepted: dict[str, anyio.CancelScope] = {}
        self._probing: asyncio.TimerHandle | None = None
        self._outgoing = Outgoing(peering, transport, refusals)
        # By kind of message, while a turn lasts: all that was asked for one message holds for the next.
        self._routes: dict[str, tuple[Way, Link]] = {}
        self._routes_of = -1
        # By role and own role: the one instance of a role, as it was found last, and the session with it.
        self._found: dict[tuple[str, str], tuple[_Listing, Link]] = {}
        transport.after_reading(self._outgoing.flush)
        self.serving = Serving(
            membership, gate, peering.requests, self._outgoing, refusals, serve, take, context_of
        )
        self._door, self._inner_door = Door(self._judge), Door(self._judge)
        self._tasks: TaskGroup | None = None

    def start(self, tasks: TaskGroup) -> None:
        """Run the handlers of what comes in, and what answers inits, in `tasks`."""
        self._tasks = tasks
        self.serving.start(tasks)

    async def call(
        self, way: Way, tool: str, arguments: bytes, *, within: float, idempotency: bytes | None
    ) -> bytes:
        """Call a tool and return its value's bytes, or raise `CallFailedError` or what forbids it."""
        way = way.of_size(len(arguments))
        deadline = way.now + int(within * SECOND)
        request = self._coordination.party.random(16)
        call = Call(request, tool, arguments, deadline, idempotency)
        tried: set[bytes] = set()
        link, remaining = self._direct(way), within
        while True:
            if remaining <= 0:
                raise CallFailedError(Reason.DEADLINE_PASSED, f"no answer from {tool}")
            try:
                if link is None:
                    link = await self._link(way, tried)
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
                self._look_up_again(way.role)
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
        payload = encode_value(value)
        if len(payload) > route[0].granted.most:
            return False
        outgoing.say(route[1], encode_message(Send(kind, payload)), awaited=False)
        return True

    async def send(self, way: Way, kind: str, payload: bytes, *, within: float) -> None:
        """Send a message that nobody answers; return when it is on its way, or raise what forbids it.

        `CallFailedError` if no instance of the role that takes it has a session with us in `within` seconds.
        """
        way = way.of_size(len(payload))
        clock = self._membership.clock
        deadline = clock.now() + int(within * SECOND)
        tried: set[bytes] = set()
        while True:
            try:
                link = self._direct(way) or await self._link(way, tried)
            except UnreachableError as error:
                remaining = (deadline - clock.now()) / SECOND
                if remaining <= 0:
                    raise CallFailedError(Reason.UNAVAILABLE, f"nobody takes {kind} messages") from error
                self._look_up_again(way.role)
                await anyio.sleep(min(LOOK_AGAIN, remaining))
                continue
            await self._outgoing.room()
            self._outgoing.say(link, encode_message(Send(kind, payload)), awaited=False)
            # Where there are several instances, each of a turn's messages is to find its own; and a turn may
            # last longer than a grant that looks at the clock.
            if (way.role, way.own_role) in self._found and not (
                way.granted.checks_arguments or way.granted.is_timed
            ):
                self._routes_of = self._outgoing.ended
                self._routes[kind] = way, link
            return

    def _direct(self, way: Way) -> Link | None:
        """Return the session with a role's one instance if nothing was heard that may have changed that."""
        found = self._found.get((way.role, way.own_role))
        if found is None:
            return None
        listing, link = found
        if (
            listing is self._listings.get(way.role)
            and way.now < listing.until
            and listing.shunned is self._membership.held().shunned
            and link.usable(way.now)
        ):
            return link
        del self._found[way.role, way.own_role]
        return None

    def _look_up_again(self, role: str) -> None:
        if (listing := self._listings.get(role)) is not None:
            self._listings[role] = replace(listing, until=0)

    def unheard(self, hint: str) -> None:
        """Take the broker's word that nobody listens: look earlier for who does, and lose nothing if it lied.

        What is on its way on the session still arrives; what waits for an answer is asked again, by the same
        id; an opening gets less time, but enough for a peer that is there.
        """
        scope = self._unaccepted.get(hint)
        if scope is not None:
            scope.deadline = min(scope.deadline, anyio.current_time() + UNHEARD_DEADLINE)
            return
        link = self._peering.hinted(hint)
        if link is None or link.retired:
            return
        peer = link.peer.subject
        if not self._absences.heed(peer, self._membership.clock.highest()):
            return
        self._refusals.note("session", "unheard")
        link.retired = True
        self._routes.clear()
        self._look_up_again(link.peer_role)
        for (asked, _), waiting in self._waiting.items():
            if asked == peer:
                waiting.give_up(_UnheardError)

    def _probe(self) -> None:
        self._probing = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            now = loop.time()
            for link in {each.link for each in self._waiting.values() if each.is_silent(now)}:
                self._outgoing.say(link, encode_message(Confirm()))
            self._probing = loop.call_later(PROBE_AFTER, self._probe)

    def inbox(self, subject: str, frame: memoryview) -> None:
        """Take what may be an init that a peer sent; it is judged in its turn."""
        if not self._peering.may_be_init(frame):
            self._refusals.note("inbox", Reason.EPOCH_UNKNOWN.value)
        elif not self._door.knock(Delivery(subject, bytes(frame))):
            self._refusals.note("inbox", "flood")

    def _reopened(self, message: Reopen) -> None:
        if message.subject not in self._peering.inbox_subjects():
            self._refusals.note("session", Reason.MALFORMED.value)
        elif not self._inner_door.knock(Delivery(message.subject, message.init)):
            self._refusals.note("session", "flood")

    def _judge(self, delivery: Delivery) -> bool:
        accepted = False
        with self._refusals.at("inbox"):
            try:
                subject, answer, link = self._peering.inbox(delivery.payload, delivery.subject)
            except ForkError as fork:
                if self._tasks is not None:
                    self._tasks.start_soon(self._transport.publish, fork.subject, fork.answer)
                raise
            accepted = True
            if self._tasks is not None:
                self._tasks.start_soon(self._accept_init, link, subject, answer)
        return accepted

    async def _accept_init(self, link: Link, subject: str, answer: bytes) -> None:
        with self._refusals.at("inbox"):
            await self._listen(link)
            await self._transport.publish(subject, answer)

    async def sweep(self) -> None:
        """Give up calls without an answer, and drop ended sessions with their subscriptions."""
        now = asyncio.get_running_loop().time()
        for waiting in list(self._waiting.values()):
            waiting.sweep(now)
        dropped = self._peering.sweep()
        if dropped:
            self._found.clear()
            self._routes.clear()
        for link in dropped:
            await self._forget(link)
        # Peers come and go as other instances: of those that are gone nothing stays.
        self._opening = {peer: lock for peer, lock in self._opening.items() if lock.locked()}
        self._absences.sweep(self._membership.clock.highest())

    async def drop_all(self) -> None:
        """End every session: at the end, or when another coordinator's term began."""
        self._found.clear()
        self._routes.clear()
        for link in self._peering.drop_all():
            await self._forget(link)
        self._listings.clear()

    async def _forget(self, link: Link) -> None:
        subscription = self._subscriptions.pop(link.session.own_id, None)
        if subscription is not None:
            await subscription.close()

    async def _listen(self, link: Link) -> None:
        self._subscriptions[link.session.own_id] = await self._transport.listen(
            link.session.receive_subject, self._frame
        )

    async def _link(self, way: Way, tried: set[bytes]) -> Link:
        role, own_role = way.role, way.own_role
        peers = await self._directory(role)
        fresh = [each for each in peers if each[0].subject not in tried] if tried else peers
        if not (fresh or peers):
            raise UnreachableError(f"no instance of {role} is admitted")
        some = self._absences.likely(fresh or peers)
        peer, admission = some[0] if len(some) == 1 else _random.choice(some)  # noqa: S311 - spreads load
        instance = peer.subject
        link = self._peering.usable(instance, role, own_role)
        if link is not None:
            if len(peers) == 1:
                self._found[role, own_role] = self._listings[role], link
            return link
        failures = self._absences.failures(instance)
        async with self._opening.setdefault(instance, anyio.Lock()):
            link = self._peering.usable(instance, role, own_role)
            if link is not None:
                return link
            tried.add(instance)
            if self._absences.failures(instance) > failures:
                # Who else wanted it has just waited in vain: all of them, one after the other, would be long.
                raise UnreachableError("the peer did not accept a session")
            return await self._open(instance, admission, role, own_role)

    async def _open(self, instance: bytes, admission: bytes, role: str, own_role: str) -> Link:
        pending, inbox, frame = self._peering.open(admission, role, own_role)
        hint = pending.accept_subject.rpartition(".")[2]
        send, receive = anyio.create_memory_object_stream[bytes](4)
        self._accepts[pending.accept_subject] = send
        subscription = await self._transport.subscribe(pending.accept_subject, self._accept)
        try:
            with anyio.move_on_after(HANDSHAKE_DEADLINE) as scope:
                self._unaccepted[hint] = scope
                await self._transport.publish(inbox, frame, hint)
                former = self._peering.speaking(instance)
                if former is not None:
                    # A flood of strangers' inits keeps out who has no session, not who renews one.
                    self._outgoing.say(former, encode_message(Reopen(inbox, frame)))
                while True:
                    wire = await receive.receive()
                    with self._refusals.at("accept"):
                        link = self._peering.accepted(pending.accept_subject, wire)
                        await self._listen(link)
                        self._outgoing.say(link, encode_message(Confirm()))
                        self._absences.there(instance)
                        return link
            self._absences.failed(instance, self._membership.clock.highest())
            raise UnreachableError("the peer did not accept a session")
        finally:
            self._unaccepted.pop(hint, None)
            self._peering.abandon(pending.accept_subject)
            del self._accepts[pending.accept_subject]
            await subscription.close()
            send.close()
            receive.close()

    async def _accept(self, delivery: Delivery) -> None:
        queue = self._accepts.get(delivery.subject)
        if queue is not None:
            self._hand_over(queue, delivery.payload)

    def _hand_over(self, queue: MemoryObjectSendStream[T], item: T) -> None:
        try:
            queue.send_nowait(item)
        except anyio.WouldBlock:
            # One answer is waited for: whoever sends many must not end us.
            self._refusals.note("session", "flood")

    async def _directory(self, role: str) -> tuple[tuple[Admission, bytes], ...]:
        now = self._membership.clock.highest()
        listing = self._listings.get(role)
        if listing is None or now >= listing.until:
            # Who waits for another's look-up goes by its answer.
            async with self._looking.setdefault(role, anyio.Lock()):
                listing = self._listings.get(role)
                if listing is None or now >= listing.until:
                    listing = self._listings[role] = await self._looked_up(role, now)
        shunned = self._membership.held().shunned
        if listing.shunned is not shunned:
            peers = tuple(each for each in listing.peers if each[0].subject not in shunned)
            listing = _Listing(peers, listing.until, shunned)
        self._listings[role] = listing
        return listing.peers

    async def _looked_up(self, role: str, now: Millis) -> _Listing:
        known = self._listings.get(role)
        try:
            body = await self._coordination.request("get", Get("directory", role))
        except UnreachableError:
            if known is None:
                raise
            # Better who was there than nobody, for as long as their admissions last.
            peers = tuple(each for each in known.peers if each[0].expires * SECOND > now)
            return replace(known, peers=peers)
        peers = self._verified(codec.convert(body.fields, Directory).admissions)
        # One that ends sooner must not be chosen after its end.
        ends = [peer.expires * SECOND for peer, _ in peers]
        return _Listing(peers, min((now + DIRECTORY_LIFETIME, *ends)), frozenset())

    def _verified(self, admissions: tuple[bytes, ...]) -> tuple[tuple[Admission, bytes], ...]:
        found = []
        for admission in admissions:
            with self._refusals.at("directory"):
                found.append((self._membership.peer(admission), admission))
        return tuple(found)

    async def _ask(self, link: Link, call: Call, within: float) -> Reply:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        key = (link.peer.subject, call.request)
        waiting = self._waiting[key] = _Waiting(link, answer, within)
        if self._probing is None:
            self._probing = asyncio.get_running_loop().call_later(PROBE_AFTER, self._probe)
        try:
            if self._outgoing.congested:
                await self._outgoing.room()
            # Where no other call is under way, nothing else is about to be said.
            self._outgoing.say(link, encode_message(call), at_once=len(self._waiting) == 1)
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
        self._outgoing.read()
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
                self._reopened(message)
        if sent:
            self.serving.sent(link, sent)
