"""What operators are told of a mesh: where its coordinator stands, and who is admitted. Pure."""

from coordinator.ledger import Ledger, Party
from coordinator.terms import Standing
from schemas.messages import Bytes32, MeshStatus, Millis, PartyStatus

PARTIES_A_PAGE = 256  # some 2.5 KiB each at most, with all roles and chips, to fit a message

ADMITTED, QUARANTINED, MUST_PROVE = "admitted", "quarantined", "must-prove"


def mesh_status(
    standing: Standing,
    ledger: Ledger,
    page: int,
    *,
    log: tuple[int, Bytes32],
    break_glass: tuple[str, ...],
    lease_until: Millis | None,
    now: Millis,
) -> MeshStatus | None:
    """Return a page of the registry in the order of instance ids; None if there is no such page."""
    parties = sorted(ledger.parties(), key=lambda party: party.instance)
    pages = max(1, -(-len(parties) // PARTIES_A_PAGE))
    if page >= pages:
        return None
    shown = parties[page * PARTIES_A_PAGE : (page + 1) * PARTIES_A_PAGE]
    return MeshStatus(
        standing.term,
        standing.policy_version,
        standing.policy_hash,
        *log,
        now,
        break_glass,
        standing.council.version,
        standing.council.digest,
        lease_until,
        len(ledger.revoked()),
        pages,
        tuple(_status(ledger, party) for party in shown),
    )


def _status(ledger: Ledger, party: Party) -> PartyStatus:
    found = party.found
    return PartyStatus(
        party.instance,
        party.kind,
        party.roles,
        party.workload,
        found.workload_id if found else b"",
        party.platform,
        # By each of them it can be put out.
        party.chips,
        party.evidence,
        party.expires,
        _state(ledger, party),
    )


def _state(ledger: Ledger, party: Party) -> str:
    if ledger.is_quarantined(party.instance):
        return QUARANTINED
    return ADMITTED if party.prove_by is None else MUST_PROVE
