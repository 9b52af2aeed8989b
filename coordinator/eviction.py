"""What a new policy means for those whom an older one admitted.

Pure. A party stays if what it proved is enough for the new policy too. Where that cannot be told from the
result of its appraisal, it has to prove again: a check that could not be made counts as failed.
"""

from enum import Enum

from coordinator.ledger import Party
from schemas.evidence import TDX, AttestationResult, Floors, PlatformValues
from schemas.messages import CLIENT, OPERATOR
from schemas.policy import Policy


class Verdict(Enum):
    """What becomes of a party."""

    STAYS = "stays"
    MUST_PROVE = "must-prove"
    OUT = "out"


def judge(party: Party, old: Policy, new: Policy) -> Verdict:
    """Judge a party that `old` admitted by `new`."""
    if party.kind == OPERATOR:
        return Verdict.STAYS  # the anchor names operators, no policy does
    if party.kind == CLIENT:
        return Verdict.STAYS if client_permitted(new, party.signing_key, party.roles) else Verdict.OUT
    if party.result is None or not _named(party.result, party.roles, new):
        return Verdict.OUT
    if _publisher_changed(party.result, old, new):
        return Verdict.MUST_PROVE
    platform = party.result.platform
    return _demands(party.result, old.platforms[platform], new.platforms[platform])


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


def _publisher_changed(result: AttestationResult, old: Policy, new: Policy) -> bool:
    # A result does not say who signed what runs.
    pinned = new.workloads[result.workload].on[result.platform].publisher
    before = old.workloads.get(result.workload)
    held = before.on.get(result.platform) if before else None
    return pinned is not None and (held is None or held.publisher != pinned)


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
        and set(new.features) <= set(old.features)
        and old.highest_vmpl <= new.highest_vmpl
        and old.require_crl >= new.require_crl
        and (new.max_collateral_days or 10_000) >= (old.max_collateral_days or 10_000)
        and new.max_evidence_seconds >= old.max_evidence_seconds
    )


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
