"""What is legal in a policy and yet hardly meant: unsafe switches, who holds nothing, gaps.

Pure. `schemas.policy.check` refuses what contradicts itself; here nothing is refused, a person is told.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from attestation.sev_snp import FEATURES, SMT_DISABLED
from attestation.sev_snp.verify import LEAKED
from attestation.vendors import AMD_ROOTS
from schemas.evidence import NITRO, SEV_SNP, PlatformValues
from schemas.evidence_policy import absent_for_a_mesh
from schemas.limits import SECOND
from schemas.pinning import Pinned
from schemas.placeholders import placeholders
from schemas.policy import Policy
from schemas.toml_errors import did_you_mean
from schemas.toml_place import Path, Place, dotted, hidden


class Finding(NamedTuple):
    """One thing to mend or to know, where it stands, under a stable code."""

    code: str
    path: Path
    text: str
    at: Place | None = None  # if it is not where `path` is


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
        *_platforms(policy, now),
        *_pins(policy),
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


def _platforms(policy: Policy, now: datetime) -> Iterator[Finding]:
    used = {*policy.coordinators, *(name for each in policy.workloads.values() for name in each.on)}
    for name, values in policy.platforms.items():
        at: Path = ("platforms", name)
        if name not in used:
            yield Finding(
                "unused-platform", at, f"nothing runs on {name}: remove it, or pin a workload there"
            )
        if values.lab:
            text = f"{name} evidence of simulators is accepted: it proves nothing outside a lab"
            yield Finding("unsafe-switch", (*at, "lab_roots"), text)
        if values.highest_vmpl:
            text = (
                f"VMPL {values.highest_vmpl} is accepted: code with fewer privileges can speak for the guest"
            )
            yield Finding("unsafe-switch", (*at, "highest_vmpl"), text)
        for line, product in (values.products or {}).items():
            if product.any_chip:
                text = f"any {line} chip is accepted" + (
                    ": keys of this line have leaked, so anybody forges its reports; name chips instead"
                    if line in LEAKED
                    else "; the switch does nothing for a line whose keys have not leaked: remove it"
                )
                yield Finding("unsafe-switch", (*at, "products", line, "any_chip"), text)
        yield from _names(at, values)
        for index, each in enumerate(values.exceptions):
            place: Path = (*at, "exceptions", index)
            if each.until <= now:
                more = ", which accepts it without an end" if values.lists(each.accept) else ""
                text = f"{each.accept} was accepted until {each.until.isoformat()}, and is refused now: "
                text += f"move the day, or remove the exception{more}"
                yield Finding("expired-exception", place, text)


def _names(at: Path, values: PlatformValues) -> Iterator[Finding]:
    """Tell of names that no evidence carries: what they demand refuses all, what they accept is nothing."""
    for line in values.products or ():
        if line not in AMD_ROOTS:
            text = f"there is no processor line {line} here{did_you_mean(line, AMD_ROOTS)}"
            yield Finding("unknown-name", (*at, "products", line), text)
        elif AMD_ROOTS[line] not in values.roots and set(AMD_ROOTS.values()) & set(values.roots):
            text = f"{line} is accepted and its root is not: add {AMD_ROOTS[line]} to `roots`"
            yield Finding("line-without-root", (*at, "products", line), text)
    yield from _idle(at, values)
    known = {*FEATURES, SMT_DISABLED}
    for index, feature in enumerate(values.features):
        if feature not in known:
            text = f"no platform has the feature {feature}, so all are refused{did_you_mean(feature, known)}"
            yield Finding("unknown-name", (*at, "features", index), text)


def _idle(at: Path, values: PlatformValues) -> Iterator[Finding]:
    """Tell of statuses and advisories that no evidence of the platform has: to accept them is nothing."""
    platform = at[-1]
    if platform == NITRO and values.advisories is not None:
        text = "Nitro evidence comes with no advisories, so this checks nothing: remove it"
        yield Finding("idle-demand", (*at, "advisories"), text)
    if platform == SEV_SNP:
        known = sorted(LEAKED.values())
        accepted: list[tuple[Path, str]] = [
            ((*at, "exceptions", index), each.accept) for index, each in enumerate(values.exceptions)
        ]
        accepted += [((*at, "advisories", index), each) for index, each in enumerate(values.advisories or ())]
        for place, name in accepted:
            if name not in known:
                text = f"SEV-SNP evidence never comes with {name}, so this accepts nothing: remove it"
                yield Finding("idle-demand", place, text + did_you_mean(name, known))


def _pins(policy: Policy) -> Iterator[Finding]:
    for at, platform, pinned in pins(policy):
        whose = dotted(at)
        if pinned.unsafe_any_measurement:
            text = f"{whose} accepts any code whatever"
            yield Finding("unsafe-switch", (*at, "unsafe_any_measurement"), text)
        if pinned.debuggable:
            text = f"{whose} may be debugged: its host reads all that it holds"
            yield Finding("unsafe-switch", (*at, "debuggable"), text)
        for line in leaked_lines(policy.platforms[platform]) if platform == SEV_SNP else ():
            if pinned.chips is None:
                text = (
                    f"{whose} names no chips, so its evidence from {line} is always refused: name the chips, "
                    f"or accept other lines only (platforms.sev-snp.products)"
                )
                yield Finding(f"{line.lower()}-without-chips", at, text)


def pins(policy: Policy) -> Iterator[tuple[Path, str, Pinned]]:
    """Yield path, platform and Reference Values of the coordinator and each workload."""
    for platform, pinned in policy.coordinators.items():
        yield ("coordinators", platform), platform, pinned
    for name, workload in policy.workloads.items():
        for platform, pinned in workload.on.items():
            yield ("workloads", name, "on", platform), platform, pinned


def leaked_lines(values: PlatformValues) -> list[str]:
    """Name the processor lines with leaked keys that a platform accepts from named chips only."""
    if values.products is None:
        return [line for line in LEAKED if AMD_ROOTS.get(line) in values.roots]
    return [line for line in LEAKED if line in values.products and not values.products[line].any_chip]


def _holders(policy: Policy) -> Iterator[Finding]:
    for name, workload in policy.workloads.items():
        if not workload.on:
            text = f"workload {name} runs nowhere: pin it on a platform, or remove it"
            yield Finding("workload-nowhere", ("workloads", name), text)
        if not workload.roles:
            text = f"workload {name} may hold no role, so it can do nothing: name its roles, or remove it"
            yield Finding("without-roles", ("workloads", name), text)
    for name, client in policy.clients.items():
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
