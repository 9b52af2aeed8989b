"""What a grant costs: looked up, verified anew, and adopted for a whole mesh; against two policy engines.

The engines get the same decision: may this role call this tool with a payload of this size, by a policy of
ten rules. They are asked as their documentation says, with everything prepared that they let one prepare:
biscuit with its token verified, cedar both with its policies as text and with them parsed. What is not
installed is named, and its rows are absent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from types import ModuleType
from typing import Any

from agent_runtime.clock import MeshClock
from agent_runtime.gate import Gate
from agent_runtime.membership import Membership
from agent_runtime.seen import SeenTasks
from agent_runtime.trust import Trust
from agent_runtime.witness import Witness
from benchmarks.grant_mesh import AGENTS, ROLES, RULES, LargeMesh
from benchmarks.ratios import Aim, Row
from benchmarks.slices import microseconds
from schemas import codec
from schemas.documents import Admission, Anchor, Constraints, Grant, OperatorKey
from schemas.granted import Granted, granted
from schemas.messages import ENCLAVE
from schemas.rules import CALL
from sealing.context import SUITE_GCM, Mesh, sha256
from sealing.council import founders
from sealing.documents import open_grant, sign_grant
from sealing.keys import PartyKeys, SigningKey, verify

Work = Callable[[], object]
Say = Callable[[str], None]

_MESH = Mesh(b"\x01" * 32, SUITE_GCM)
_ANCHOR = Anchor(SUITE_GCM, (OperatorKey("op", bytes(32)),), 1, ("aa" * 32,), 0, 1)
_NOW = 1_790_000_000_000
_TOOLS = tuple(f"tool-{number}" for number in range(10))
_ROLE, _TOOL, _OWN, _SIZE, _MOST = "planner", "tool-7", "vault", 512, 4_096
_PEER = b"\x02" * 32


@dataclass(frozen=True, slots=True)
class _Contest:
    id: str
    name: str
    peer: str
    ours: Work
    theirs: Work
    aim: Aim


def measure(*, rounds: int, seconds: float, say: Say) -> list[Row]:
    """Measure by turns; `seconds` is the length of a slice. The engines are optional."""
    cached = _cached()
    contests = [
        _Contest("uncached", "a grant, verified anew", "Ed25519, decoding", *_uncached(), Aim(1.3, "lower"))
    ]
    for label, peer in _engines():
        name = label.split(",")[0].split()[0]
        each = _Contest(f"cached-{label.replace(' ', '-')}", "a grant, cached", label, cached, peer, _FASTER)
        contests.append(each)
        say(f"{name} is asked the same")
    ours: list[list[float]] = [[] for _ in contests]
    peers: list[list[float]] = [[] for _ in contests]
    alone: list[float] = []
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}" if number else "warming up")
        own = microseconds(cached, seconds)
        pairs = [(microseconds(each.ours, seconds), microseconds(each.theirs, seconds)) for each in contests]
        if number:
            alone.append(own)
            for index, pair in enumerate(pairs):
                ours[index].append(pair[0])
                peers[index].append(pair[1])
    one = (1.0,) * len(alone)
    rows = [Row("cached", "a grant, cached", "1 us", "us", tuple(alone), one, Aim(2.0, "lower"))]
    rows += [
        Row(each.id, each.name, each.peer, "us", tuple(own), tuple(other), each.aim)
        for each, own, other in zip(contests, ours, peers, strict=True)
    ]
    say(f"a coordinator with {RULES} rules, {ROLES} roles and {AGENTS} admitted agents")
    return [*rows, *_mesh_rows(LargeMesh(), rounds)]


def _mesh_rows(mesh: LargeMesh, rounds: int) -> list[Row]:
    adoptions = tuple(mesh.adoption() for _ in range(rounds))
    second = (1_000.0,) * rounds
    held = (mesh.registry_bytes(),) * rounds
    published = (float(mesh.grants()),) * rounds
    return [
        Row("adoption", "adopting a policy", "1 s", "ms", adoptions, second, Aim(1.0, "lower")),
        Row(
            "registry", "an agent in the registry", "2 KiB", "B", held, (2_048.0,) * rounds, Aim(1.0, "lower")
        ),
        Row(
            "grants",
            "grants published",
            "its rules",
            "",
            published,
            (1.0 * RULES,) * rounds,
            Aim(1.0, "lower"),
        ),
    ]


def _cached() -> Work:
    """Return the gate's own look-up of a grant with its constraints."""
    admission = Admission(
        subject=_PEER,
        expires=_NOW // 1000 + 600,
        issued=_NOW // 1000,
        signing_key=bytes(32),
        kem_key=bytes(1216),
        mesh=_MESH.id,
        term=1,
        policy_version=1,
        kind=ENCLAVE,
        workload=_OWN,
        platform="nitro",
        roles=(_OWN,),
    )
    held = {(_ROLE, CALL, tool): Granted(_OWN, Constraints(max_bytes=_MOST)) for tool in _TOOLS}
    trust = Trust(admission, b"", bytes(32), grants=held)
    member = Membership(
        _MESH,
        PartyKeys(),
        MeshClock(lambda: _NOW),
        Witness(founders(_ANCHOR, _MESH)),
        kind=ENCLAVE,
        roles=(_OWN,),
        random=bytes,
    )
    gate = Gate(member, SeenTasks())

    def check() -> None:
        gate.permit(trust, _ROLE, CALL, _TOOL, _OWN, _PEER, _SIZE, _NOW)

    return check


