"""What is in force and who holds it: standing, registry, epochs, views, beacon and audit, kept in step.

Pure. Whatever changes one of them goes through here, so that no beacon ever names a view, a revoked set
or an epoch that is not what parties are given.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from coordinator import quarantine, succession
from coordinator.audit import AuditLog, Refusals
from coordinator.beacons import Beacons, revoked_hash
from coordinator.changes import Changes
from coordinator.effects import NO_EFFECT, Effect
from coordinator.epochs import Epochs
from coordinator.errors import ForkError, RefusedError
from coordinator.glass import Glass
from coordinator.granting import Views, check_sizes
from coordinator.holdings import holdings, pages
from coordinator.lease import Lease
from coordinator.ledger import Ledger, Party
from coordinator.revocations import Revocations
from coordinator.roll import Roll
from coordinator.striking import Striking
from coordinator.telling import mesh_status
from coordinator.terms import Standing, take_order, take_policy, take_profile
from coordinator.turning import Turning
from schemas import codec
from schemas.audit import BY_REVOCATION, SUCCEEDED, UNPROVEN
from schemas.documents import Beacon, BreakGlass, LogReceipt, Order, Renewal, RevocationOrder
from schemas.errors import MalformedError, Reason
from schemas.limits import DAY, SECOND
from schemas.messages import (
    CHIP,
    INSTANCE,
    LIFT,
    MEASUREMENT,
    QUARANTINE,
    Chain,
    Event,
    Holdings,
    LogPage,
    MeshStatus,
    Millis,
    Revocation,
    State,
)
from sealing.audit import sign_head
from sealing.context import Mesh, sha256
from sealing.council import Council, follow, read
from sealing.documents import fewest, open_act, open_policy, sign_message
from sealing.keys import PartyKeys

GRACE_MOST = 300 * SECOND  # that a policy may have, as a day is of admissions
DIGESTS = (INSTANCE, MEASUREMENT, QUARANTINE, LIFT)  # revocations that name by a SHA-256


class Authority:
    """One coordinator's word about the mesh."""

    def __init__(
        self,
        council: Council,
        mesh: Mesh,
        keys: PartyKeys,
        *,
        random: Callable[[int], bytes],
        emit: Callable[[str], None],
    ) -> None:
        self.mesh, self.keys = mesh, keys
        self.standing = Standing(council)
        self.ledger = Ledger()
        self.audit = AuditLog(mesh, emit)
        self.refusals = Refusals(self.audit)
        self._random = random
        self._epochs = Epochs(mesh, random)
        self._views = Views(mesh, keys.signing)
        self._views.update(self.standing, self._epochs)
        self._changes = Changes()
        self._changes.views(self._views.versions(), 0)
        self._turning = Turning(self._epochs, self.audit)
        self._striking = Striking(self.ledger, self._turning, self._changes, self.audit)
        self._beacons = Beacons(mesh, keys, random)
        self._pages: tuple[tuple[Revocation, ...], tuple[tuple[Revocation, ...], ...]] | None = None
        self._logged = 0  # entries of the log that the last beacon covers
        # Where in the log what is in force stands: whose receipt was lost brings the same again.
        self._order_index = self._policy_index = self._operators_index = 0
        self.revocations = Revocations()
        self._quarantines = quarantine.Quarantines()
        self._roll = Roll()
        self._forks: set[bytes] = set()
        self._lease = Lease()
        self.glass = Glass(self.audit, self.ledger)
        self._lapsed = False

    @property
    def grace(self) -> Millis:
        """How long a party may be live without a beacon."""
        return self.standing.limits.grace_seconds * SECOND

    def state(self, challenge: bytes, now: Millis) -> State:
        """Return where this coordinator stands, with a challenge."""
        return State(
            self.standing.term,
            self.standing.policy_version,
            self.standing.policy_hash,
            self.audit.size,
            self.audit.root,
            now,
            challenge,
            self.standing.council.version,
            self.standing.council.digest,
        )

    def holdings(self, party: Party, now: Millis) -> Holdings:
        """Return everything that an admitted party holds, and remember for how long."""
        if self.standing.order is not None and self._logged != self.audit.size:
            # Its accept named a longer log than the last beacon does: it would refuse that as rolled back.
            self._sign(now)
        held, until = holdings(
            self.mesh,
            party,
            epochs=self._epochs,
            views=self._views,
            revoked=self.revoked_pages(),
            beacon=self._beacons.last,
            operators=self.standing.council.chain,
            random=self._random,
        )
        self.ledger.holds_keys(party.instance, until)
        return held

    def may_look_up(self, roles: tuple[str, ...], wanted: str) -> bool:
        """Tell whether one of `roles` may know who holds the role `wanted`."""
        return self._views.may_look_up(roles, wanted)

    def revoked_pages(self) -> tuple[tuple[Revocation, ...], ...]:
        """Return the revoked set, cut to what fits a message."""
        revoked = self.ledger.revoked()
        if self._pages is None or self._pages[0] is not revoked:
            self._pages = revoked, pages(revoked)
        return self._pages[1]

    def enter(self, party: Party, now: Millis) -> Effect:
        """Enter an admission that was judged."""
        is_repeat = party.repeats(self.ledger.admitted(party.instance))
        unlisted = self.ledger.enter(party)
        if not is_repeat:
            self.audit.append(
                "admitted",
                now=now,
                instance=party.instance.hex(),
                kind=party.kind,
                roles=party.roles,
                workload=party.workload,
                platform=party.platform,
                expires=party.expires,
            )
        return self._settle(now, everyone=True) if unlisted else NO_EFFECT

    def open_term(
        self, event: Event, *, now: Millis, ahead: Callable[[Millis], Millis]
    ) -> tuple[int, Effect]:
        """Take the operators' order. `ahead` moves the clock to a time that they signed, and returns it.

        The very order that opened the term, or policy that is in force, or revocation that holds, is no
        replay but a lost receipt's repeat: it changes nothing and has the receipt of its first time.
        """
        held = self.standing.order
        if held is not None and open_act(self.standing.council, self.mesh, event.documents, Order) == held:
            return self._order_index, NO_EFFECT
        standing, order = take_order(self.standing, self.mesh, self.keys.instance, event, now=now)
        self.standing = standing
        now = ahead(order.time)
        self.audit.term = order.term
        self._lease.hear(min(now, order.time))
        log_head = order.log_head.hex() if order.log_head else ""
        index = self.audit.append("term", now=now, event=event_digest(event).hex(), log_head=log_head)
        self._roll.ordered(order)
        self._order_index = index
        self._turning.follow(None, now)
        return index, self._settle(now, everyone=True)

    def take_roll(self, event: Event) -> tuple[int, Effect]:
        """Take the roll that the order names. It is part of that, and is in the log where that is."""
        self._roll.take(event, self.standing.order)
        return self._order_index, NO_EFFECT

    def adopt(self, event: Event, now: Millis) -> tuple[int, Effect]:
        """Take the operators' next policy, and put out whom it does not name any more."""
        old, held = self.standing.policy, self.standing.policy_hash
        if old is not None and open_policy(self.standing.council, self.mesh, event.documents)[1] == held:
            profile = take_profile(self.standing.council, self.mesh, old, event)
            # Operators who followed may have signed it again.
            self.standing = replace(self.standing, policy_documents=event.documents, profile=profile)
            return self._policy_index, NO_EFFECT
        try:
            standing, policy = take_policy(self.standing, self.mesh, event, now=now)
        except ForkError as fork:
            self._note_fork(fork, now)
            raise
        if old is None:
            self._roll.check()
        standing = replace(standing, extra=self.glass.rules(policy))
        check_sizes(self.mesh, standing, self.keys.signing)
        self.standing = standing
        self.glass.follow(policy, now=now, grace=self.grace)
        self._lease.hear(min(now, policy.issued))
        index = self._policy_index = self.audit.append(
            "policy",
            now=now,
            event=event_digest(event).hex(),
            version=policy.version,
            hash=self.standing.policy_hash.hex(),
        )
        self._turning.follow(policy, now)
        dropped = self._striking.by_policy(old, policy, now) if old is not None else frozenset()
        self._views.update(self.standing, self._epochs)
        count, digest = self._views.granted()
        self.audit.append("grants", now=now, version=policy.version, count=count, digest=digest.hex())
        return index, self._settle(now, dropped=dropped, everyone=True)

    def succeed(self, event: Event, now: Millis) -> tuple[int, Effect]:
        """Go over to the operators that follow, and put out the consoles of those who are none any more."""
        held = self.standing.council
        if follow(held, event.operators) == held:
            if not held.version:
                raise RefusedError(Reason.VERSION_NOT_NEWER, "no change of operators")
            return self._operators_index, NO_EFFECT
        self.standing = succession.take_operators(self.standing, self.mesh, event, now=now)
        if self.standing.order is not None:
            signed = read(self.mesh, self.standing.council.chain[-1]).time
            self._lease.hear(min(now, signed))
        effect = self._succeeded(held, event_digest(event).hex(), now)
        return self._operators_index, effect

    def learn_operators(self, chain: Chain, now: Millis) -> Effect:
        """Before the order: take the changes of operators that a console shows, if more than are known."""
        held = self.standing.council
        if self.standing.order is not None or len(chain) <= len(held.chain):
            return NO_EFFECT
        council = follow(held, chain)
        succession.check_time(council, self.mesh, now)
        self.standing = replace(self.standing, council=council)
        return self._succeeded(held, "", now)

    def _succeeded(self, before: Council, event: str, now: Millis) -> Effect:
        council = self.standing.council
        self._operators_index = succession.note(self.audit, before, council, event=event, now=now)
        dropped: frozenset[bytes] = frozenset()
        for party in succession.former(self.ledger, council):
            dropped |= self._strike(INSTANCE, party.instance.hex(), [party], SUCCEEDED, now)
        return self._settle(now, dropped=dropped, everyone=True)

    def renew(self, event: Event, now: Millis) -> tuple[int, Effect]:
        """Take the operators' word that they are there: beacons may go on."""
        renewal = open_act(self.standing.council, self.mesh, event.documents, Renewal)
        if self.standing.order is None:
            raise RefusedError(Reason.TERM_NOT_ACCEPTED, "no order is in force")
        if (known := self._lease.repeated(renewal)) is not None:
            return known, NO_EFFECT
        self._lease.renew(renewal, term=self.standing.term, length=self._lease_length(), now=now)
        index = self.audit.append("renewed", now=now, event=event_digest(event).hex(), signed=renewal.time)
        self._lease.entered(index)
        return index, self._settle(now, everyone=True)

    def break_glass(self, event: Event, now: Millis) -> tuple[int, Effect]:
        """Take what the operators give for some hours outside the policy: loud, bounded, gone by itself."""
        glass = open_act(self.standing.council, self.mesh, event.documents, BreakGlass)
        if (known := self.glass.repeated(glass)) is not None:
            return known, NO_EFFECT
        self.glass.judge(glass, self.standing.policy, term=self.standing.term, now=now)
        would = replace(self.standing, extra=self.glass.preview(glass, self.standing.policy))
        check_sizes(self.mesh, would, self.keys.signing)
        index = self.glass.enter(glass, event, event_digest(event), now=now, grace=self.grace)
        return index, self._regrant(now)

    def _regrant(self, now: Millis) -> Effect:
        self.standing = replace(self.standing, extra=self.glass.rules(self.standing.policy))
        return self._settle(now, everyone=True)

    def _lease_length(self) -> Millis | None:
        seconds = self.standing.limits.operator_lease_seconds
        return None if seconds is None else seconds * SECOND

    def revoke(self, event: Event, now: Millis) -> tuple[int, Effect]:
        """Take the operators' revocation of an instance, chip, workload or measurement, or a quarantine."""
        order = open_act(self.standing.council, self.mesh, event.documents, RevocationOrder)
        if self.standing.order is None:
            raise RefusedError(Reason.TERM_NOT_ACCEPTED, "no order is in force")
        if order.kind in DIGESTS and not _is_digest(order.value):
            raise MalformedError(f"not the id of an {order.kind}: 64 hexadecimal digits")
        if order.kind in quarantine.KINDS:
            self._quarantines.judge(order, now)
        self._roll.hear(order)
        if order.kind in quarantine.KINDS:
            self._quarantines.compare(order)
        signed = fewest(self.standing.council, self.mesh, "revocation", event.documents)
        if (known := self.revocations.repeated(order, signed)) is not None:
            return known, NO_EFFECT
        decision = {QUARANTINE: "quarantined", LIFT: "lifted"}.get(order.kind, "revoked")
        index = self.audit.append(
            decision,
            now=now,
            event=event_digest(event).hex(),
            kind=order.kind,
            value=order.value,
            reason=order.reason,
        )
        self.revocations.enter(order, signed, index)
        if order.kind in quarantine.KINDS:
            self._quarantines.enter(order)
        if order.kind == LIFT:
            self.ledger.lift(bytes.fromhex(order.value))
            return index, self._settle(now, everyone=True)
        if order.kind == QUARANTINE:
            until = now + self.standing.limits.admission_seconds * SECOND + self.grace
            self.ledger.quarantine(bytes.fromhex(order.value), now=now, until=until)
            return index, self._settle(now, everyone=True)
        struck = self.ledger.named(order.kind, order.value)
        self.ledger.ban(order.kind, order.value)
        # It may hold an admission of the term before, under the limits of any policy.
        until = now + DAY + GRACE_MOST if order.kind == INSTANCE else 0
        dropped = self._strike(order.kind, order.value, struck, BY_REVOCATION, now, until)
        if order.kind == CHIP:
            dropped |= self._striking.by_chip(limits=self.standing.limits, now=now)
        return index, self._settle(now, dropped=dropped, everyone=True)

    def receipt(self, event: Event, index: int) -> bytes:
        """Return the signed word that an event is in force and in the log at `index`."""
        receipt = LogReceipt(event_digest(event), index, self.standing.term, self.standing.policy_version)
        return sign_message(self.keys.signing, self.mesh, "receipt", receipt)

    def log_page(self, first: str, now: Millis) -> LogPage:
        """Return entries of the audit log from an index on, and a head that the term's key signs."""
        if self.standing.order is None:
            raise RefusedError(Reason.TERM_NOT_ACCEPTED, "no order is in force")
        entries = self.audit.page(first)
        return LogPage(sign_head(self.keys.signing, self.mesh, self.audit.head(now)), entries)

    def status(self, page: int, now: Millis) -> MeshStatus:
        """Return what operators are told: where this coordinator stands, and a page of its registry."""
        told = mesh_status(
            self.standing,
            self.ledger,
            page,
            log=(self.audit.size, self.audit.root),
            break_glass=self.glass.notices(self.standing.policy),
            lease_until=self._lease.until(self._lease_length()),
            now=now,
        )
        if told is None:
            raise RefusedError(Reason.NO_HANDLER, "no such page: the registry has changed")
        return told

    def beat(self, now: Millis) -> tuple[Effect, tuple[str, bytes] | None]:
        """Turn what is due and return the next beacon's subject and frame; none before the order."""
        if self.standing.order is None:
            return NO_EFFECT, None
        effect = self._regrant(now) if self.glass.mend(now) else NO_EFFECT
        if self._turning.turn(now):
            effect = self._settle(now, everyone=effect.everyone)
        self._sign(now)
        if self._has_lapsed(now):
            return effect, None
        return effect, self._beacons.frame(self._epochs, now)

    def last_word(self, now: Millis) -> tuple[str, bytes] | None:
        """Return the last beacon as a frame with its subject, if one may go out."""
        if self.standing.order is None or self._has_lapsed(now):
            return None
        return self._beacons.frame(self._epochs, now)

    def _has_lapsed(self, now: Millis) -> bool:
        until = self._lease.until(self._lease_length())
        lapsed = until is not None and until <= now
        if until is not None and lapsed and not self._lapsed:
            self.audit.append("lease-lapsed", now=now, ended=until)
        self._lapsed = lapsed
        return lapsed

    def sweep(self, now: Millis) -> Effect:
        """End what is past its time: admissions, proofs that were due, entries of the revoked set."""
        self.refusals.sweep(now)
        for party in (ended := self.ledger.expired(now)):
            self.audit.append("expired", now=now, instance=party.instance.hex())
        dropped = {party.instance for party in ended}
        overdue = self.ledger.overdue(now)
        for party in overdue:
            dropped |= self._strike(INSTANCE, party.instance.hex(), [party], UNPROVEN, now)
        changed = self.ledger.forget(now) or bool(overdue)
        settled = self._settle(now, everyone=True) if changed and self.standing.order else NO_EFFECT
        return Effect(frozenset(dropped), settled.roles, settled.everyone)

    def _note_fork(self, fork: ForkError, now: Millis) -> None:
        if fork.other not in self._forks:
            self._forks.add(fork.other)
            held, other = fork.held.hex(), fork.other.hex()
            self.audit.append("fork", now=now, version=fork.version, held=held, other=other)

    def _strike(
        self, kind: str, value: str, struck: list[Party], cause: str, now: Millis, until: Millis = 0
    ) -> frozenset[bytes]:
        limits = self.standing.limits
        return self._striking.strike(kind, value, struck, cause=cause, limits=limits, now=now, until=until)

    def _settle(self, now: Millis, *, everyone: bool, dropped: Iterable[bytes] = ()) -> Effect:
        roles = self._views.update(self.standing, self._epochs)
        self._changes.views(self._views.versions(), now)
        if self.standing.order is not None and (roles or everyone):
            # The last beacon names what is no more: whoever gets holdings gets a beacon that counts.
            self._sign(now)
        return Effect(frozenset(dropped), roles, everyone)

    def _sign(self, now: Millis) -> None:
        self._logged = self.audit.size
        self._beacons.sign(lambda sequence: self._beacon(sequence, now))

    def _beacon(self, sequence: int, now: Millis) -> Beacon:
        until = self._lease.until(self._lease_length())
        return Beacon(
            term=self.standing.term,
            sequence=sequence,
            # None is of a time after the operators' lease: whoever holds it is live for a grace after that,
            # and everything else about it is as ever, so that who joins then can still be told things.
            time=now if until is None else min(now, until),
            policy_version=self.standing.policy_version,
            policy_hash=self.standing.policy_hash,
            views_version=self._changes.version,
            changed=self._changes.changed(now),  # may raise what follows
            changed_since=self._changes.since,
            log_size=self.audit.size,
            log_root=self.audit.root,
            revoked_hash=revoked_hash(self.ledger.revoked()),
            revoked=self._changes.recently_revoked(now, self.ledger.out()),
            operators_version=self.standing.council.version,
            operators_hash=self.standing.council.digest,
        )


def event_digest(event: Event) -> bytes:
    """Return what receipts and the audit log know an event by."""
    return sha256(codec.encode(event))


def _is_digest(value: str) -> bool:
    try:
        return len(bytes.fromhex(value)) == 32 and value == bytes.fromhex(value).hex()
    except ValueError:
        return False
