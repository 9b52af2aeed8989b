"""The shell around peer sessions: tool calls out, tool calls in.

A call goes to one instance of the role that offers the tool, on the session with it that was completed
last; where there is none, one is made. A call that got no answer is asked again, under the same request
id, so that its handler does not run twice.
"""

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
from agent_runtime.peering import Link, Peering
from agent_runtime.refusals import Refusals
from schemas import codec
from schemas.errors import PeerError, Reason
from schemas.limits import SECOND
from schemas.messages import Body, Call, Directory, Get, Millis, Reply
from sealing.errors import SealingError
from transport import Delivery, Subscription, Transport

HANDSHAKE_DEADLINE = 3.0  # seconds: a peer that is there answers in milliseconds
ATTEMPT_DEADLINE = 5.0  # seconds without an answer before the call is asked again elsewhere
DIRECTORY_LIFETIME = 10 * SECOND  # shorter than an agent takes to be missed
CALLS_AT_ONCE = 256  # handlers of calls that run together
CALLS_WAITING = 1_024  # more than these are answered `unavailable`

T = TypeVar("T")
ServeCall = Callable[[Link, bytes, Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class _Listing:
    admissions: tuple[bytes, ...]
    until: Millis


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
        self._tasks: TaskGroup | None = None
        self._subscriptions: dict[bytes, Subscription] = {}
        self._accepts: dict[str, MemoryObjectSendStream[bytes]] = {}
        # By peer and request: no peer can answer, or cancel, what is another's.
        self._waiting: dict[tuple[bytes, bytes], MemoryObjectSendStream[Reply]] = {}
        self._running: dict[tuple[bytes, bytes], anyio.CancelScope] = {}
        self._listings: dict[str, _Listing] = {}
        self._opening: dict[bytes, anyio.Lock] = {}
        self._slots = anyio.CapacityLimiter(CALLS_AT_ONCE)

    def start(self, tasks: TaskGroup) -> None:
        """Run the handlers of incoming calls in `tasks`."""
        self._tasks = tasks

    async def call(
        self, tool: str, arguments: bytes, *, deadline: Millis, idempotency: bytes | None
    ) -> bytes:
        """Call a tool and return its value's bytes, or raise `CallFailedError` or what forbids it."""
        trust = self._gate.may_send("call", tool, len(arguments))
        role = trust.tools.get(tool)
        if role is None:
            raise RefusedError(Reason.NO_GRANT, f"no tool {tool}")
        request = self._coordination.party.random(16)
        call = Call(tool, arguments, deadline, idempotency)
        tried: set[bytes] = set()
        while True:
            remaining = (deadline - self._membership.clock.now()) / SECOND
            if remaining <= 0:
                raise CallFailedError(Reason.DEADLINE_PASSED, f"no answer from {tool}")
            try:
                link = await self._link(role, tried)
                reply = await self._ask(link, request, call, min(ATTEMPT_DEADLINE, remaining))
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
            subject, answer, link = self._peering.inbox(delivery.payload, delivery.subject)
            await self._listen(link)
            await self._transport.publish(subject, answer)

    async def sweep(self) -> None:
        """Drop ended sessions with their subscriptions."""
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
        self._subscriptions[link.session.own_id] = await self._transport.subscribe(
            link.session.receive_subject, self._frame
        )

    async def _link(self, role: str, tried: set[bytes]) -> Link:
        instances = await self._directory(role)
        fresh = [entry for entry in instances if entry[0] not in tried] or instances
        if not fresh:
            raise UnreachableError(f"no instance of {role} is admitted")
        instance, admission = _random.choice(fresh)  # noqa: S311 - spreads load, guards nothing
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
                        subject, confirm = self._peering.seal(link, Body("confirm", bytes(16), None))
                        await self._transport.publish(subject, confirm)
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

    async def _directory(self, role: str) -> list[tuple[bytes, bytes]]:
        now = self._membership.clock.now()
        listing = self._listings.get(role)
        if listing is None or now >= listing.until:
            body = await self._coordination.request("get", Get("directory", role))
            directory = codec.convert(body.fields, Directory)
            listing = self._listings[role] = _Listing(directory.admissions, now + DIRECTORY_LIFETIME)
        found = []
        for admission in listing.admissions:
            with self._refusals.at("directory"):
                found.append((self._membership.peer(admission).subject, admission))
        return found

    async def _ask(self, link: Link, request: bytes, call: Call, within: float) -> Reply:
        send, receive = anyio.create_memory_object_stream[Reply](1)
        key = (link.peer.subject, request)
        self._waiting[key] = send
        try:
            subject, frame = self._peering.seal(link, Body("call", request, call))
            await self._transport.publish(subject, frame)
            with anyio.move_on_after(within):
                return await receive.receive()
            # Silence: the session may be gone on the other side. The next attempt makes another.
            self._peering.drop(link)
            await self._forget(link)
            raise UnreachableError("no answer")
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True), self._refusals.at("cancel"):
                subject, frame = self._peering.seal(link, Body("cancel", request, None))
                await self._transport.publish(subject, frame)
            raise
        finally:
            self._waiting.pop(key, None)
            send.close()
            receive.close()

    async def _frame(self, delivery: Delivery) -> None:
        with self._refusals.at("session"):
            link, body = self._peering.receive(delivery.payload)
            if body is None:
                return
            key = (link.peer.subject, body.request)
            if body.purpose == "reply":
                waiting = self._waiting.get(key)
                if waiting is not None:
                    self._hand_over(waiting, codec.convert(body.fields, Reply))
            elif body.purpose == "cancel":
                scope = self._running.get(key)
                if scope is not None:
                    scope.cancel()
            elif body.purpose == "call":
                await self._called(link, body.request, codec.convert(body.fields, Call))

    async def _called(self, link: Link, request: bytes, call: Call) -> None:
        # Past its deadline the gate refuses a repeat anyway.
        until = min(link.peer.expires * SECOND, call.deadline)
        kept = self._peering.requests.begin(link.peer.subject, request, until=until)
        if kept is not None:
            await self._answer(link, request, codec.decode(kept, Reply))
        elif self._slots.statistics().tasks_waiting >= CALLS_WAITING:
            busy = Reply(Reason.UNAVAILABLE.value, "too many calls are waiting", b"")
            await self._answer(link, request, busy)
        elif self._tasks is not None:
            self._tasks.start_soon(partial(self._run, link, request, call))

    async def _run(self, link: Link, request: bytes, call: Call) -> None:
        async with self._slots:
            with anyio.CancelScope() as scope:
                key = (link.peer.subject, request)
                self._running[key] = scope
                try:
                    reply = await self._gated(link, request, call)
                finally:
                    del self._running[key]
                self._peering.requests.finish(link.peer.subject, request, codec.encode(reply))
                with self._refusals.at("reply"):
                    await self._answer(link, request, reply)

    async def _gated(self, link: Link, request: bytes, call: Call) -> Reply:
        try:
            self._gate.call(link.peer.subject, link.peer_role, link.own_role, call)
        except PeerError as refusal:
            self._refusals.note("call", refusal.reason.value)
            return Reply(refusal.reason.value, refusal.detail, b"")
        return await self._serve(link, request, call)

    async def _answer(self, link: Link, request: bytes, reply: Reply) -> None:
        if not self._gate.may_answer():
            raise SealingError(Reason.NOT_LIVE)
        subject, frame = self._peering.seal(link, Body("reply", request, reply))
        await self._transport.publish(subject, frame)
