"""An operator's line to the coordinator: its Evidence is verified before it hears anything.

What it shows is compared with what this console has seen before anything is sent to it. What was sent counts
as done only when the coordinator's signed receipt is here.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

import anyio
from msgspec.structs import replace as replace_fields

from agent_runtime import RefusedError
from agent_runtime.clock import MeshClock, boottime
from agent_runtime.coordination import Coordination, Party, UnreachableError
from agent_runtime.joining import AdmissionRefusedError, Coordinator
from agent_runtime.membership import Membership
from agent_runtime.refusals import Refusals
from agent_runtime.trust import joined, revoked_hash
from agent_runtime.witness import Witness
from console.operating.kept import Kept, KeptReceipt
from console.operating.memory import NO_HASH, RememberedError, Sighting, check_policy
from schemas import codec
from schemas.audit import TermProof
from schemas.documents import Beacon, LogReceipt, Order, Profile
from schemas.errors import MalformedError, PeerError, Reason
from schemas.messages import (
    OPERATOR,
    Event,
    Get,
    Holdings,
    LogPage,
    MeshStatus,
    PartyStatus,
    Revocation,
    RevocationPage,
    RevokedPage,
    SignedByOperators,
    State,
)
from schemas.policy import Policy, compiled, from_compiled
from sealing.context import sha256
from sealing.cose import unverified_payload
from sealing.council import Council, longer
from sealing.documents import open_message
from sealing.errors import NotAuthenticError
from sealing.keys import PartyKeys, SigningKey
from transport import Credentials, TransportError, connect

PATIENCE = 30.0  # seconds to find a coordinator: it may be starting
BROKER_PATIENCE = 10.0  # a broker that is up answers at once
RETRY = 0.2
RECEIPT_DEADLINE = 15.0  # a new policy may judge ten thousand agents first
# What a console says of a coordinator that waits for the operators' order: nobody else would.
NO_PROFILE = "one that has no policy yet needs the signed one from here: --profile FILE.signed"
NO_TERM = "no term is open: `sealbus mesh open --policy FILE` orders it, with as many keys as have to sign"
PAGES_TRIED = 4  # a registry that changes between pages is asked for from the beginning

T = TypeVar("T")

# A coordinator's no that asking again does not change.
_FINAL = frozenset({Reason.CLIENT_NOT_IN_POLICY, Reason.ROLE_NOT_PERMITTED})


class OperatorLine:
    """A session with one coordinator, as one operator. What goes over `coordination` alone is not kept."""

    def __init__(self, coordination: Coordination, kept: Kept) -> None:
        self.coordination = coordination
        self._kept = kept
        self._seen = _sighting(*self._peer())

    @property
    def coordinator(self) -> bytes:
        """The instance of the coordinator whose Evidence was accepted."""
        return self._peer()[0].peer.instance

    @property
    def term(self) -> int:
        """The term that the coordinator showed an order for; 0 if none is open."""
        coordinator = self.coordination.coordinator
        return coordinator.term if coordinator is not None else 0

    @property
    def council(self) -> Council:
        """The operators as this line knows them."""
        return self.coordination.witness.council

    @property
    def policy_hash(self) -> bytes:
        """The hash of the policy in force."""
        return self._seen.policy_hash

    @property
    def term_proof(self) -> TermProof:
        """Whose key signs the term's log, as the offer said it and the operators' order confirms."""
        coordinator = self.coordination.coordinator
        if coordinator is None or not coordinator.term_record:
            raise UnreachableError(f"no session with a coordinator whose term is open; {NO_TERM}")
        return TermProof(coordinator.term_record, coordinator.peer.signing_key, coordinator.kem_key)

    async def log(self, first: int) -> LogPage:
        """Return the audit log's entries from index `first` on, as many as one answer takes.

        Whoever follows the log for long is admitted anew in time, and has it proved to be one log.
        """
        if self.coordination.due_for_renewal():
            await self.coordination.renew()
        body = await self.coordination.request("get", Get("log", str(first)))
        return codec.convert(body.fields, LogPage)

    @property
    def policy_version(self) -> int:
        """The version of the policy in force; 0 if none is."""
        return self._seen.policy_version

    def keep(self, event: Event) -> None:
        """Keep an event that is to be sent, before anything that needs it."""
        self._kept.pend(event)

    def roll(self) -> Event | None:
        """Return the roll of the order that the coordinator showed, if it was sent from here."""
        order = codec.decode(unverified_payload(self.term_proof.order[0]), Order)
        return self._kept.roll(order.revocations)

    async def send(self, event: Event) -> LogReceipt:
        """Send a signed event; return the coordinator's receipt, which is kept, or raise its refusal."""
        coordinator, _ = self._peer()
        if event.kind == "policy":
            policy = _policy(event)
            check_policy(self._kept.memory(), policy, sha256(compiled(policy)))
        # What cannot be kept is not sent: later coordinators could not be told.
        self._kept.pend(event)
        try:
            body = await self.coordination.request("event", event, within=RECEIPT_DEADLINE)
        except UnreachableError as error:
            raise UnreachableError(
                "no receipt came, so it is not known whether this is in force: send the same again, which "
                "changes nothing if it is"
            ) from error
        except AdmissionRefusedError as error:
            self._kept.unpend(event)
            if error.reason is Reason.TERM_NOT_ACCEPTED and not self.term and event.kind != "order":
                raise RefusedError(error.reason, NO_TERM) from error
            raise
        if body.purpose != "receipt":
            raise MalformedError("not a receipt")
        signed = codec.convert(body.fields, bytes)
        receipt = self._judge(signed, event, coordinator)
        kept = KeptReceipt(event, signed, coordinator.peer.signing_key)
        self._kept.keep(kept, term=receipt.term, index=receipt.log_index)
        self._seen = replace(
            self._seen,
            term=receipt.term,
            log_size=max(self._seen.log_size, receipt.log_index + 1),
            log_root=None,
        )
        if event.kind == "policy":
            digest = sha256(compiled(_policy(event)))
            self._seen = replace(self._seen, policy_version=receipt.policy_version, policy_hash=digest)
        if event.kind == "order":
            order_hash = sha256(unverified_payload(event.documents[0]))
            self._seen = replace(self._seen, order_hash=order_hash)
        if event.kind == "operators":
            witness = self.coordination.witness
            witness.council = longer(witness.council, event.operators)
            self._kept.keep_council(witness.council)
            version, digest = witness.council.version, witness.council.digest
            self._seen = replace(self._seen, operators_version=version, operators_hash=digest, revocations=0)
        self._kept.learn(self._seen)
        return receipt

    def _judge(self, signed: bytes, event: Event, coordinator: Coordinator) -> LogReceipt:
        mesh = self.coordination.party.mesh
        # 1. Signed by the very coordinator whose Evidence was accepted.
        receipt = open_message(signed, coordinator.peer.signing_key, mesh, "receipt", LogReceipt)
        # 2. About what was sent, as it was sent.
        if receipt.event != sha256(codec.encode(event)):
            raise NotAuthenticError("a receipt for another event")
        # 3. In the term that was shown, or that the order opened; others may follow as operators before it.
        before = event.kind == "operators" and not self._seen.term
        if bool(receipt.term) is before or self._seen.term not in (0, receipt.term):
            raise NotAuthenticError("a receipt of another term")
        # 4. And what it says is in force is what was sent.
        if event.kind == "policy" and receipt.policy_version != _policy(event).version:
            raise NotAuthenticError("a receipt for another policy")
        return receipt

    async def status(self) -> MeshStatus:
        """Return where the coordinator stands, with its whole registry."""
        for _ in range(PAGES_TRIED):
            first = await self._page(0)
            parties: list[PartyStatus] = list(first.parties)
            try:
                for number in range(1, first.pages):
                    parties += (await self._page(number)).parties
            except AdmissionRefusedError:
                continue  # it has become smaller meanwhile
            return replace_fields(first, parties=tuple({party.instance: party for party in parties}.values()))
        raise UnreachableError("the registry changes faster than it can be read: ask again")

    async def revoked(self) -> tuple[Revocation, ...]:
        """Return the revoked set as the coordinator's last beacon names it; before the order it is empty."""
        if not self.term:
            return ()
        coordinator, _ = self._peer()
        mesh = self.coordination.party.mesh
        for _ in range(PAGES_TRIED):
            held = await self.ask("holdings", "", Holdings)
            pages = [held.revoked]
            try:
                for number in range(1, held.revoked_pages):
                    page = await self.ask("revoked", str(number), RevokedPage)
                    pages += [page.revoked]
            except AdmissionRefusedError:
                continue  # it has changed meanwhile
            beacon = open_message(held.beacon, coordinator.peer.signing_key, mesh, "beacon", Beacon)
            if revoked_hash(whole := joined(pages)) == beacon.revoked_hash:
                return whole
        raise UnreachableError("the revoked set changes faster than it can be read: ask again")

    async def revocations(self, first: int) -> list[SignedByOperators]:
        """Return what operators revoked in this term, as they signed it, from an index on."""
        found: list[SignedByOperators] = []
        total = first + 1
        while first + len(found) < total:
            page = await self.ask("revocations", str(first + len(found)), RevocationPage)
            if not page.signed:
                break
            found += page.signed
            total = page.total
        return found

    def saw_revocations(self, count: int) -> None:
        """Remember how many of this term's revocations this console knows."""
        self._seen = replace(self._seen, revocations=count)
        self._kept.learn(self._seen)

    async def ask(self, what: str, arg: str, kind: type[T]) -> T:
        """Return what the coordinator answers to a `get`, or raise its refusal."""
        body = await self.coordination.request("get", Get(what, arg))
        return codec.convert(body.fields, kind)

    async def _page(self, number: int) -> MeshStatus:
        return await self.ask("status", str(number), MeshStatus)

    def _peer(self) -> tuple[Coordinator, State]:
        coordinator, state = self.coordination.coordinator, self.coordination.state
        if coordinator is None or state is None:
            raise UnreachableError("no session with a coordinator")
        return coordinator, state