def _uncached() -> tuple[Work, Work]:
    """Return opening a signed grant as an agent does, and the verification and decoding within it."""
    key = SigningKey()
    grant = Grant(
        subject=_ROLE,
        audience=_OWN,
        action=CALL,
        what=_TOOL,
        rule=1,
        mesh=_MESH.id,
        term=1,
        policy_version=1,
        issued=_NOW // 1000,
        constraints=Constraints(max_bytes=_MOST),
    )
    signed = sign_grant(key, _MESH, grant)
    plain = codec.encode(grant)
    message, public = bytes(len(signed)), key.public
    signature = key.sign(message)

    def ours() -> None:
        sha256(signed)
        granted(open_grant(signed, public, _MESH))

    def floor() -> None:
        verify(public, signature, message)
        codec.decode_any(signed)
        codec.decode(plain, Grant)

    return ours, floor


def _engines() -> list[tuple[str, Work]]:
    found = []
    biscuit, cedar = _import("biscuit_auth"), _import("cedarpy")
    if biscuit is not None:
        found.append(("biscuit-python", _biscuit(biscuit)))
    if cedar is not None:
        found += [("cedarpy", _cedar(cedar, parsed=False)), ("cedarpy, parsed", _cedar(cedar, parsed=True))]
    return found


def _biscuit(biscuit: Any) -> Work:
    root = biscuit.KeyPair()
    token = biscuit.BiscuitBuilder(f'role("{_ROLE}");').build(root.private_key)
    verified = biscuit.Biscuit.from_bytes(bytes(token.to_bytes()), root.public_key)
    rules = "\n".join(
        f'allow if role("{_ROLE}"), action("call"), tool("{tool}"), size($s), $s <= {_MOST};'
        for tool in _TOOLS
    )
    facts = f'action("call"); tool("{_TOOL}"); size({_SIZE});'

    def ask() -> None:
        builder = biscuit.AuthorizerBuilder(facts + rules)
        limits = builder.limits()
        limits.max_time = timedelta(seconds=5)  # the default refuses what is valid on a busy machine
        builder.set_limits(limits)
        builder.build(verified).authorize()

    return ask


def _cedar(cedar: Any, *, parsed: bool) -> Work:
    text = "\n".join(
        f'permit(principal == Role::"{_ROLE}", action == Action::"call", resource == Tool::"{tool}") '
        f"when {{ context.size <= {_MOST} }};"
        for tool in _TOOLS
    )
    policies = cedar.PolicySet.from_str(text) if parsed else text
    entities = cedar.Entities.from_json_str("[]") if parsed else "[]"
    request = {
        "principal": f'Role::"{_ROLE}"',
        "action": 'Action::"call"',
        "resource": f'Tool::"{_TOOL}"',
        "context": {"size": _SIZE},
    }

    def ask() -> None:
        assert cedar.is_authorized(request, policies, entities).allowed

    return ask


def _import(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


_FASTER = Aim(0.02, "lower")  # fifty times
