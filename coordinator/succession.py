"""Operators follow operators: what a coordinator takes, what its log says of it, who is out by it. Pure."""

from dataclasses import replace

from coordinator.audit import AuditLog
from coordinator.errors import RefusedError
from coordinator.ledger import Ledger, Party
from coordinator.terms import AHEAD, Standing, take_profile
from schemas.documents import Order
from schemas.errors import Reason
from schemas.messages import OPERATOR, Event, Millis
from sealing.context import Mesh
from sealing.council import Council, follow, read
from sealing.documents import fewest, open_act


def take_operators(standing: Standing, mesh: Mesh, event: Event, *, now: Millis) -> Standing:
    """Go over to the operators that follow by an event's changes.

    1. Each change is signed by the threshold on both sides of it, and they begin with those that are known.
    2. The last is of now.
    3. The term's order and the profile are those in force, as the new operators signed them: whoever joins
       from here on goes by the new ones alone.
    """
    # 1.
    council = follow(standing.council, event.operators)
    # 2.
    check_time(council, mesh, now)
    # 3.
    if standing.order is None:
        if event.documents or event.profile is not None:
            raise RefusedError(Reason.TERM_NOT_ACCEPTED, "no order is in force that could be signed again")
        return replace(standing, council=council)
    if open_act(council, mesh, event.documents, Order) != standing.order:
        raise RefusedError(Reason.CONSTRAINT_VIOLATED, "the order that was signed again is not the term's")
    profile: tuple[bytes, ...] = ()
    if standing.policy is not None:
        profile = take_profile(council, mesh, standing.policy, event)
    record = fewest(council, mesh, "order", event.documents)
    return replace(standing, council=council, term_record=record, profile=profile)


def check_time(council: Council, mesh: Mesh, now: Millis) -> None:
    """Raise if the last change of operators is of a time to come: none is signed in store."""
    if council.version and read(mesh, council.chain[-1]).time > now + AHEAD:
        raise RefusedError(Reason.NOT_YET_VALID, "operators of a time to come: set the clock that signs")


def note(audit: AuditLog, before: Council, after: Council, *, event: str, now: Millis) -> int:
    """Enter each change that led from one council to another into the log; return the last one's index."""
    index = 0
    for each in reversed(after.lineage[: after.version - before.version]):
        index = audit.append(
            "operators",
            now=now,
            event=event,
            version=each.version,
            hash=each.digest.hex(),
            names=tuple(operator.name for operator in each.operators),
            threshold=each.threshold,
            reason=read(each.mesh, each.chain[-1]).reason,
        )
    return index


def former(ledger: Ledger, council: Council) -> list[Party]:
    """Return whose consoles are admitted and are no operators' any more."""
    parties = ledger.parties()
    return [party for party in parties if party.kind == OPERATOR and party.signing_key not in council.keys]
