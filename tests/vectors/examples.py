"""One example of every body and document of the protocol, with values of every allowed shape."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas import codec
from schemas.audit import AuditEntry, Fact
from schemas.codec import Message
from schemas.collateral import CollateralBundle, CollateralEntry
from schemas.documents import (
    Admission,
    Anchor,
    Beacon,
    BreakGlass,
    ClassInfo,
    Condition,
    Constraints,
    Grant,
    LogHead,
    LogReceipt,
    OpenEpoch,
    OperatorKey,
    Operators,
    Order,
    Profile,
    Renewal,
    RevocationOrder,
    RoleKind,
    View,
)
from schemas.evidence import MEASURED, SEV_SNP, TDX, Evidence, PlatformValues, Publisher, Tolerance
from schemas.messages import (
    Accept,
    Admitted,
    Body,
    CoordinatorCredential,
    Credential,
    Directory,
    Event,
    EvidenceAnswer,
    Get,
    Hello,
    Holdings,
    Init,
    LogPage,
    LogProof,
    MemberPackage,
    MeshStatus,
    Offer,
    PartyStatus,
    Refused,
    ResultBody,
    Revocation,
    RevocationPage,
    RevokedPage,
    SenderPackage,
    Signature,
    State,
    Succession,
    TaskBody,
    Time,
)
from schemas.peer import Call, Cancel, Confirm, PeerMessage, Reopen, Reply, Send
from schemas.pinning import Pinned
from schemas.policy import Client, Policy, TaskClass, Workload
from schemas.rules import Rule
from schemas.scheduling import Assign, Load, Status, TaskHints, TaskMessage
from sealing import cose
from sealing.context import Mesh
from sealing.council import Council, founders
from sealing.documents import open_anchor
from sealing.keys import SigningKey
from sealing.roll import digest, encode_roll, roll_hash
from tests.vectors.world import AGENT_KEM, COORDINATOR_KEM, PEER_KEM, TIME, Party, fixed

COORDINATOR = Party("coordinator", COORDINATOR_KEM)
AGENT = Party("agent", AGENT_KEM)
PEER = Party("peer", PEER_KEM)
CLIENT = Party("client", AGENT_KEM, client=True)

OPERATORS = [SigningKey(fixed(f"operator {name} signs")) for name in ("ada", "ben", "cyd")]
_ROOT = fixed("a root certificate").hex()


def _anchor(suite: int) -> Anchor:
    named = tuple(OperatorKey(n, k.public) for n, k in zip(("ada", "ben", "cyd"), OPERATORS, strict=True))
    return Anchor(suite, named, 2, (_ROOT,), TIME, 3)


ANCHORS = tuple(_anchor(suite) for suite in (1, 2))
MESH, SIV_MESH = (open_anchor(codec.encode(anchor))[1] for anchor in ANCHORS)
COUNCIL = founders(ANCHORS[0], MESH)
HEIRS = [SigningKey(fixed(f"operator {name} signs")) for name in ("dan", "eve")]
PEOPLE = dict(zip(("ada", "ben", "cyd", "dan", "eve"), (*OPERATORS, *HEIRS), strict=True))


def change(held: Council, names: Sequence[str], threshold: int, **changes: Any) -> Operators:
    """Return the document by which these follow as operators, or one that differs."""
    fields: dict[str, Any] = {
        "mesh": held.mesh.id,
        "version": held.version + 1,
        "previous": held.digest,
        "operators": tuple(OperatorKey(name, PEOPLE[name].public) for name in names),
        "threshold": threshold,
        "reason": "cyd lost a key",
        "time": TIME + 3,
    }
    return Operators(**{**fields, **changes})


def signed_change(held: Council, document: Operators, names: Sequence[str]) -> Succession:
    """Return a change as these sign it, whether or not they may."""
    text = codec.encode(document)
    keys = sorted((PEOPLE[name] for name in names), key=lambda key: key.public)
    made = [Signature(key.public, cose.sign_detached(key, held.mesh, "operators", text)) for key in keys]
    return Succession(text, tuple(made))


# Without cyd, and with two more, three of four decide; then a threshold of all four.
CHANGES = (
    (("ada", "ben", "dan", "eve"), 3, ("ada", "ben", "dan", "eve")),
    (("ada", "ben", "dan", "eve"), 4, ("ada", "ben", "dan", "eve")),
)
STEP = signed_change(COUNCIL, change(COUNCIL, *CHANGES[0][:2]), CHANGES[0][2])
MESHES: tuple[Mesh, Mesh] = (MESH, SIV_MESH)

# What a frame between peers carries: of every kind, and of sizes with other MessagePack headers.
_CALL = fixed("request", 16)
SAID: tuple[tuple[PeerMessage, ...], ...] = (
    (Confirm(),),
    (Call(_CALL, "look-up", b"\x80", TIME, None), Cancel(_CALL)),
    (Send("progress", b"\x2a"), Send("progress", fixed("note", 300))),
    (Reply(_CALL, "no-grant", "d" * 40, b""), Reply(_CALL, "", "d" * 300, fixed("a", 300))),
    (Call(_CALL, "t" * 32, fixed("a", 70_000 // 9), 200, fixed("task", 16)), *[Cancel(_CALL)] * 17),
    (Reopen(f"sb.{'0a' * 16}.inbox.{'0b' * 32}", fixed("init", 300)),),
    tuple(Call(_CALL, "n", b"", number, None) for number in (0, 127, 128, 256, 65_536, 2**32, 2**63 - 1)),
)

Case = tuple[str, dict[str, Any], dict[str, Any]]  # name, in, out


def _pinned(platform: str, name: str) -> Pinned:
    return Pinned(measurements={each: fixed(f"{name} {each}", 48).hex() for each in MEASURED[platform]})


POLICY = Policy(
    mesh=MESH.id.hex(),
    version=4,
    predecessor=fixed("an earlier policy").hex(),
    issued=TIME,
    platforms={
        SEV_SNP: PlatformValues(
            lab_roots=(_ROOT,),
            minimum_tcb={"snp": 24, "microcode": 219},
            exceptions=(Tolerance(accept="SWHardeningNeeded", until=datetime(2027, 1, 31, tzinfo=UTC)),),
        ),
        TDX: PlatformValues(lab_roots=(_ROOT,)),
    },
    coordinators={SEV_SNP: _pinned(SEV_SNP, "coordinator")},
    workloads={"redactor": Workload(roles=("redactor",), on={TDX: _pinned(TDX, "redactor")})},
    clients={"desk": Client(key=CLIENT.signing.public.hex(), roles=("desk",))},
    classes={"redact": TaskClass(role="redactor", lifetime_seconds=600)},
    tools={"look-up": "redactor"},
    messages={"progress": "redactor"},
    rules=(
        Rule(role="desk", may="submit", what="redact", max_bytes=65_536),
        Rule(role="redactor", may="call", what="look-up", per_minute=30),
        Rule(role="desk", may="send", what="progress"),
    ),
)
PROFILE = Profile(
    mesh=MESH.id,
    version=4,
    issued=TIME,
    reference_values=POLICY.coordinator_values(),
    grace=10_000,
)
PARTY_STATUS = PartyStatus(
    PEER.instance,
    "enclave",
    ("redactor",),
    "redactor",
    fixed("a workload"),
    SEV_SNP,
    ("c1", "c0"),
    fixed("its evidence"),
    TIME + 9,
    "admitted",
)
GLASS = BreakGlass(MESH.id, 7, "desk", "call", "pseudonym", "a recall", TIME + 7, TIME + 3_600_007)
RENEWAL = Renewal(MESH.id, 7, TIME + 6)
REVOCATION = RevocationOrder(MESH.id, "instance", PEER.instance.hex(), "its host was seized", TIME + 5)
ROLL = (fixed("a revocation"), digest(REVOCATION), fixed("another revocation"))
ORDER = Order(MESH.id, 7, COORDINATOR.instance, fixed("a policy"), None, roll_hash(ROLL), TIME)
VIEW = View(
    7,
    "redactor",
    12,
    4,
    (fixed("a signed grant"),),
    (RoleKind("desk", "client"), RoleKind("redactor", "enclave")),
    (ClassInfo("redact", "redactor", 600_000),),
    (OpenEpoch("redactor", 9, fixed("token", 16), TIME + 1, TIME + 2),),
    (("look-up", "redactor"),),
    10_000,
)
BEACON = Beacon(
    7,
    300,
    TIME + 9,
    4,
    fixed("a policy"),
    57,
    55,
    ((MESH.role_id("redactor"), 12),),
    41,
    fixed("log"),
    fixed("revoked"),
    (PEER.instance,),
    1,
    fixed("operators"),
)
HEAD = LogHead(7, 41, fixed("log"), TIME + 9)
_OPERATOR = fixed("operator").hex()
_REFUSAL: dict[str, Fact] = {"asked": "evidence", "reason": "measurement-not-in-policy"}
_ADMITTED: dict[str, Fact] = {
    "instance": _OPERATOR,
    "kind": "operator",
    "roles": ("operator",),
    "workload": "",
    "platform": "",
}
ENTRIES = (
    AuditEntry(0, 0, TIME, "admitted", {**_ADMITTED, "expires": TIME + 600_000}),
    AuditEntry(7, 1, TIME + 1, "term", {"event": fixed("an order").hex(), "log_head": ""}),
    AuditEntry(7, 2, TIME + 1, "turned", {"group": "mesh", "epoch": 28_000_000, "cause": "timed"}),
    AuditEntry(7, 3, TIME + 2, "policy", {"event": fixed("e").hex(), "version": 4, "hash": fixed("p").hex()}),
    AuditEntry(7, 4, TIME + 2, "grants", {"version": 4, "count": 3, "digest": fixed("grants").hex()}),
    AuditEntry(7, 5, TIME + 3, "refused", {**_REFUSAL, "instance": AGENT.instance.hex()}),
    AuditEntry(7, 6, TIME + 60_000, "refused-more", {**_REFUSAL, "count": 99}),
)
RECEIPT = LogReceipt(fixed("an event"), 40, 7, 4)
ADMISSIONS = tuple(
    Admission(
        subject=party.instance,
        expires=TIME // 1000 + 600,
        issued=TIME // 1000,
        signing_key=party.signing.public,
        kem_key=party.kem.public,
        mesh=MESH.id,
        term=7,
        policy_version=4,
        kind="client" if party is CLIENT else "enclave",
        workload="" if party is CLIENT else "redactor",
        platform="" if party is CLIENT else TDX,
        roles=("desk",) if party is CLIENT else ("redactor",),
    )
    for party in (AGENT, PEER, CLIENT)
)
GRANT = Grant(
    subject="desk",
    audience="redactor",
    action="submit",
    what="redact",
    rule=1,
    mesh=MESH.id,
    term=7,
    policy_version=4,
    issued=TIME // 1000,
    constraints=Constraints(max_bytes=65_536),
)
# Of every constraint that there is, and an explicit deny of each kind.
NARROW_GRANT = Grant(
    subject="redactor",
    audience="redactor",
    expires=TIME // 1000 + 86_400,
    action="call",
    what="look-up",
    rule=2,
    mesh=MESH.id,
    term=7,
    policy_version=4,
    issued=TIME // 1000,
    constraints=Constraints(
        per_minute=30,
        arguments={"type": "object", "properties": {"name": {"maxLength": 64, "pattern": "^[a-z]+$"}}},
        days=("mon", "tue", "wed", "thu", "fri"),
        hours="22:00-06:00",
        unless=(
            Condition(rule=3, days=("fri",)),
            Condition(rule=4, arguments={"required": ["name"]}, hours="00:00-01:00", until=TIME // 1000 + 60),
        ),
    ),
)
COLLATERAL = CollateralBundle(
    mesh=MESH.id,
    issued=TIME,
    entries=(CollateralEntry(subject="a chip", files={"vcek.der": b"\x30\x00"}, fetched=TIME // 1000),),
)
PUBLISHERS = (None, Publisher(key=fixed("an id key", 48).hex(), minimum_svn=3), Publisher(key="ab" * 48))

EVIDENCE = Evidence("application/vnd.sealbus.tdx-quote", fixed("a quote", 40))
MEMBER = MemberPackage("redactor", 9, fixed("epoch secret"), TIME, TIME + 1, TIME + 2)
MESH_MEMBER = MemberPackage("mesh", 22_000_000, fixed("mesh epoch secret"), TIME, TIME + 1, TIME + 2)
STATE = State(
    7, 4, fixed("a policy"), 41, fixed("log"), TIME + 9, fixed("a challenge"), 1, fixed("operators")
)
REVOKED = (
    Revocation("instance", PEER.instance.hex(), TIME, (PEER.instance,)),
    Revocation("workload", "old-redactor", TIME + 3, ()),
)
HINTS = TaskHints(fixed("class token", 16), 5, TIME + 600_000, 10, None)
OFFER = Offer(
    fixed("hello"),
    1,
    (fixed("left"), fixed("right")),
    3,
    EVIDENCE,
    {"tcb_info.json": b"{}", "pck_crl.der": b"\x30\x00"},
    COORDINATOR.signing.public,
    COORDINATOR.kem.public,
    (fixed("a signed profile"),),
    7,
    (fixed("a signed order"), fixed("the same by another")),
    (),
)
CREDENTIAL = Credential("enclave", AGENT.signing.public, AGENT.kem.public, ("redactor",), None)
COORDINATOR_CREDENTIAL = CoordinatorCredential(COORDINATOR.signing.public, COORDINATOR.kem.public)
_SENDER = SenderPackage("redactor", 9, fixed("handle", 76), fixed("key"), fixed("t", 16), 1, 2, 3)
HOLDINGS = Holdings((MEMBER,), (_SENDER,), (fixed("a view"),), REVOKED, fixed("a beacon"), 2, ())
_ID = fixed("an id", 16)
_FRAME = fixed("a task frame", 122)

BODIES: tuple[Message, ...] = (
    Hello(1, MESH.id, fixed("nonce")),
    OFFER,
    Offer(bytes(32), 0, (), 1, Evidence("t", b""), {}, bytes(32), bytes(1216), (), 0, None, ()),
    EVIDENCE,
    CREDENTIAL,
    COORDINATOR_CREDENTIAL,
    Init(b"c", bytes(32), bytes(32), bytes(1216), bytes(32), bytes(8), None, _ID, b"beacon"),
    Accept(bytes(32), bytes(32), bytes(32), b"c", bytes(32), bytes(8), None),
    STATE,
    Body("confirm", bytes(16), None),
    EvidenceAnswer(EVIDENCE, {"tcb_info.json": b"{}"}, ()),
    EvidenceAnswer(None, {}, ()),
    MEMBER,
    _SENDER,
    *REVOKED,
    HOLDINGS,
    Admitted(fixed("an admission"), HOLDINGS),
    Refused(("measurement-mismatch",), ""),
    Get("directory", "redactor"),
    Directory((fixed("an admission"),)),
    PARTY_STATUS,
    MeshStatus(
        7,
        4,
        fixed("a hash"),
        41,
        fixed("a root"),
        TIME,
        ("a may call b",),
        0,
        MESH.id,
        None,
        2,
        1,
        (PARTY_STATUS,),
    ),
    MeshStatus(0, 0, bytes(32), 1, fixed("a root"), TIME, (), 1, fixed("operators"), TIME + 1, 0, 1, ()),
    Time(TIME),
    Event("policy", (fixed("a policy signed"),), (fixed("its profile signed"),), ()),
    STEP,
    STEP.signatures[0],
    Event("roll", (encode_roll(ROLL),), None, ()),
    Event("operators", (fixed("the order again"),), (fixed("the profile again"),), (STEP,)),
    RevokedPage(REVOKED),
    RevocationPage(2, ((fixed("a signature"), fixed("another")),)),
    LogPage(fixed("a head"), (codec.encode(ENTRIES[0]), codec.encode(ENTRIES[1]))),
    LogProof((fixed("a node"), fixed("another"))),
    TaskBody("redact", _ID, TIME, TIME + 1, bytes(32), 9, _ID, b"payload"),
    ResultBody(AGENT.instance, "", "", b"value"),
    HINTS,
    TaskMessage(HINTS, _FRAME),
    Assign(codec.encode(TaskMessage(HINTS, _FRAME)), False),
    Status(_ID, "taken"),
    Load(_ID, (_ID,), 4, 7, (Status(_ID, "done"),), True),
)


def of(mesh: Mesh) -> dict[str, Any]:
    """Return what every context starts from."""
    return {"suite": mesh.suite, "mesh": mesh.id}


def values(message: Any) -> Any:
    """Return a message as plain data, in the order in which it is encoded."""
    return msgspec.to_builtins(message, builtin_types=(bytes,))
