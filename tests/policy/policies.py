"""Policies to test with: one that is right, and any that does not contradict itself."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.errors import UsageError
from schemas.evidence import MEASURED, NITRO, SEV_SNP, TDX, PlatformValues
from schemas.pinning import Pinned
from schemas.policy import Client, Policy, TaskClass, Workload, check
from schemas.rules import Rule
from schemas.vendor_roots import AMD_ROOTS, VENDOR_ROOTS

MESH = "ab" * 32
ISSUED = 1_790_000_000_000


def pcrs(byte: str) -> Pinned:
    """Return Reference Values on Nitro."""
    return Pinned(measurements=dict.fromkeys(("pcr0", "pcr1", "pcr2"), byte * 48))


POLICY = check(
    Policy(
        mesh=MESH,
        version=1,
        issued=ISSUED,
        platforms={NITRO: PlatformValues(roots=VENDOR_ROOTS[NITRO])},
        coordinators={NITRO: pcrs("c0")},
        workloads={
            "planner": Workload(roles=("planner",), on={NITRO: pcrs("01")}),
            "vault": Workload(roles=("vault",), on={NITRO: pcrs("02")}),
        },
        clients={"desk": Client(key="06" * 32, roles=("requester",))},
        classes={"survey": TaskClass(role="planner")},
        tools={"pseudonym": "vault"},
        rules=(
            Rule(role="requester", may="submit", what="survey", max_bytes=1000),
            Rule(role="planner", may="call", what="pseudonym", per_minute=60),
        ),
    )
)


def but(**changes: Any) -> Policy:
    """Return the policy with fields changed."""
    return check(replace(POLICY, **changes))


def platform(name: str, **changes: Any) -> Policy:
    """Return a policy for one vendor's platform, with demands changed."""
    pinned = {
        SEV_SNP: Pinned(measurements={"measurement": "01" * 48, "host_data": "02" * 32}),
        TDX: Pinned(
            measurements=dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid"), "01" * 48)
        ),
        NITRO: pcrs("01"),
    }[name]
    lines = changes.get("products") or ()
    named = tuple(AMD_ROOTS[line] for line in lines if line in AMD_ROOTS)
    values = {"roots": named or VENDOR_ROOTS[name][-1:], **changes}
    other = replace(pinned, measurements={**pinned.measurements, MEASURED[name][0]: "03" * 48})
    workloads = {role: Workload(roles=(role,), on={name: other}) for role in ("planner",)}
    return but(
        platforms={name: PlatformValues(**values)},
        coordinators={name: pinned},
        workloads=workloads,
        tools={"pseudonym": "planner"},
        rules=(POLICY.rules[0], Rule(role="requester", may="call", what="pseudonym")),
    )


ENCLAVES = ("e0", "e1", "e2")
CLIENTS = ("c0", "c1")
NAMES = ("t0", "t1", "t2")
_BOUNDS = st.none() | st.integers(1, 3)
_DAYS = st.none() | st.sampled_from((("mon",), ("mon", "tue"), ("sat", "sun")))
_HOURS = st.none() | st.sampled_from(("08:00-18:00", "22:00-06:00"))
UNTIL = datetime(2026, 11, 24, 12, tzinfo=UTC)
SCHEMAS: tuple[dict[str, Any], ...] = (
    {"properties": {"n": {"maximum": 2}}},
    {"type": "object", "required": ["n"], "additionalProperties": False, "properties": {"n": True}},
    {"properties": {"n": {"enum": [1, 3]}}},
)


@st.composite
def rules(draw: st.DrawFn, role: str, action: str, what: str, forbid: bool) -> Rule:
    """Draw a rule about one thing."""
    arguments = None if action in ("read", "write") else draw(st.none() | st.sampled_from(SCHEMAS))
    conditions: dict[str, Any] = {
        "arguments": arguments,
        "days": draw(_DAYS),
        "hours": draw(_HOURS),
        "until": draw(st.none() | st.just(UNTIL)),
    }
    if forbid:
        return Rule(role=role, deny=action, what=what, **conditions)
    bounds: dict[str, Any] = {"max_bytes": draw(_BOUNDS), "per_minute": draw(_BOUNDS)}
    return Rule(role=role, may=action, what=what, **bounds, **conditions)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Draw a policy that does not contradict itself: any roles, holders, classes, tools, messages, rules."""
    held = draw(st.lists(st.sets(st.sampled_from(ENCLAVES), max_size=2), min_size=1, max_size=3))
    workloads = {
        f"w{n}": Workload(roles=tuple(sorted(roles)), on={NITRO: pcrs(f"{n:02x}")})
        for n, roles in enumerate(held)
    }
    clients = {
        f"k{n}": Client(key=f"{n:064x}", roles=tuple(sorted(roles)))
        for n, roles in enumerate(draw(st.lists(st.sets(st.sampled_from(CLIENTS)), max_size=2)))
    }
    enclaves = sorted({role for each in workloads.values() for role in each.roles})
    everyone = enclaves + sorted({role for each in clients.values() for role in each.roles})
    targets = st.sampled_from(enclaves) if enclaves else st.nothing()
    classes = draw(st.dictionaries(st.sampled_from(NAMES), targets, max_size=3)) if enclaves else {}
    tools = draw(st.dictionaries(st.sampled_from(NAMES), targets, max_size=3)) if enclaves else {}
    messages = draw(st.dictionaries(st.sampled_from(NAMES), targets, max_size=2)) if enclaves else {}
    contexts = draw(st.dictionaries(st.sampled_from(NAMES), targets, max_size=2)) if enclaves else {}
    possible = [(role, "submit", what) for role in everyone for what in classes]
    possible += [(role, "call", what) for role in everyone for what in tools]
    possible += [(role, "send", what) for role in everyone for what in messages]
    possible += [(role, may, what) for role in everyone for what in contexts for may in ("read", "write")]
    chosen = draw(st.lists(st.sampled_from(possible), unique=True, max_size=6)) if possible else []
    denied = draw(st.lists(st.sampled_from(possible), max_size=3)) if possible else []
    drawn = [draw(rules(*each, False)) for each in chosen] + [draw(rules(*each, True)) for each in denied]
    try:
        return _with(workloads, clients, classes, tools, messages, contexts, draw(st.permutations(drawn)))
    except UsageError:
        # Two rules that forbid the same, or a holder of two roles that are not forbidden alike.
        allowed = [rule for rule in drawn if rule.may]
        return _with(workloads, clients, classes, tools, messages, contexts, allowed)


def _with(
    workloads: dict[str, Workload],
    clients: dict[str, Client],
    classes: dict[str, str],
    tools: dict[str, str],
    messages: dict[str, str],
    contexts: dict[str, str],
    drawn: Sequence[Rule],
) -> Policy:
    return check(
        replace(
            POLICY,
            workloads=workloads,
            clients=clients,
            classes={name: TaskClass(role=role) for name, role in classes.items()},
            tools=tools,
            messages=messages,
            contexts=contexts,
            rules=tuple(drawn),
        )
    )
