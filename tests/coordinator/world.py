"""A coordinator's core and scripted parties, joined back to back: what one publishes the other takes.

Time and randomness are the test's. Evidence is a stand-in whose only truth is `fake_appraise`, which is
handed to the world as a callable and knows nothing that the core does not give it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from coordinator import AppraisalRequest, Core, Publish, Subscribe, Unsubscribe
from coordinator.actions import Action
from schemas import codec
from schemas.documents import Anchor, OperatorKey, Order, RevocationOrder
from schemas.errors import PeerError, Reason
from schemas.evidence import (
    NITRO,
    SEV_SNP,
    AttestationResult,
    Evidence,
    PlatformValues,
)
from schemas.messages import (
    CLIENT,
    ENCLAVE,
    OPERATOR,
    Accept,
    Admitted,
    Body,
    Credential,
    Directory,
    Event,
    EvidenceAnswer,
    Get,
    Hello,
    Holdings,
    Millis,
    Offer,
    Refused,
    State,
)
from schemas.pinning import Pinned
from schemas.policy import Client, Policy, TaskClass, Workload, compiled
from schemas.rules import Rule
from schemas.subjects import Kind, subject
from sealing import binding, merkle
from sealing.audit import leaf
from sealing.context import Mesh, sha256
from sealing.council import founders
from sealing.documents import open_admission, sign_by_operators
from sealing.keys import PartyKeys, SigningKey, instance
from sealing.profile import profile_of
from sealing.roll import EMPTY
from sealing.session import Peer, PendingSession, Session

START = 1_800_000_000_000
CHIP = "c0" * 64
EVIDENCE_TYPE = "application/test-evidence"


class Refusal(Exception):  # noqa: N818 - it is an answer, not a failure
    """The coordinator's `refused`, with its one reason."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(*refused.reasons)
        self.reasons = refused.reasons


def seeded(seed: int) -> Callable[[int], bytes]:
    """Return a source of bytes that never repeats and is the same in every run."""
    counter = iter(range(2**62))
    return lambda size: hashlib.shake_256(f"{seed}/{next(counter)}".encode()).digest(size)


def measured(workload: str) -> dict[str, str]:
    """Return the measurements of a workload's image."""
    return {"measurement": hashlib.sha384(workload.encode()).hexdigest(), "host_data": "00" * 32}


def evidence(workload: str, key_binding: bytes, chip: str = CHIP) -> Evidence:
    """Return stand-in Evidence."""
    return Evidence(EVIDENCE_TYPE, codec.encode([workload, chip, key_binding]))


def fake_appraise(request: AppraisalRequest) -> AttestationResult:
    """Judge stand-in Evidence by the Reference Values of the request."""
    workload, chip, bound = codec.decode(request.evidence.value, tuple[str, str, bytes])
    if bound != request.key_binding:
        raise PeerError(Reason.KEY_BINDING_MISMATCH)
    for values in request.reference_values.workloads:
        if values.measurements == measured(workload):
            return AttestationResult(
                platform=values.platform,
                workload=values.workload,
                workload_id=sha256(workload.encode()),
                measurements=measured(workload),
                chip=chip,
                debug=False,
                lab=True,
                status="",
            )
    raise PeerError(Reason.MEASUREMENT_NOT_IN_POLICY)


