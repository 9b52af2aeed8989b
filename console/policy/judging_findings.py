"""What is legal in the part of a policy that judges evidence, and yet hardly meant. Pure; refuses nothing."""

from collections.abc import Collection, Iterator
from datetime import datetime

from attestation.amd_names import LEAKED
from attestation.sev_snp import FEATURES, SMT_DISABLED
from attestation.sev_snp.certificate import PRODUCTS
from attestation.tdx import COMPONENTS
from attestation.vendors import AMD_ROOTS
from console.policy.finding import Finding
from console.policy.pin_findings import pin_findings
from schemas.evidence import NITRO, SEV_SNP, STATUSES, TDX, Floors, PlatformValues
from schemas.evidence_policy import EvidencePolicy
from schemas.pinning import Pinned
from schemas.policy import Policy
from schemas.toml_errors import did_you_mean
from schemas.toml_place import Path, dotted


def judging_findings(
    policy: Policy | EvidencePolicy, *, now: datetime, to_fill_in: Collection[str] = ()
) -> list[Finding]:
    """Return what there is to say of the part that judges evidence, of a whole policy or of that alone.

    `to_fill_in`: platforms of coordinators whose Reference Values are still to be filled in.
    """
    return [*_platforms(policy, now, to_fill_in), *_pins(policy)]


def _platforms(
    policy: Policy | EvidencePolicy, now: datetime, to_fill_in: Collection[str]
) -> Iterator[Finding]:
    used = {*policy.coordinators, *to_fill_in}
    used |= {name for each in policy.workloads.values() for name in each.on}
    for name, values in policy.platforms.items():
        at: Path = ("platforms", name)
        if name not in used:
            text = f"no workload is pinned on {name}, so all its evidence is refused: pin one, or remove it"
            yield Finding("unused-platform", at, text)
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
    yield from _floors(at, values)
    known = {*FEATURES, SMT_DISABLED}
    for index, feature in enumerate(values.features):
        if feature not in known:
            text = f"no platform has the feature {feature}, so all are refused{did_you_mean(feature, known)}"
            yield Finding("unknown-name", (*at, "features", index), text)


def _floors(at: Path, values: PlatformValues) -> Iterator[Finding]:
    """Tell of floors for components that no evidence states: what is not stated is below every floor."""
    platform = str(at[-1])
    every = {
        SEV_SNP: {component for product in PRODUCTS.values() for component in product.layout},
        TDX: set(COMPONENTS),
    }
    floors: list[tuple[Path, str, Floors, Collection[str]]] = [
        ((*at, "minimum_tcb"), f"{platform} evidence", values.minimum_tcb, every.get(platform, ()))
    ]
    for line, each in (values.products or {}).items():
        known = PRODUCTS[line].layout if line in PRODUCTS else every[SEV_SNP]
        place = (*at, "products", line)
        floors.append(((*place, "minimum_tcb"), f"{line} evidence", each.minimum_tcb, known))
        committed = each.minimum_committed_tcb
        floors.append(((*place, "minimum_committed_tcb"), f"{line} evidence", committed, known))
    for place, whose, named, components in floors:
        for component in named:
            if component not in components:
                text = f"{whose} states no TCB component {component}, so this floor refuses all of it"
                yield Finding("unknown-name", (*place, component), text + did_you_mean(component, components))


def _idle(at: Path, values: PlatformValues) -> Iterator[Finding]:
    """Tell of statuses and advisories that no evidence of the platform has: to accept them is nothing."""
    platform = at[-1]
    if (
        platform == TDX
        and not values.statuses
        and not any(each.accept in STATUSES for each in values.exceptions)
    ):
        text = "no TCB status is accepted, so all TDX evidence is refused: name some, or leave it out"
        yield Finding("never-met", (*at, "statuses"), text)
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


def _pins(policy: Policy | EvidencePolicy) -> Iterator[Finding]:
    for at, platform, pinned in pins(policy):
        whose = dotted(at)
        yield from pin_findings(at, platform, pinned)
        if at[0] != "coordinators" and pinned == policy.coordinators.get(platform):
            text = f"{whose} is what [coordinators] pins: what runs may be either; pin an image of its own"
            yield Finding("same-as-coordinator", at, text)
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


def pins(policy: Policy | EvidencePolicy) -> Iterator[tuple[Path, str, Pinned]]:
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
