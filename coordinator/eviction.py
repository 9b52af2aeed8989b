"""What a new policy means for those whom an older one admitted.

Pure. A party stays if what it proved is enough for the new policy too. Where that cannot be told from the
result of its appraisal, it has to prove again: a check that could not be made counts as failed.
"""

from enum import Enum

from coordinator.ledger import Party
from schemas.evidence import TDX, AttestationResult, PlatformValues
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


def _demands(result: AttestationResult, old: PlatformValues, new: PlatformValues) -> Verdict:
    if result.lab != new.lab or (result.platform == TDX and result.status not in new.statuses):
        return Verdict.OUT
    raised = any(floor > old.minimum_tcb.get(name, -1) for name, floor in new.minimum_tcb.items())
    # A result says neither which root, nor which TCB, nor whether a revocation list was seen.
    if raised or not set(old.roots) <= set(new.roots) or (new.require_crl and not old.require_crl):
        return Verdict.MUST_PROVE
    return Verdict.STAYS
