"""What a turn costs the coordinator of a large mesh: CPU, messages, and the largest of them.

The pure core, with real sessions and no broker. A turn is what follows when the operators' revocation of a
member is in force: a new epoch, views, a beacon, and a push to everybody, sealed for each. What the core is
given by others (Evidence and its appraisal) is not measured, and stands in for itself.
"""

import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from benchmarks.ratios import Aim, Row
from coordinator import AppraisalRequest, Core, Publish
from coordinator.actions import Action
from schemas import codec
from schemas.documents import Anchor, OperatorKey, Order, RevocationOrder
from schemas.evidence import SEV_SNP, AttestationResult, Evidence, PlatformValues
from schemas.limits import DAY, MAX_MESSAGE, MINUTE, SECOND
from schemas.messages import (
    ENCLAVE,
    OPERATOR,
    Body,
    Credential,
    Event,
    EvidenceAnswer,
    Hello,
)
from schemas.pinning import Pinned
from schemas.policy import Limits, Policy, TaskClass, Workload, compiled
from schemas.rules import Rule
from sealing.context import SUITE_GCM, Mesh, sha256
from sealing.council import founders
from sealing.documents import sign_by_operators
from sealing.keys import PartyKeys, SigningKey
from sealing.profile import profile_of
from sealing.roll import EMPTY
from sealing.session import Peer, PendingSession, Session

Say = Callable[[str], None]

