"""The policy: one TOML file that a person can read in a review, and the same thing as signed CBOR.

Deny is the default: what no rule allows is refused. `parse` reads TOML for people and says where it
is wrong; `check` finds what is well-formed but contradicts itself. Signing lives in `sealing`.
"""

from collections.abc import Iterator
from datetime import datetime
from itertools import combinations
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from schemas import codec
from schemas.codec import Document
from schemas.errors import MalformedError, UsageError
from schemas.evidence import SEV_SNP, PlatformValues, ReferenceValues
from schemas.limits import GRACE, SECOND
from schemas.messages import CLIENT, ENCLAVE, OPERATOR, Moment, Name
from schemas.pinning import Pinned, check_pinned, check_platforms, may_match_both
from schemas.rules import Named, Positive, Rule, check_rules
from schemas.toml_errors import ContradictionError, did_you_mean, placed, read_toml

COORDINATOR = "coordinator"
KeyHex = Annotated[str, Meta(pattern="^[0-9a-f]{64}\\Z")]


class Workload(Document, frozen=True, kw_only=True):
    """One agent image: the roles it may hold, and what it measures as on each platform."""

    roles: tuple[Name, ...] = ()
    on: dict[str, Pinned]


class Client(Document, frozen=True, kw_only=True):
    """A principal outside any TEE: known by its key alone, never called attested."""

    key: KeyHex
    roles: tuple[Name, ...]


class TaskClass(Document, frozen=True, kw_only=True):
    """A kind of task, the role that takes it, and how long one may live."""

    role: Name
    lifetime_seconds: Positive = 3_600


class Limits(Document, frozen=True, kw_only=True):
    """How long things live."""

    admission_seconds: Annotated[int, Meta(ge=10, le=86_400)] = 600
    grace_seconds: Annotated[int, Meta(ge=2, le=300)] = GRACE // SECOND
    role_epoch_seconds: Annotated[int, Meta(ge=60, le=86_400)] = 3_600
    # After so long without a word of the operators nobody is live; absent, they need not be heard.
    operator_lease_seconds: Annotated[int, Meta(ge=60, le=31_536_000)] | None = None


