"""What is legal in a policy and yet hardly meant: unsafe switches, who holds nothing, gaps.

Pure. `schemas.policy.check` refuses what contradicts itself; here nothing is refused, a person is told.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from console.policy.finding import Finding
from console.policy.judging_findings import judging_findings
from schemas.evidence_policy import EvidencePolicy, absent_for_a_mesh
from schemas.limits import SECOND
from schemas.placeholders import placeholders
from schemas.policy import Policy
from schemas.toml_place import dotted, hidden
from sealing.keys import can_be_a_key

# What keeps a policy from a mesh, and not from judging evidence.
FOR_A_MESH = ("fill-in", "needed-for-a-mesh")


def incomplete(data: dict[str, Any]) -> list[Finding]:
    """Name every placeholder of a policy as plain data, and what a mesh needs that is not there at all."""
    found = [
        Finding("fill-in", path, f"{dotted(path)} is still to be filled in: {what}")
        for path, what in placeholders(data)
    ]
    if evidence_gaps(data) or "platforms" not in data:
        return found
    return found + [
        Finding(
            "needed-for-a-mesh", (), f"{name} is not there, which a policy needs before a mesh can have it"
        )
        for name in absent_for_a_mesh(data)
    ]


def evidence_gaps(data: dict[str, Any]) -> bool:
    """Say whether what judges evidence is still to be filled in somewhere."""
    return any(path[0] in ("platforms", "workloads") for path, _ in placeholders(data))


def judged(part: EvidencePolicy, data: dict[str, Any], *, now: datetime) -> list[Finding]:
    """Say what is amiss with the part that judges evidence, of a policy that is otherwise incomplete."""
    gaps = {str(path[1]) for path, _ in placeholders(data) if path[0] == "coordinators" and path[1:]}
    return judging_findings(part, now=now, to_fill_in=gaps)


def unseen(text: str) -> list[Finding]:
    """Name every character that a reviewer can't see, or that makes him see others elsewhere."""
    return [
        Finding("hidden-character", (), f"a reader can't see {name} here, or sees others elsewhere", at)
        for at, name in hidden(text)
    ]


def findings(policy: Policy, *, now: datetime) -> list[Finding]:
    """Return all that there is to say of a policy that does not contradict itself, but for its rules."""
    return [
        *_times(policy, now),
        *judging_findings(policy, now=now),
        *_holders(policy),
    ]


def _times(policy: Policy, now: datetime) -> Iterator[Finding]:
    if policy.issued > now.timestamp() * SECOND:
        day = datetime.fromtimestamp(policy.issued / SECOND, UTC).isoformat()
        text = f"it is issued at {day}, which is to come: no coordinator adopts it; milliseconds since 1970"
        yield Finding("issued-ahead", ("issued",), text)
    if policy.expires is not None and policy.expires <= now.timestamp() * SECOND:
        day = datetime.fromtimestamp(policy.expires / SECOND, UTC).isoformat()
        yield Finding(
            "expired-policy", ("expires",), f"nobody adopts this policy since {day}: move `expires`"
        )


def _holders(policy: Policy) -> Iterator[Finding]:
    for name, workload in policy.workloads.items():
        if not workload.on:
            text = f"workload {name} runs nowhere: pin it on a platform, or remove it"
            yield Finding("workload-nowhere", ("workloads", name), text)
        if not workload.roles:
            text = f"workload {name} may hold no role, so it can do nothing: name its roles, or remove it"
            yield Finding("without-roles", ("workloads", name), text)
    for name, client in policy.clients.items():
        if not can_be_a_key(bytes.fromhex(client.key)):
            text = f"nobody can have the key of client {name}: take it from the client again"
            yield Finding("no-key", ("clients", name, "key"), text)
        if not client.roles:
            text = f"client {name} may hold no role, so it can do nothing: name its roles, or remove it"
            yield Finding("without-roles", ("clients", name), text)
    named = {rule.role for rule in policy.rules} | {*policy.tools.values(), *policy.contexts.values()}
    named |= set(policy.messages.values())
    named |= {each.role for each in policy.classes.values()}
    held = [(("workloads", name), each.roles) for name, each in policy.workloads.items()]
    held += [(("clients", name), each.roles) for name, each in policy.clients.items()]
    for at, roles in held:
        for index, role in enumerate(roles):
            if role not in named:
                text = f"role {role} does nothing: no rule, class, tool, message or context names it"
                yield Finding("idle-role", (*at, "roles", index), text)
