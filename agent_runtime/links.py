"""The shell around sessions with peers: opened where we want one, accepted where a peer does, ended."""

import random as _random
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from agent_runtime.absences import Absences
from agent_runtime.coordination import UnreachableError
from agent_runtime.door import Door
from agent_runtime.gate import Way
from agent_runtime.listings import Listing, Listings
from agent_runtime.membership import Membership
from agent_runtime.outgoing import Outgoing
from agent_runtime.peering import ForkError, Link, Peering
from agent_runtime.refusals import Refusals
from schemas.errors import Reason
from schemas.peer import Confirm, Reopen, encode_message
from transport import Delivery, Subscription, Transport

# Seconds. A peer that is there answers in milliseconds; four openings of this length, each of them lost,
# outlast the first one's half-open session, so that the next is never one too many.
HANDSHAKE_DEADLINE = 1.3
# Seconds for a peer to accept after the broker said that it does not listen: it may have lied.
UNHEARD_DEADLINE = 0.2
# Milliseconds after an init that came within a session until the next one: who renews is not so quick.
REOPEN_PAUSE = 250
_NEVER = 2**63


class _Within(Delivery, frozen=True):
    """An init that came within a session."""

    link: Link


class Links:
    """Every session of one process with its peers; `frame` takes what comes on them."""

    def __init__(
        self,
        membership: Membership,
        listings: Listings,
        peering: Peering,
        transport: Transport,
        outgoing: Outgoing,
        refusals: Refusals,
        frame: Callable[[memoryview], None],
    ) -> None:
        self._membership = membership
        self._listings = listings
        self._peering = peering
        self._transport = transport
        self._outgoing = outgoing
        self._refusals = refusals
        self._frame = frame
        self._subscriptions: dict[bytes, Subscription] = {}
        self._accepts: dict[str, MemoryObjectSendStream[bytes]] = {}
        self._opening: dict[bytes, anyio.Lock] = {}
        self._absences = Absences()
        self._unaccepted: dict[str, anyio.CancelScope] = {}
        # By role and own role: the one instance of a role, as it was found last, and the session with it.
        self._found: dict[tuple[str, str], tuple[Listing, Link]] = {}
        self._door, self._inner_door = Door(self._judge), Door(self._judge_within)
        self._tasks: TaskGroup | None = None

    def start(self, tasks: TaskGroup) -> None:
        """Run what answers inits in `tasks`."""
        self._tasks = tasks

    def direct(self, way: Way) -> Link | None:
        """Return the session with a role's one instance if nothing was heard that may have changed that."""
        found = self._found.get((way.role, way.own_role))
        if found is None:
            return None
        listing, link = found
        if (
            listing is self._listings.known(way.role)
            and way.now < listing.until
            and listing.shunned is way.trust.shunned
            and link.usable(way.now)
        ):
            return link
        del self._found[way.role, way.own_role]
        return None

    def is_only(self, way: Way) -> bool:
        """Tell whether a role was found to have one instance."""
        return (way.role, way.own_role) in self._found

    async def find(self, way: Way, tried: set[bytes], first: bytes | None = None) -> Link:
        """Return a session with an instance of a role, one that was not `tried` if there is one, or raise.

        `first` is taken before others. What can't be reached is entered into `tried`.
        """
        role, own_role = way.role, way.own_role
        listing = await self._listings.of(role)
        peers = listing.peers
        fresh = [each for each in peers if each[0].subject not in tried] if tried else peers
        if not (fresh or peers):
            raise UnreachableError(f"no instance of {role} is admitted")
        chosen = [each for each in fresh if each[0].subject == first]
        some = chosen or self._absences.likely(fresh or peers)
        peer, admission = some[0] if len(some) == 1 else _random.choice(some)  # noqa: S311 - spreads load
        instance = peer.subject
        link = self._peering.usable(instance, role, own_role)
        if link is not None:
            if len(peers) == 1:
                self._found[role, own_role] = listing, link
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
            link = await self._open(instance, admission, role, own_role)
            tried.discard(instance)
            return link

    def unheard(self, hint: str) -> Link | None:
        """Take the broker's word that nobody listens; return the session that is to be left for it, if any.

        What is on its way on the session still arrives; an opening gets less time, but enough for a peer
        that is there.
        """
        scope = self._unaccepted.get(hint)
        if scope is not None:
            scope.deadline = min(scope.deadline, anyio.current_time() + UNHEARD_DEADLINE)
            return None
        link = self._peering.hinted(hint)
        if link is None or link.retired:
            return None
        if not self._absences.heed(link.peer.subject, self._membership.clock.highest()):
            return None
        self._refusals.note("session", "unheard")
        link.retired = True
        self._listings.look_up_again(link.peer_role)
        return link

    def inbox(self, subject: str, frame: memoryview) -> None:
        """Take what may be an init that a peer sent; it is judged in its turn."""
        if not self._peering.may_be_init(frame):
            self._refusals.note("inbox", Reason.EPOCH_UNKNOWN.value)
        elif not self._door.knock(Delivery(subject, bytes(frame))):
            self._refusals.note("inbox", "flood")

    def reopened(self, link: Link, message: Reopen) -> None:
        """Take an init that came within a session: of each session one at a time, and not too many."""
        if message.subject not in self._peering.inbox_subjects():
            self._refusals.note("session", Reason.MALFORMED.value)
        elif link.received < link.reopens or not self._inner_door.knock(
            _Within(message.subject, message.init, link)
        ):
            self._refusals.note("session", "flood")
        else:
            link.reopens = _NEVER

    async def sweep(self) -> bool:
        """Drop ended sessions with their subscriptions; tell whether there were any."""
        dropped = self._peering.sweep()
        if dropped:
            self._found.clear()
        for link in dropped:
            await self._forget(link)
        # Peers come and go as other instances: of those that are gone nothing stays.
        self._opening = {peer: lock for peer, lock in self._opening.items() if lock.locked()}
        self._absences.sweep(self._membership.clock.highest())
        return bool(dropped)

    async def drop_all(self) -> None:
        """End every session: at the end, or when another coordinator's term began."""
        self._found.clear()
        for link in self._peering.drop_all():
            await self._forget(link)
        self._listings.clear()

    async def _open(self, instance: bytes, admission: bytes, role: str, own_role: str) -> Link:
        pending, inbox, frame = self._peering.open(admission, role, own_role)
        hint = pending.accept_subject.rpartition(".")[2]
        send, receive = anyio.create_memory_object_stream[bytes](4)
        self._accepts[pending.accept_subject] = send
        subscription: Subscription | None = None
        try:
            subscription = await self._transport.subscribe(pending.accept_subject, self._accept)
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
            send.close()
            receive.close()
            if subscription is not None:
                await subscription.close()

    async def _accept(self, delivery: Delivery) -> None:
        queue = self._accepts.get(delivery.subject)
        if queue is None:
            return
        try:
            queue.send_nowait(delivery.payload)
        except anyio.WouldBlock:
            # One answer is waited for: whoever sends many must not end us.
            self._refusals.note("session", "flood")

    def _judge_within(self, delivery: _Within) -> bool:
        self._judge(delivery, delivery.link)
        delivery.link.reopens = self._membership.clock.highest() + REOPEN_PAUSE
        # The next one waits for the next turn, even if this was not true: it may have cost as much.
        return True

    def _judge(self, delivery: Delivery, within: Link | None = None) -> bool:
        accepted = False
        with self._refusals.at("inbox"):
            try:
                subject, answer, link = self._peering.inbox(delivery.payload, delivery.subject, within)
            except ForkError as fork:
                if self._tasks is not None:
                    self._tasks.start_soon(self._transport.publish, fork.subject, fork.answer)
                raise
            accepted = True
            if self._tasks is not None:
                self._tasks.start_soon(self._answer, link, subject, answer)
        return accepted

    async def _answer(self, link: Link, subject: str, answer: bytes) -> None:
        with self._refusals.at("inbox"):
            await self._listen(link)
            await self._transport.publish(subject, answer)

    async def _listen(self, link: Link) -> None:
        self._subscriptions[link.session.own_id] = await self._transport.listen(
            link.session.receive_subject, self._frame
        )

    async def _forget(self, link: Link) -> None:
        subscription = self._subscriptions.pop(link.session.own_id, None)
        if subscription is not None:
            await subscription.close()
