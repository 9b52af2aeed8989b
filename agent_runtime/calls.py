"""The shell around peer sessions: tool calls out, tool calls in.

A call goes to one instance of the role that offers the tool, on the session with it that was completed
last; where there is none, one is made. A call that got no answer is asked again, under the same request
id, so that its handler does not run twice.
"""

import asyncio
import random as _random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from agent_runtime.coordination import Coordination, UnreachableError
from agent_runtime.errors import CallFailedError, RefusedError
from agent_runtime.gate import Gate
from agent_runtime.membership import Membership
from agent_runtime.outgoing import Outgoing
from agent_runtime.peering import ForkError, Link, Peering
from agent_runtime.pool import Pool
from agent_runtime.refusals import Refusals
from schemas import codec
from schemas.documents import Admission
from schemas.errors import PeerError, Reason
from schemas.limits import SECOND
from schemas.messages import Directory, Get, Millis
from schemas.peer import Call, Cancel, Confirm, Reply, encode_message
from sealing.errors import SealingError
from transport import Delivery, Subscription, Transport

HANDSHAKE_DEADLINE = 3.0  # seconds: a peer that is there answers in milliseconds
ATTEMPT_DEADLINE = 5.0  # seconds without an answer before the call is asked again elsewhere
DIRECTORY_LIFETIME = 10 * SECOND  # shorter than an agent takes to be missed
CALLS_AT_ONCE = 256  # handlers of calls that run together
CALLS_WAITING = 1_024  # more than these are answered `unavailable`

