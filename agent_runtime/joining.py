"""Joining the mesh: hello, offer, init, accept, evidence, admitted (docs/protocol.md section 1).

Pure: every step takes bytes and returns what to send or what was verified. Until the coordinator's
Evidence has been appraised the process has said nothing but a random challenge.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from agent_runtime.clock import MeshClock
from agent_runtime.witness import Head, Witness
from schemas import codec
from schemas.documents import Order, Profile
from schemas.errors import MalformedError, PeerError, Reason
from schemas.evidence import Endorsements, Evidence, ReferenceValues
from schemas.limits import MAX_OFFER
from schemas.messages import (
    LAST_MOMENT,
    Accept,
    Admitted,
    Body,
    CoordinatorCredential,
    Credential,
    Hello,
    LogProof,
    Millis,
    Offer,
    Refused,
    State,
)
from schemas.subjects import Kind, subject
from sealing import binding, merkle
from sealing.context import Mesh, sha256
from sealing.council import Council, follow, longer
from sealing.documents import open_act, open_profile
from sealing.errors import NotAuthenticError, SealingError
from sealing.keys import PartyKeys, instance
from sealing.session import Peer, PendingSession, Session

NO_REQUEST = bytes(16)


class AdmissionRefusedError(PeerError):
    """The coordinator said no; `reason` is the first of its codes."""


@dataclass(frozen=True, slots=True)
class PendingHello:
    """A hello on its way, and where its offer will arrive."""

    wire: bytes
    subject: str
    offer_subject: str


def hello(mesh: Mesh, nonce: bytes) -> PendingHello:
    """Return the hello for a random 32-byte `nonce`."""
    wire = codec.encode(Hello(mesh.suite, mesh.id, nonce))
    return PendingHello(wire, subject(mesh.id, Kind.HELLO), subject(mesh.id, Kind.OFFER, sha256(wire)[:16]))


@dataclass(frozen=True, slots=True)
class Coordinator:
    """A coordinator whose offer was verified, all but the appraisal that `Appraisal` asks for."""

    peer: Peer
    kem_key: bytes
    context: bytes
    term: int
    profile: Profile
    ordered: Millis  # the time that its term's order names
    term_record: tuple[bytes, ...]  # that order as signed; empty before it
    council: Council  # whose word it shows


@dataclass(frozen=True, slots=True)
class Appraisal:
    """What `attestation.appraise` has to find acceptable before anything else is said."""

    evidence: Evidence
    endorsements: Endorsements
    reference_values: ReferenceValues
    key_binding: bytes
    challenge: bytes
    now: datetime


def judge_offer(
    mesh: Mesh,
    pending: PendingHello,
    wire: bytes,
    witness: Witness,
    clock: MeshClock,
    *,
    host_time: Millis,
    profile: Profile | None = None,
) -> tuple[Coordinator, Appraisal]:
    """Judge an offer against our own pending hello.

    An operator's console passes a `profile` of its own, by which it takes an offer without a term record, to
    order the term, or without a profile, to hand over the first policy. Nobody else does.
    """
    # 1. Size, shape, and that it answers our hello.
    if len(wire) > MAX_OFFER:
        raise SealingError(Reason.TOO_LARGE, "offer")
    offer = codec.decode(wire, Offer)
    if not hmac.compare_digest(offer.hello, sha256(pending.wire)):
        raise SealingError(Reason.CHALLENGE_UNKNOWN, "an offer to another hello")
    # 2. Our hello is a leaf under the challenge.
    challenge = merkle.root_of_path(merkle.leaf(mesh, pending.wire), offer.index, offer.count, offer.path)
    # 3. The operators, by every change since the anchor: no fewer than were seen, and no others.
    council = _council(witness.council, offer, own=profile is not None)
    # 4. Their profile, not older than any seen.
    if profile is None and offer.term_record is None:
        raise SealingError(Reason.TERM_NOT_ACCEPTED, "no term is open")
    if profile is None or offer.profile:
        profile = open_profile(council, mesh, offer.profile)
    if profile.version < witness.profile_version:
        raise SealingError(Reason.STATE_ROLLED_BACK, "profile")
    # 5. The term, ordered by the operators for exactly this instance.
    peer = Peer(instance(offer.signing_key, offer.kem_key), offer.signing_key)
    ordered = 0
    if offer.term_record is None and offer.term:
        raise SealingError(Reason.TERM_NOT_ACCEPTED, "a term without its record")
    if offer.term_record is not None:
        order = open_act(council, mesh, offer.term_record, Order)
        if order.instance != peer.instance or order.term != offer.term:
            raise SealingError(Reason.TERM_NOT_ACCEPTED, "the order names another instance or term")
        witness.check_term(order.term, offer.signing_key)
        ordered = order.time
    # 6. Evidence over its keys and our challenge: left to the appraiser.
    now = min(LAST_MOMENT, max(host_time, council.issued, profile.issued, ordered, clock.highest()))
    bound = binding.key_binding(
        mesh,
        binding.COORDINATOR,
        challenge,
        binding.NO_TRANSCRIPT,
        offer.signing_key,
        offer.kem_key,
    )
    return (
        Coordinator(
            peer,
            offer.kem_key,
            sha256(wire),
            offer.term,
            profile,
            ordered,
            offer.term_record or (),
            council,
        ),
        Appraisal(
            offer.evidence,
            offer.endorsements,
            profile.reference_values,
            bound,
            challenge,
            datetime.fromtimestamp(now / 1000, UTC),
        ),
    )


def _council(held: Council, offer: Offer, *, own: bool) -> Council:
    if own and offer.term_record is None:
        # A coordinator that was just started knows the anchor alone: our console tells it the changes.
        return longer(held, offer.operators)
    return follow(held, offer.operators)


def begin(
    mesh: Mesh,
    keys: PartyKeys,
    coordinator: Coordinator,
    credential: Credential,
    random: Callable[[int], bytes],
    *,
    replaces: Session | None = None,
) -> PendingSession:
    """Return the init to a coordinator whose Evidence was accepted."""
    return PendingSession(
        mesh,
        keys,
        responder=coordinator.peer,
        responder_kem=coordinator.kem_key,
        credential=codec.encode(credential),
        context=replaces.transcript if replaces else coordinator.context,
        secret=random(32),
        session_id=random(8),
    )


def judge_accept(coordinator: Coordinator, accept: Accept, witness: Witness) -> State:
    """Return where the coordinator stands, or refuse one that went backwards."""
    credential = codec.decode(accept.credential, CoordinatorCredential)
    if (credential.signing_key, credential.kem_key) != (coordinator.peer.signing_key, coordinator.kem_key):
        raise NotAuthenticError("accept by other keys than the offer's")
    if accept.state is None:
        raise MalformedError("an accept of the coordinator without its state")
    state = codec.decode(accept.state, State)
    if state.term != coordinator.term:
        raise SealingError(Reason.TERM_NOT_ACCEPTED, "accept of another term than the offer's")
    witness.check_state(state)
    return state


def enter(witness: Witness, coordinator: Coordinator, state: State) -> None:
    """Remember an accepted coordinator's profile, term key and state."""
    witness.profile_version = max(witness.profile_version, coordinator.profile.version)
    if coordinator.council.version > witness.council.version:
        witness.council = coordinator.council
    if coordinator.term:
        witness.enter_term(coordinator.term, coordinator.peer.signing_key)
        witness.enter_state(state)