class Policy(Document, frozen=True, kw_only=True):
    """Everything that operators decide."""

    mesh: KeyHex
    version: Positive
    predecessor: KeyHex | None = None  # SHA-256 of the predecessor's compiled bytes
    issued: Moment
    not_before: Moment | None = None  # no coordinator adopts it earlier
    expires: Moment | None = None  # nor from here on; one that adopted it in time keeps to it
    platforms: dict[str, PlatformValues]
    coordinators: dict[str, Pinned]  # platform: Reference Values
    workloads: dict[Name, Workload]
    clients: dict[Name, Client] = field(default_factory=dict)
    classes: dict[Name, TaskClass] = field(default_factory=dict)
    tools: dict[Name, Name] = field(default_factory=dict)  # tool: the role that offers it
    messages: dict[Name, Name] = field(default_factory=dict)  # kind of message: the role that takes it
    contexts: dict[Name, Name] = field(default_factory=dict)  # shared context: the role that keeps it
    rules: tuple[Rule, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def reference_values(self) -> ReferenceValues:
        """Return what agents' evidence is appraised against."""
        return ReferenceValues(
            platforms=self.platforms,
            workloads=tuple(
                pinned.values(name, platform)
                for name, workload in sorted(self.workloads.items())
                for platform, pinned in sorted(workload.on.items())
            ),
        )

    def coordinator_values(self) -> ReferenceValues:
        """Return what the coordinator's evidence is appraised against."""
        return ReferenceValues(
            platforms={name: self.platforms[name] for name in self.coordinators},
            workloads=tuple(
                pinned.values(COORDINATOR, platform) for platform, pinned in sorted(self.coordinators.items())
            ),
        )

    def role_kinds(self) -> dict[str, str]:
        """Return every role with the kind of party that holds it."""
        kinds = {role: ENCLAVE for workload in self.workloads.values() for role in workload.roles}
        kinds.update({role: CLIENT for client in self.clients.values() for role in client.roles})
        return kinds

    def named(self) -> Named:
        """Return what rules can name, with the role at which each arrives."""
        return Named(
            classes={name: each.role for name, each in self.classes.items()},
            tools=self.tools,
            messages=self.messages,
            contexts=self.contexts,
        )

    def holders(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return every workload and client with the roles that it may hold."""
        held = [(f"workload {name}", each.roles) for name, each in self.workloads.items()]
        return held + [(f"client {name}", each.roles) for name, each in self.clients.items()]


def with_rules(policy: Policy, rules: tuple[Rule, ...]) -> Policy:
    """Return a policy with rules added; whether it contradicts itself, `check` says."""
    return msgspec.structs.replace(policy, rules=(*policy.rules, *rules))


def parse(text: str, name: str = "the policy") -> Policy:
    """Read a policy from TOML, or raise `UsageError` that says what is wrong at which line and column.

    `name` is what the error calls it.
    """
    policy = read_toml(text, Policy, name)
    try:
        return check(policy)
    except ContradictionError as error:
        raise placed(text, name, error) from error


def dump(policy: Policy) -> str:
    """Write a policy as TOML that `parse` reads back."""
    plain: Any = _without_none(msgspec.to_builtins(policy, builtin_types=(datetime,)))
    return msgspec.toml.encode(plain).decode()


def compiled(policy: Policy) -> bytes:
    """Return the bytes that operators sign."""
    return codec.encode(policy)


def from_compiled(data: bytes) -> Policy:
    """Read what operators signed, or raise `MalformedError`."""
    policy = codec.decode(data, Policy)
    try:
        return check(policy)
    except UsageError as error:
        raise MalformedError("the policy contradicts itself") from error


def check(policy: Policy) -> Policy:
    """Return `policy` if it does not contradict itself, else raise `ContradictionError` with what to mend."""
    if policy.expires is not None and policy.expires <= max(policy.issued, policy.not_before or 0):
        text = "expires: it would end before it begins: choose a later time, in milliseconds since 1970"
        raise ContradictionError(("expires",), text)
    _check_platforms(policy)
    kinds = policy.role_kinds()
    clients = {role for client in policy.clients.values() for role in client.roles}
    enclaves = {role for workload in policy.workloads.values() for role in workload.roles}
    # The owner of a task id is an instance for a client's role and a role for an enclave's.
    if mixed := sorted(clients & enclaves):
        text = f"role {mixed[0]!r} is held by workloads and by clients: give the clients another"
        raise ContradictionError(_holder(policy, mixed[0]), text)
    if reserved := sorted({COORDINATOR, OPERATOR, "mesh"} & set(kinds)):
        text = f"role {reserved[0]!r} is reserved: choose another name"
        raise ContradictionError(_holder(policy, reserved[0]), text)
    keys = [client.key for client in policy.clients.values()]
    # A client is its key: two names for one would leave open which roles it has.
    if shared := sorted(name for name, client in policy.clients.items() if keys.count(client.key) > 1):
        text = f"clients.{shared[-1]}: has the key of clients.{shared[0]}: give each its own"
        raise ContradictionError(("clients", shared[-1], "key"), text)
    for name, task_class in policy.classes.items():
        if task_class.role not in enclaves:
            text = f"classes.{name}: no workload holds role {task_class.role!r}"
            text += did_you_mean(task_class.role, enclaves)
            raise ContradictionError(("classes", name, "role"), text)
    offers = (("tools", policy.tools), ("messages", policy.messages), ("contexts", policy.contexts))
    for table, offered in offers:
        for name, role in offered.items():
            if role not in enclaves:
                text = f"{table}.{name}: no workload holds role {role!r}{did_you_mean(role, enclaves)}"
                raise ContradictionError((table, name), text)
    check_rules(policy.rules, kinds, policy.named(), policy.holders())
    return policy


def _holder(policy: Policy, role: str) -> tuple[str, ...]:
    """Return the path of the roles of some client, or else workload, that holds `role`."""
    for name, client in policy.clients.items():
        if role in client.roles:
            return ("clients", name, "roles")
    return next(("workloads", name, "roles") for name, each in policy.workloads.items() if role in each.roles)


def _check_platforms(policy: Policy) -> None:
    check_platforms(policy.platforms)
    if not policy.coordinators:
        text = "coordinators: name at least one platform with its Reference Values"
        raise ContradictionError(("coordinators",), text)
    check_workloads(policy.platforms, policy.coordinators, {n: w.on for n, w in policy.workloads.items()})


def check_workloads(
    platforms: dict[str, PlatformValues],
    coordinators: dict[str, Pinned],
    workloads: dict[str, dict[str, Pinned]],
) -> None:
    """Raise `ContradictionError` where Reference Values are incomplete or two workloads look the same."""
    if COORDINATOR in workloads:
        text = f"workloads.{COORDINATOR}: that name is of what [coordinators] pins: choose another"
        raise ContradictionError(("workloads", COORDINATOR), text)
    places: list[tuple[tuple[str, ...], dict[str, Pinned]]] = [(("coordinators",), coordinators)]
    places += [(("workloads", name, "on"), on) for name, on in workloads.items()]
    for place, pins in places:
        for platform, pinned in pins.items():
            check_pinned((*place, platform), pinned, platforms)
    # Evidence that two workloads match would leave open which roles it may hold.
    for one, other, platform in sorted(_look_alikes(workloads)):
        if may_match_both(platform, workloads[one][platform], workloads[other][platform]):
            text = f"workloads.{other}.on.{platform}: evidence may match workloads.{one} too: "
            text += "make them one, or pin different chips"
            if platform == SEV_SNP:
                text += ", or id_key_digest and author_key_digest beside a publisher"
            raise ContradictionError(("workloads", other, "on", platform), text)


def _look_alikes(workloads: dict[str, dict[str, Pinned]]) -> Iterator[tuple[str, str, str]]:
    """Yield two workloads and a platform wherever `may_match_both` could be true: rarely, of many.

    It is not where both pin a measurement and differ in it.
    """
    for platform in {platform for on in workloads.values() for platform in on}:
        there = [(name, on[platform]) for name, on in sorted(workloads.items()) if platform in on]
        everywhere = sorted(set.intersection(*(set(pinned.measurements) for _, pinned in there)))
        alike: dict[tuple[str, ...], list[str]] = {}
        for name, pinned in there:
            alike.setdefault(tuple(pinned.measurements[each] for each in everywhere), []).append(name)
        for names in alike.values():
            yield from ((one, other, platform) for one, other in combinations(names, 2))


def _without_none(value: Any) -> Any:
    # TOML has no null: an absent key means the same.
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value
