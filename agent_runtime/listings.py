"""Who holds which role: what the coordinator lists, verified, and looked up again before it is old."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import anyio

from agent_runtime.coordination import Coordination, UnreachableError
from agent_runtime.membership import Membership
from agent_runtime.refusals import Refusals
from schemas import codec
from schemas.documents import Admission
from schemas.limits import SECOND
from schemas.messages import Directory, Get, Millis

DIRECTORY_LIFETIME = 10 * SECOND  # shorter than an agent takes to be missed


@dataclass(frozen=True, slots=True)
class Listing:
    """Instances of a role: what each was admitted with, and the signed bytes that say so."""

    peers: tuple[tuple[Admission, bytes], ...]
    until: Millis
    shunned: frozenset[bytes]  # what `peers` were last compared with


class Listings:
    """What one process knows of the roles that it asks for."""

    def __init__(self, coordination: Coordination, membership: Membership, refusals: Refusals) -> None:
        self._coordination = coordination
        self._membership = membership
        self._refusals = refusals
        self._listings: dict[str, Listing] = {}
        # What was listed last, by role; as old as it may be.
        self.known: Callable[[str], Listing | None] = self._listings.get
        self._looking: dict[str, anyio.Lock] = {}

    def keep(self, role: str, listing: Listing) -> None:
        """Go by a listing until it is old."""
        self._listings[role] = listing

    def look_up_again(self, role: str) -> None:
        """Have the next who asks for a role wait for what the coordinator says now."""
        if (listing := self._listings.get(role)) is not None:
            self._listings[role] = replace(listing, until=0)

    def clear(self) -> None:
        """Forget all: another coordinator lists others."""
        self._listings.clear()

    async def of(self, role: str) -> Listing:
        """Return a role's instances, without who is shunned, or raise `UnreachableError`."""
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
            listing = Listing(peers, listing.until, shunned)
        self._listings[role] = listing
        return listing

    async def _looked_up(self, role: str, now: Millis) -> Listing:
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
        return Listing(peers, min((now + DIRECTORY_LIFETIME, *ends)), frozenset())

    def _verified(self, admissions: tuple[bytes, ...]) -> tuple[tuple[Admission, bytes], ...]:
        found = []
        for admission in admissions:
            with self._refusals.at("directory"):
                found.append((self._membership.peer(admission), admission))
        return tuple(found)