@asynccontextmanager
async def operator_line(
    url: str,
    *,
    council: Council,
    profile: Profile | None,
    key: SigningKey,
    kept: Kept,
    credentials: Credentials | None = None,
    patience: float = PATIENCE,
) -> AsyncIterator[OperatorLine]:
    """Open a line to a coordinator that the operators accept; raise the last refusal if none is found.

    `profile` is for one that has none yet: before its order, and before its first policy. Raise
    `RememberedError` for one that is behind what `kept` has seen, or that is its second.
    """
    mesh = council.mesh
    keys = PartyKeys(key, client=True)
    party = Party(mesh, keys, OPERATOR, (OPERATOR,), None, os.urandom, boottime, profile)
    witness = Witness(council)
    memory = kept.memory()
    witness.profile_version = memory.profile_version
    if memory.head is not None:
        # The log may only have grown from what this console saw: it has that proved before it goes on.
        witness.saw_before(memory.term, memory.head)
    membership = Membership(
        mesh,
        keys,
        MeshClock(boottime),
        witness,
        kind=OPERATOR,
        roles=(OPERATOR,),
        random=os.urandom,
    )
    async with connect(
        url, name="operator", credentials=credentials, patience=min(max(patience, 1.0), BROKER_PATIENCE)
    ) as transport:
        coordination = Coordination(party, transport, membership, Refusals(), _nothing)
        try:
            yield await _checked(coordination, kept, patience)
        finally:
            with anyio.CancelScope(shield=True):
                await coordination.close()
                membership.erase()


