"""Whether what a party proved to one policy is enough for the next.

Pure. Where that cannot be told from the result of its appraisal, it has to prove again: a check that could
not be made counts as failed.
"""

from enum import Enum

from schemas.evidence import SEV_SNP, TDX, AttestationResult, Floors, PlatformValues
from schemas.policy import Policy


class Verdict(Enum):
    """What becomes of a party."""

    STAYS = "stays"
    MUST_PROVE = "must-prove"
    OUT = "out"


def judge_enclave(result: AttestationResult, roles: tuple[str, ...], old: Policy, new: Policy) -> Verdict:
    """Judge by `new` an enclave with these roles, whose evidence `old` accepted with this result."""
    if not _named(result, roles, new):
        return Verdict.OUT
    before = old.platforms.get(result.platform)
    if before is None or _identity_changed(result, old, new):
        return Verdict.MUST_PROVE
    return _demands(result, before, new.platforms[result.platform])


def client_permitted(policy: Policy, key: bytes, roles: tuple[str, ...]) -> bool:
    """Tell whether some client of the policy has this key and all of these roles."""
    return any(
        client.key == key.hex() and set(roles) <= set(client.roles) for client in policy.clients.values()
    )


def _named(result: AttestationResult, roles: tuple[str, ...], policy: Policy) -> bool:
    workload = policy.workloads.get(result.workload)
    pinned = workload.on.get(result.platform) if workload else None
    if workload is None or pinned is None or not set(roles) <= set(workload.roles):
        return False
    if any(result.measurements.get(name) != value for name, value in pinned.measurements.items()):
        return False
    if result.debug and not pinned.debuggable:
        return False
    return pinned.chips is None or bool(result.chip and result.chip in pinned.chips)


def _identity_changed(result: AttestationResult, old: Policy, new: Policy) -> bool:
    pinned = new.workloads[result.workload].on[result.platform]
    workload = old.workloads.get(result.workload)
    held = workload.on.get(result.platform) if workload else None
    if held is None:
        return True
    # A result says neither who signed what runs, nor of which processor line it is: without a list of chips
    # another line may be refused. Nor does it say whether a VLEK signed, which proves no chip.
    return (
        (pinned.publisher is not None and held.publisher != pinned.publisher)
        or (pinned.chips is None and held.chips is not None)
        or (pinned.chips is not None and held.chips is None and result.platform == SEV_SNP)
    )


def _demands(result: AttestationResult, old: PlatformValues, new: PlatformValues) -> Verdict:
    excepted = {each.accept for each in new.exceptions}
    if result.lab != new.lab:
        return Verdict.OUT
    if result.platform == TDX and result.status not in {*new.statuses, *excepted}:
        return Verdict.OUT
    # A result says neither which root, nor which TCB, nor whether a revocation list was seen.
    return Verdict.STAYS if _demands_no_more(old, new) else Verdict.MUST_PROVE


def _demands_no_more(old: PlatformValues, new: PlatformValues) -> bool:
    """Tell whether all that `old` accepts, `new` accepts; when in doubt it does not."""
    return (
        set(old.anchors) <= set(new.anchors)
        and _floors_no_higher(old.minimum_tcb, new.minimum_tcb)
        and _products_no_fewer(old, new)
        and set(old.statuses) <= set(new.statuses)
        and _advisories_no_fewer(old, new)
        and set(old.exceptions) <= set(new.exceptions)
        and not _exceptions_that_end_acceptance(old, new)
        and set(old.keys) <= set(new.keys)
        and _clouds_no_fewer(old, new)
        and set(new.features) <= set(old.features)
        and old.highest_vmpl <= new.highest_vmpl
        and old.require_crl >= new.require_crl
        and old.require_stated >= new.require_stated
        and (new.max_collateral_days or 10_000) >= (old.max_collateral_days or 10_000)
        and new.max_evidence_seconds >= old.max_evidence_seconds
    )


def _exceptions_that_end_acceptance(old: PlatformValues, new: PlatformValues) -> bool:
    """Tell whether `new` gives an end to what `old` may accept without one: an exception is the last word."""
    named = {each.accept for each in new.exceptions} - {each.accept for each in old.exceptions}
    return any(map(old.lists, named))


def _clouds_no_fewer(old: PlatformValues, new: PlatformValues) -> bool:
    if new.clouds is None:
        return True
    return old.clouds is not None and set(old.clouds) <= set(new.clouds)


def _advisories_no_fewer(old: PlatformValues, new: PlatformValues) -> bool:
    if new.advisories is None:
        return True
    return old.advisories is not None and set(old.advisories) <= set(new.advisories)


def _floors_no_higher(old: Floors, new: Floors) -> bool:
    return all(floor <= old.get(name, -1) for name, floor in new.items())


def _products_no_fewer(old: PlatformValues, new: PlatformValues) -> bool:
    if old.products is None or new.products is None:
        return old.products is new.products
    return all(
        (after := new.products.get(name)) is not None
        and _floors_no_higher(before.minimum_tcb, after.minimum_tcb)
        and _floors_no_higher(before.minimum_committed_tcb, after.minimum_committed_tcb)
        and before.any_chip <= after.any_chip
        for name, before in old.products.items()
    )