ROLES = ("worker", "planner")
START = 1_800_000_000_000
BUDGET = 2.0  # seconds of CPU for a turn of MEMBERS: what the peers' column holds
MEMBERS = 10_000
_CONFIRM = bytes(16)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn as it was measured."""

    seconds: float  # of CPU, of the coordinator alone
    messages: int
    largest: int  # bytes


def measure(*, rounds: int, members: int, say: Say) -> list[Row]:
    """Measure hard and timed turns. Half of the members are of the role that turns, half submit to it."""
    say(f"admitting {members} members")
    mesh = LargeMesh(members)
    hard: list[Turn] = []
    timed: list[Turn] = []
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}" if number else "warming up")
        pair = mesh.hard_turn(), mesh.timed_turn()
        if number:
            hard.append(pair[0])
            timed.append(pair[1])
    scale = members / MEMBERS
    return [
        *(
            Row(
                f"{name}-cpu",
                f"{name} turn, {members} members",
                f"{BUDGET:.0f} s for {MEMBERS}",
                "s",
                tuple(turn.seconds for turn in turns),
                (BUDGET * scale,) * rounds,
                Aim(1.0, "lower"),
            )
            for name, turns in (("hard", hard), ("timed", timed))
        ),
        Row(
            "messages",
            "messages for each member of a turn",
            "one",
            "messages",
            tuple(turn.messages / members for turn in hard),
            (1.0,) * rounds,
            Aim(1.1, "lower"),
        ),
        Row(
            "largest",
            "the largest message of a turn",
            "what a broker takes",
            "bytes",
            tuple(float(turn.largest) for turn in hard),
            (float(MAX_MESSAGE),) * rounds,
            Aim(1.0, "lower"),
        ),
    ]


class LargeMesh:
    """A coordinator's core with very many members, each with a session of its own."""

    def __init__(self, members: int) -> None:
        operators = [SigningKey() for _ in range(2)]
        named = tuple(OperatorKey(f"operator-{n}", each.public) for n, each in enumerate(operators))
        anchor = Anchor(SUITE_GCM, named, 2, ("ab" * 32,), START, 1)
        self._operators = operators
        self._mesh = Mesh(sha256(codec.encode(anchor)), anchor.suite)
        self._keys = PartyKeys()
        self._council = founders(anchor, self._mesh)
        self._core = Core(self._council, self._mesh, self._keys, random=os.urandom, emit=lambda _: None)
        self._now = START
        self._operator = self._join(OPERATOR, "operator", operators[0])
        self._event("order", Order(self._mesh.id, 1, self._keys.instance, None, None, EMPTY, START))
        self._policy()
        self._operator = self._join(OPERATOR, "operator", operators[0])
        for number in range(members):
            self._join(ENCLAVE, ROLES[number % 2])
        if self._core.refusals:
            raise RuntimeError(f"the benchmark's parties were refused: {self._core.refusals}")

    def hard_turn(self) -> Turn:
        """Revoke a member that comes for this alone: its role turns, and everybody hears of it."""
        keys = PartyKeys()
        self._join(ENCLAVE, ROLES[0], keys=keys)
        revocation = RevocationOrder(self._mesh.id, "instance", keys.instance.hex(), "bench", self._now)
        gc.collect()
        return _measured(lambda: self._event("revocation", revocation))

    def timed_turn(self) -> Turn:
        """Let time pass until the next epoch of the large role goes out."""
        gc.collect()
        while True:
            self._now += MINUTE
            turn = _measured(lambda: self._core.beacon(now=self._now))
            if turn.messages > 1:  # more than a beacon
                return turn

    # What parties say, as far as the core has to hear it.

    def _join(
        self, kind: str, role: str, signing: SigningKey | None = None, *, keys: PartyKeys | None = None
    ) -> Session:
        keys = keys or PartyKeys(signing, client=kind != ENCLAVE)
        hello = codec.encode(Hello(self._mesh.suite, self._mesh.id, os.urandom(32)))
        self._core.handle_hello(hello)
        taken = self._core.take_hellos()
        assert taken is not None
        evidence = Evidence("application/bench", b"")
        (offer,) = self._published(self._core.handle_quote(taken[0], evidence, {}, now=self._now))
        pending = PendingSession(
            self._mesh,
            keys,
            responder=Peer(self._keys.instance, self._keys.signing.public),
            responder_kem=self._keys.kem.public,
            credential=codec.encode(Credential(kind, keys.signing.public, keys.kem.public, (role,), None)),
            context=sha256(offer),
            secret=os.urandom(32),
            session_id=os.urandom(8),
        )
        (accept,) = self._published(self._core.handle_boot(pending.wire, now=self._now))
        session = pending.accept(accept, lambda _: None)
        self._say(session, "confirm", None)
        proof = evidence if kind == ENCLAVE else None
        for action in self._say(session, "evidence", EvidenceAnswer(proof, {}, ())):
            if isinstance(action, AppraisalRequest):
                result = AttestationResult(
                    platform=SEV_SNP,
                    workload=role,
                    workload_id=sha256(role.encode()),
                    measurements=_pinned(role),
                    chip=os.urandom(64).hex(),
                    debug=False,
                    lab=True,
                    status="",
                )
                self._core.handle_appraisal(action, result, now=self._now)
        return session

    def _say(self, session: Session, purpose: str, fields: object) -> list[Action]:
        frame = session.seal(codec.encode(Body(purpose, _CONFIRM, fields)))
        return self._core.handle_frame(frame, now=self._now)

    def _event(self, kind: str, document: object, profile: tuple[bytes, ...] | None = None) -> list[Action]:
        return self._say(
            self._operator, "event", Event(kind, self._signed(kind, codec.encode(document)), profile, ())
        )

    def _signed(self, label: str, payload: bytes) -> tuple[bytes, ...]:
        return sign_by_operators(self._operators, self._council, label, payload)

    def _policy(self) -> None:
        policy = Policy(
            mesh=self._mesh.id.hex(),
            version=1,
            issued=START,
            platforms={SEV_SNP: PlatformValues(lab_roots=("ab" * 32,))},
            coordinators={SEV_SNP: Pinned(measurements=_pinned("coordinator"))},
            workloads={
                role: Workload(roles=(role,), on={SEV_SNP: Pinned(measurements=_pinned(role))})
                for role in ROLES
            },
            classes={"work": TaskClass(role=ROLES[0])},
            rules=(Rule(role=ROLES[1], may="submit", what="work"),),
            limits=Limits(admission_seconds=DAY // SECOND),
        )
        profile = profile_of(self._mesh, policy)
        event = Event(
            "policy",
            self._signed("policy", compiled(policy)),
            self._signed("profile", codec.encode(profile)),
            (),
        )
        self._say(self._operator, "event", event)

    @staticmethod
    def _published(actions: Iterable[Action]) -> Iterator[bytes]:
        return (action.payload for action in actions if isinstance(action, Publish))


def _measured(work: Callable[[], list[Action]]) -> Turn:
    start = time.process_time()
    actions = work()
    seconds = time.process_time() - start
    sizes = [len(action.payload) for action in actions if isinstance(action, Publish)]
    return Turn(seconds, len(sizes), max(sizes))


def _pinned(role: str) -> dict[str, str]:
    return {"measurement": sha256(role.encode()).hex() + "00" * 16, "host_data": sha256(role.encode()).hex()}