@dataclass
class World:
    """One coordinator, its operators, and what it last said on every subject."""

    suite: int = 1
    appraise: Callable[[AppraisalRequest], AttestationResult] = fake_appraise
    now: int = START
    log: list[str] = field(default_factory=list)
    said: list[Publish] = field(default_factory=list)
    heard: set[str] = field(default_factory=set)  # session subjects the core listens to
    waiting: list[AppraisalRequest] = field(default_factory=list)
    hold_appraisals: bool = False
    roots: tuple[str, ...] = ("ab" * 32, "cd" * 32)  # that the anchor names

    def __post_init__(self) -> None:
        self.operators = [SigningKey(bytes([number]) * 32) for number in (1, 2, 3)]
        keys = tuple(OperatorKey(f"op{n}", key.public) for n, key in enumerate(self.operators))
        self.anchor = Anchor(self.suite, keys, 2, self.roots, self.now, 1)
        self.mesh = Mesh(sha256(codec.encode(self.anchor)), self.suite)
        self.council = founders(self.anchor, self.mesh)
        self.random = seeded(1)
        self.keys = PartyKeys()
        self.core = Core(self.council, self.mesh, self.keys, random=self.random, emit=self.log.append)
        self.policy_hash: bytes | None = None

    def log_root(self, size: int) -> bytes:
        """Return the root over the first entries of the audit log, by the definition of the tree."""
        entries = self.core.authority.audit.page("0")
        return merkle.root([leaf(self.mesh, entry) for entry in entries[:size]])

    # The shell.

    def carry_out(self, actions: list[Action] | list[Publish | Subscribe]) -> None:
        """Do what the core asks, in its order."""
        for action in actions:
            match action:
                case Publish():
                    self.said.append(action)
                case Subscribe(to):
                    self.heard.add(to)
                case Unsubscribe(to):
                    self.heard.discard(to)
                case AppraisalRequest():
                    self.waiting.append(action)
        while self.waiting and not self.hold_appraisals:
            self.appraise_next()

    def appraise_next(self) -> None:
        """Appraise what waits longest."""
        request = self.waiting.pop(0)
        outcome: AttestationResult | PeerError
        try:
            outcome = self.appraise(request)
        except PeerError as refusal:
            outcome = refusal
        self.carry_out(self.core.handle_appraisal(request, outcome, now=self.now))

    def take(self, to: str) -> list[bytes]:
        """Return what was said on a subject since it was last asked."""
        taken = [each.payload for each in self.said if each.subject == to]
        self.said = [each for each in self.said if each.subject != to]
        return taken

    def frame(self, session: Session, purpose: str, fields: Any, request: bytes = bytes(16)) -> None:
        """Send a frame on a session that the core listens to."""
        assert session.send_subject in self.heard
        wire = session.seal(codec.encode(Body(purpose, request, fields)))
        self.carry_out(self.core.handle_frame(wire, now=self.now))

    def tick(self, milliseconds: int) -> None:
        """Let time pass, with the sweep and the beacon that are due at its end."""
        self.now += milliseconds
        self.carry_out(self.core.sweep(now=self.now))
        self.carry_out(self.core.beacon(now=self.now))

    def offer(self, nonce: bytes | None = None) -> tuple[bytes, Offer]:
        """Say hello and return the offer, as bytes and opened."""
        hello = codec.encode(Hello(self.mesh.suite, self.mesh.id, nonce or self.random(32)))
        self.core.handle_hello(hello)
        taken = self.core.take_hellos()
        assert taken is not None
        batch, bound = taken
        self.carry_out(self.core.handle_quote(batch, evidence("coordinator", bound), {}, now=self.now))
        (wire,) = self.take(subject(self.mesh.id, Kind.OFFER, sha256(hello)[:16]))
        return wire, codec.decode(wire, Offer)

    # The operators.

    def signed(self, label: str, payload: bytes, signers: int | None = None) -> tuple[bytes, ...]:
        """Return `SIGN_OPS` by the first so many operators; by as many as have to if it is not said."""
        return sign_by_operators(
            self.operators[: signers or self.council.threshold], self.council, label, payload
        )

    def order(self, **changes: Any) -> Event:
        """Return the order that opens the first term for this coordinator."""
        fields = {
            "mesh": self.mesh.id,
            "term": 1,
            "instance": self.keys.instance,
            "policy_hash": None,
            "log_head": None,
            "revocations": EMPTY,
            "time": self.now,
        }
        order = Order(**{**fields, **changes})
        return Event("order", self.signed("order", codec.encode(order)), None, ())

    def policy_event(self, policy: Policy, signers: int | None = None) -> Event:
        """Return a policy with its profile."""
        profile = profile_of(self.mesh, policy)
        return Event(
            "policy",
            self.signed("policy", compiled(policy), signers),
            self.signed("profile", codec.encode(profile)),
            (),
        )

    def revocation(
        self, kind: str, value: str, *, time: Millis | None = None, signers: int | None = None
    ) -> Event:
        """Return the revocation of an instance, a chip or a workload, of now or of another time."""
        order = RevocationOrder(self.mesh.id, kind, value, "test", self.now if time is None else time)
        return Event("revocation", self.signed("revocation", codec.encode(order), signers), None, ())

    def policy(self, **changes: Any) -> Policy:
        """Return a policy: planners submit to redactors and call the vault, a client submits to planners."""
        fields: dict[str, Any] = {
            "mesh": self.mesh.id.hex(),
            "version": 1,
            "issued": self.anchor.issued,
            "platforms": {name: PlatformValues(lab_roots=("ab" * 32,)) for name in (SEV_SNP, NITRO)},
            "coordinators": {SEV_SNP: Pinned(measurements=measured("coordinator"))},
            "workloads": {
                role: Workload(roles=(role,), on={SEV_SNP: Pinned(measurements=measured(role))})
                for role in ("planner", "redactor", "vault")
            },
            "clients": {"cli": Client(key=CLIENT_KEY.public.hex(), roles=("submitter",))},
            "classes": {
                "plan": TaskClass(role="planner"),
                "redact": TaskClass(role="redactor", lifetime_seconds=600),
            },
            "tools": {"pseudonym": "vault"},
            "rules": (
                Rule(role="submitter", may="submit", what="plan", max_bytes=1000),
                Rule(role="planner", may="submit", what="redact"),
                Rule(role="redactor", may="call", what="pseudonym", per_minute=60),
            ),
        }
        return Policy(**{**fields, **changes})

    def next_policy(self, policy: Policy, **changes: Any) -> Policy:
        """Return a successor of `policy`."""
        fields = {name: getattr(policy, name) for name in Policy.__struct_fields__}
        predecessor = sha256(compiled(policy)).hex()
        return Policy(**{**fields, "version": policy.version + 1, "predecessor": predecessor, **changes})

    def up(self, policy: Policy | None = None) -> "Party":
        """Bring the mesh up; return the operator who did."""
        operator = Party(self, OPERATOR, ("operator",), signing=self.operators[0]).join()
        operator.event(self.order())
        operator.event(self.policy_event(policy or self.policy()))
        return self.up_again()

    def up_again(self) -> "Party":
        """Return an operator on a new session."""
        return Party(self, OPERATOR, ("operator",), signing=self.operators[0]).join()