def judge_log(witness: Witness, older: Head, newer: Head, proof: LogProof) -> None:
    """Refuse a coordinator whose proof does not show that one head of its log grew into the other.

    It said so within our session: nobody else can end our trust in it.
    """
    try:
        merkle.check_consistency(older[0], newer[0], older[1], newer[1], proof.path)
    except NotAuthenticError as error:
        # Both heads are kept and named, for whoever has to find out what happened.
        witness.fork = (older, newer)
        raise SealingError(
            Reason.EQUIVOCATION,
            f"{older[0]} entries with root {older[1].hex()} do not begin {newer[0]} with {newer[1].hex()}",
        ) from error


def confirm() -> bytes:
    """Return the body of the frame that proves the initiator has the session's keys."""
    return codec.encode(Body("confirm", NO_REQUEST, None))


def agent_binding(mesh: Mesh, keys: PartyKeys, session: Session, state: State) -> bytes:
    """Return what our Evidence has to carry: this challenge, this session, these keys."""
    return binding.key_binding(
        mesh,
        binding.AGENT,
        state.challenge,
        session.transcript,
        keys.signing.public,
        keys.kem.public,
    )


def open_admitted(body: Body) -> Admitted:
    """Return the coordinator's yes, or raise its no."""
    if body.purpose == "refused":
        raise refusal(codec.convert(body.fields, Refused))
    if body.purpose != "admitted":
        raise MalformedError("not an answer to evidence")
    return codec.convert(body.fields, Admitted)


def refusal(refused: Refused) -> AdmissionRefusedError:
    """Return a coordinator's no as an error."""
    known = [Reason(code) for code in refused.reasons if code in set(Reason)]
    return AdmissionRefusedError(known[0] if known else Reason.MALFORMED, refused.detail)