T = TypeVar("T")
ServeCall = Callable[[Link, Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class _Listing:
    """Instances of a role: what each was admitted with, and the signed bytes that say so."""

    peers: tuple[tuple[Admission, bytes], ...]
    until: Millis
    shunned: frozenset[bytes]  # what `peers` were last compared with


class _Waiting:
    """A call without an answer. It has a timer of its own only where the sweep would be too coarse."""

    __slots__ = ("_timer", "_until", "answer")

    def __init__(self, answer: "asyncio.Future[Reply]", within: float) -> None:
        loop = asyncio.get_running_loop()
        self.answer = answer
        self._until = loop.time() + within
        self._timer = loop.call_later(within, self.give_up) if within < ATTEMPT_DEADLINE else None

    def sweep(self, now: float) -> None:
        """Give up if it is time to."""
        if now >= self._until:
            self.give_up()

    def give_up(self) -> None:
        """End the wait with `TimeoutError`."""
        if not self.answer.done():
            self.answer.set_exception(TimeoutError())

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
    ) -> None:
        self._coordination = coordination
        self._membership = membership
        self._gate = gate
        self._peering = peering
        self._transport = transport
        self._refusals = refusals
        self._serve = serve
        self._subscriptions: dict[bytes, Subscription] = {}
        self._accepts: dict[str, MemoryObjectSendStream[bytes]] = {}
        # By peer and request: no peer can answer, or cancel, what is another's.
        self._waiting: dict[tuple[bytes, bytes], _Waiting] = {}
        self._running: dict[tuple[bytes, bytes], anyio.CancelScope] = {}
        self._listings: dict[str, _Listing] = {}
        self._opening: dict[bytes, anyio.Lock] = {}
        self._outgoing = Outgoing(peering, transport, refusals)
        self._pool = Pool(CALLS_AT_ONCE, CALLS_WAITING)

    def start(self, tasks: TaskGroup) -> None:
        """Run the handlers of incoming calls in `tasks`."""
        self._pool.start(tasks)

    async def call(
        self, tool: str, arguments: bytes, *, deadline: Millis, idempotency: bytes | None
    ) -> bytes:
        """Call a tool and return its value's bytes, or raise `CallFailedError` or what forbids it."""
        trust = self._gate.may_send("call", tool, len(arguments))
        role = trust.tools.get(tool)
        if role is None:
            raise RefusedError(Reason.NO_GRANT, f"no tool {tool}")
        request = self._coordination.party.random(16)
        call = Call(request, tool, arguments, deadline, idempotency)
        tried: set[bytes] = set()
        while True:
            remaining = (deadline - self._membership.clock.now()) / SECOND
            if remaining <= 0:
                raise CallFailedError(Reason.DEADLINE_PASSED, f"no answer from {tool}")
            try:
                link = await self._link(role, tried)
                reply = await self._ask(link, call, min(ATTEMPT_DEADLINE, remaining))
                if reply.reason == Reason.QUARANTINED:
                    # It heard of it before we did: another instance takes the call.
                    tried.add(link.peer.subject)
                    raise UnreachableError("the instance takes nothing new")
            except UnreachableError:
                # The peer may have restarted as another instance: look it up again.
                self._listings.pop(role, None)
                await anyio.sleep(min(0.2, max(remaining, 0)))
                continue
            if reply.reason:
                known = reply.reason in set(Reason)
                raise CallFailedError(Reason(reply.reason) if known else Reason.HANDLER_FAILED, reply.detail)
            return reply.value

    async def inbox(self, delivery: Delivery) -> None:
        """Answer an init that a peer sent."""
        with self._refusals.at("inbox"):
            try:
                subject, answer, link = self._peering.inbox(delivery.payload, delivery.subject)
            except ForkError as fork:
                await self._transport.publish(fork.subject, fork.answer)
                raise
            await self._listen(link)
            await self._transport.publish(subject, answer)

    async def sweep(self) -> None:
        """Give up calls without an answer, and drop ended sessions with their subscriptions."""
        now = asyncio.get_running_loop().time()
        for waiting in list(self._waiting.values()):
            waiting.sweep(now)
        for link in self._peering.sweep():
            await self._forget(link)

    async def drop_all(self) -> None:
        """End every session: at the end, or when another coordinator's term began."""
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

    async def _link(self, role: str, tried: set[bytes]) -> Link:
        peers = await self._directory(role)
        fresh = [each for each in peers if each[0].subject not in tried] if tried else peers
        if not (fresh or peers):
            raise UnreachableError(f"no instance of {role} is admitted")
        some = fresh or peers
        peer, admission = some[0] if len(some) == 1 else _random.choice(some)  # noqa: S311 - spreads load
        instance = peer.subject
        link = self._peering.usable(instance, role)
        if link is not None:
            return link
        async with self._opening.setdefault(instance, anyio.Lock()):
            link = self._peering.usable(instance, role)
            if link is not None:
                return link
            tried.add(instance)
            return await self._open(admission, role)

    async def _open(self, admission: bytes, role: str) -> Link:
        pending, inbox, frame = self._peering.open(admission, role)
        send, receive = anyio.create_memory_object_stream[bytes](4)
        self._accepts[pending.accept_subject] = send
        subscription = await self._transport.subscribe(pending.accept_subject, self._accept)
        try:
            await self._transport.publish(inbox, frame)
            with anyio.move_on_after(HANDSHAKE_DEADLINE):
                while True:
                    wire = await receive.receive()
                    with self._refusals.at("accept"):
                        link = self._peering.accepted(pending.accept_subject, wire)
                        await self._listen(link)
                        self._outgoing.say(link, encode_message(Confirm()))
                        return link
            raise UnreachableError("the peer did not accept a session")
        finally:
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
            body = await self._coordination.request("get", Get("directory", role))
            peers = self._verified(codec.convert(body.fields, Directory).admissions)
            # One that ends sooner must not be chosen after its end.
            ends = [peer.expires * SECOND for peer, _ in peers]
            until = min((now + DIRECTORY_LIFETIME, *ends))
            listing = _Listing(peers, until, frozenset())
        shunned = self._membership.held().shunned
        if listing.shunned is not shunned:
            peers = tuple(each for each in listing.peers if each[0].subject not in shunned)
            listing = _Listing(peers, listing.until, shunned)
        self._listings[role] = listing
        return listing.peers

    def _verified(self, admissions: tuple[bytes, ...]) -> tuple[tuple[Admission, bytes], ...]:
        found = []
        for admission in admissions:
            with self._refusals.at("directory"):
                found.append((self._membership.peer(admission), admission))
        return tuple(found)

    async def _ask(self, link: Link, call: Call, within: float) -> Reply:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        key = (link.peer.subject, call.request)
        waiting = self._waiting[key] = _Waiting(answer, within)
        try:
            await self._outgoing.room()
            self._outgoing.say(link, encode_message(call))
            return await answer
        except TimeoutError as error:
            # Silence: the session may be gone on the other side. The next attempt makes another.
            self._peering.drop(link)
            await self._forget(link)
            raise UnreachableError("no answer") from error
        except anyio.get_cancelled_exc_class():
            self._outgoing.say(link, encode_message(Cancel(call.request)))
            raise
        finally:
            waiting.done()
            self._waiting.pop(key, None)

    def _frame(self, delivery: Delivery) -> None:
        with self._refusals.at("session"):
            link, messages = self._peering.receive(delivery.payload)
            peer = link.peer.subject
            for message in messages:
                if isinstance(message, Reply):
                    waiting = self._waiting.get((peer, message.request))
                    # A peer may answer twice: the first answer counts.
                    if waiting is not None and not waiting.answer.done():
                        waiting.answer.set_result(message)
                elif isinstance(message, Call):
                    with self._refusals.at("call"):
                        self._called(link, message)
                elif isinstance(message, Cancel):
                    scope = self._running.get((peer, message.request))
                    if scope is not None:
                        scope.cancel()

    def _called(self, link: Link, call: Call) -> None:
        # Past its deadline the gate refuses a repeat anyway.
        until = min(link.peer.expires * SECOND, call.deadline)
        kept = self._peering.requests.begin(link.peer.subject, call.request, until=until)
        if kept is not None:
            self._answer(link, kept)
        elif not self._pool.offer(partial(self._run, link, call)):
            busy = _refusal(call, Reason.UNAVAILABLE, "too many calls are waiting")
            self._answer(link, encode_message(busy))

    async def _run(self, link: Link, call: Call) -> None:
        with anyio.CancelScope() as scope:
            key = (link.peer.subject, call.request)
            self._running[key] = scope
            try:
                reply = await self._gated(link, call)
            finally:
                del self._running[key]
            answer = encode_message(reply)
            self._peering.requests.finish(link.peer.subject, call.request, answer)
            with self._refusals.at("reply"):
                await self._outgoing.room()
                self._answer(link, answer)

    async def _gated(self, link: Link, call: Call) -> Reply:
        try:
            self._gate.call(link.peer.subject, link.peer_role, link.own_role, call)
        except PeerError as refusal:
            self._refusals.note("call", refusal.reason.value)
            return _refusal(call, refusal.reason, refusal.detail)
        return await self._serve(link, call)

    def _answer(self, link: Link, answer: bytes) -> None:
        if not self._gate.may_answer():
            raise SealingError(Reason.NOT_LIVE)
        self._outgoing.say(link, answer)


def _refusal(call: Call, reason: Reason, detail: str) -> Reply:
    return Reply(call.request, reason.value, detail, b"")