async def _checked(coordination: Coordination, kept: Kept, patience: float) -> OperatorLine:
    for last in (False, True):
        await _join(coordination, patience)
        line = OperatorLine(coordination, kept)
        try:
            kept.note(line._seen)  # noqa: SLF001 - one module
            kept.keep_council(line.council)
        except RememberedError:
            # Another console may have remembered a longer log between the accept and here: once more.
            await coordination.close()
            if last:
                raise
            continue
        return line
    raise AssertionError("the second time returns or raises")


def _policy(event: Event) -> Policy:
    return from_compiled(unverified_payload(event.documents[0]))


def _sighting(coordinator: Coordinator, state: State) -> Sighting:
    return Sighting(
        term=coordinator.term,
        key=coordinator.peer.signing_key,
        policy_version=state.policy_version,
        policy_hash=state.policy_hash,
        log_size=state.log_size,
        log_root=state.log_root,
        profile_version=coordinator.profile.version if state.policy_version else 0,
        operators_version=state.operators_version,
        operators_hash=state.operators_hash,
        order_hash=_order_hash(coordinator),
    )


def _order_hash(coordinator: Coordinator) -> bytes:
    if not coordinator.term_record:
        return NO_HASH
    return sha256(unverified_payload(coordinator.term_record[0]))


async def _join(coordination: Coordination, patience: float) -> None:
    deadline = anyio.current_time() + patience
    while True:
        try:
            return await coordination.join()
        except (PeerError, TransportError) as error:
            if isinstance(error, UnreachableError) and error.refused is Reason.MEASUREMENT_NOT_IN_POLICY:
                raise RefusedError(
                    error.refused,
                    "the coordinator's code is not what the operators signed; if that is meant, measure and "
                    "sign it again (in a lab: sealbus lab resign --dir DIR)",
                ) from error
            if isinstance(error, AdmissionRefusedError) and error.reason in _FINAL:
                raise
            no_term = isinstance(error, UnreachableError) and error.refused is Reason.TERM_NOT_ACCEPTED
            if no_term and anyio.current_time() >= deadline:
                raise UnreachableError(f"no acceptable offer from a coordinator: {NO_TERM}") from error
            if coordination.witness.equivocated:
                raise
            unknown = isinstance(error, UnreachableError) and error.refused is Reason.SIGNATURES_TOO_FEW
            if unknown and anyio.current_time() >= deadline:
                raise UnreachableError(f"{error}; {NO_PROFILE}", Reason.SIGNATURES_TOO_FEW) from error
            if anyio.current_time() >= deadline:
                raise
            await anyio.sleep(RETRY)


async def _nothing() -> None:
    """An operator holds no views: there is nothing to do when they change."""