CLIENT_KEY = SigningKey(b"\x09" * 32)


class Party:
    """A scripted party: says what a real one says, and keeps what it got."""

    def __init__(
        self,
        world: World,
        kind: str,
        roles: tuple[str, ...],
        *,
        signing: SigningKey | None = None,
        chip: str = CHIP,
        workload: str | None = None,
    ) -> None:
        self.world, self.kind, self.roles, self.chip = world, kind, roles, chip
        self.workload = workload if workload is not None else (roles or ("",))[0]
        self.keys = PartyKeys(signing, client=kind != ENCLAVE)
        self.pending: PendingSession
        self.session: Session
        self.state: State
        self.admitted: Admitted

    @classmethod
    def enclave(cls, world: World, *roles: str, chip: str = CHIP, workload: str | None = None) -> "Party":
        return cls(world, ENCLAVE, roles, chip=chip, workload=workload)

    @classmethod
    def client(cls, world: World, *roles: str) -> "Party":
        return cls(world, CLIENT, roles or ("submitter",), signing=CLIENT_KEY)

    def join(self) -> "Party":
        """Go all the way from hello to admitted."""
        self.say_init()
        self.take_accept()
        self.prove()
        return self

    def renew(self) -> "Party":
        """Be admitted again, on a session that replaces the present one."""
        self.say_init(context=self.session.transcript)
        self.take_accept()
        self.prove()
        return self

    def say_init(self, *, context: bytes | None = None, credential: Credential | None = None) -> bytes:
        """Send an init that answers an offer, or has another context; return it as sent."""
        if context is None:
            context = sha256(self.world.offer()[0])
        self.pending = self.pend(credential or self.credential(), context)
        self.world.carry_out(self.world.core.handle_boot(self.pending.wire, now=self.world.now))
        return self.pending.wire

    def pend(self, credential: Credential, context: bytes, **names: bytes) -> PendingSession:
        """Return an init that was not sent."""
        theirs = self.world.keys
        return PendingSession(
            self.world.mesh,
            self.keys,
            responder=Peer(theirs.instance, theirs.signing.public),
            responder_kem=theirs.kem.public,
            credential=codec.encode(credential),
            context=context,
            secret=self.world.random(32),
            session_id=self.world.random(8),
            **names,
        )

    def credential(self) -> Credential:
        return Credential(self.kind, self.keys.signing.public, self.keys.kem.public, self.roles, None)

    def take_accept(self) -> None:
        (wire,) = self.world.take(self.pending.accept_subject)
        accepts: list[Accept] = []
        self.session = self.pending.accept(wire, accepts.append)
        assert accepts[0].state is not None
        self.state = codec.decode(accepts[0].state, State)
        self.world.frame(self.session, "confirm", None)

    def binding(self, **changes: bytes) -> bytes:
        """Return the key binding that Evidence has to carry, or another."""
        fields = {
            "challenge": self.state.challenge,
            "transcript": self.session.transcript,
            "signing_key": self.keys.signing.public,
            "kem_key": self.keys.kem.public,
        }
        return binding.key_binding(self.world.mesh, binding.AGENT, **{**fields, **changes})

    def prove(self, given: Evidence | None = None) -> None:
        """Send Evidence, take the admission, or raise the refusal."""
        self.send_evidence(given)
        self.admitted = codec.convert(self.answer("admitted"), Admitted)

    def send_evidence(self, given: Evidence | None = None, *, request: bytes = b"e" * 16) -> None:
        if given is None and self.kind == ENCLAVE:
            given = evidence(self.workload, self.binding(), self.chip)
        self.world.frame(self.session, "evidence", EvidenceAnswer(given, {}, ()), request)

    def bodies(self) -> list[Body]:
        """Return what came on the session since it was last asked."""
        frames = self.world.take(self.session.receive_subject)
        return [codec.decode(self.session.open(frame), Body) for frame in frames]

    def answer(self, purpose: str) -> Any:
        """Return the fields of the one answer that came besides pushes, or raise the refusal."""
        (body,) = [body for body in self.bodies() if body.purpose != "push"]
        if body.purpose == "refused":
            raise Refusal(codec.convert(body.fields, Refused))
        assert body.purpose == purpose
        return body.fields

    def pushed(self) -> list[Holdings]:
        """Return the holdings that were pushed since last asked."""
        bodies = self.bodies()
        assert all(body.purpose == "push" for body in bodies)
        return [codec.convert(body.fields, Holdings) for body in bodies]

    def request(self, purpose: str, fields: Any, answer: str) -> Any:
        """Ask, and return the answer's fields or raise its refusal."""
        self.world.frame(self.session, purpose, fields, self.world.random(16))
        return self.answer(answer)

    def event(self, event: Event) -> bytes:
        """Bring an event; return the signed receipt."""
        return codec.convert(self.request("event", event, "receipt"), bytes)

    def holdings(self) -> Holdings:
        return codec.convert(self.request("get", Get("holdings", ""), "got"), Holdings)

    def directory(self, role: str) -> list[bytes]:
        """Return the instances that the coordinator names for a role."""
        found = codec.convert(self.request("get", Get("directory", role), "got"), Directory)
        key = self.world.keys.signing.public
        return [open_admission(each, key, self.world.mesh).subject for each in found.admissions]


def instance_of(keys: PartyKeys) -> bytes:
    """Return an enclave's instance id."""
    return instance(keys.signing.public, keys.kem.public)
