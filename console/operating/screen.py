"""Operators' acts, who signed them, what a receipt proves, and a registry, for people and for programs."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from console.operating.acts import ORDER, Act, document
from console.operating.desk import Desk
from console.operating.roll import Holding, in_words
from console.operator import NO_TERM
from console.policy.signatures import date
from schemas.documents import BreakGlass, LogReceipt, Order, Renewal, RevocationOrder
from schemas.limits import SECOND
from schemas.messages import OPERATOR, Event, MeshStatus, Millis, PartyStatus
from schemas.toml_place import printable
from schemas.words import count
from sealing.council import Council
from sealing.roll import EMPTY

SHOWN = 16  # digits of an id that tell it from the others of a mesh
_NONE: Holding = {}
MEASUREMENT_SHOWN = 12  # of fewer: so that a row fits a terminal


def act_lines(act: Act, names: tuple[str, ...], council: Council, holding: Holding = _NONE) -> list[str]:
    """Say in words what an act says and who has signed it; `holding`: revocations that are known here."""
    lines = said_lines(act)
    if act.roll:
        lines.append(f"to be revoked before the first policy: {count(len(act.roll), 'revocation')}")
        lines += [f"  {_listed(digest, holding)}" for digest in act.roll]
    lines += [f"{name} has signed" for name in names]
    lines += [f"{each.name} has not signed" for each in council.operators if each.name not in names]
    have, need = len(names), council.threshold
    lines.append(
        f"complete: {have} of {need} signatures that it needs"
        if have >= need
        else f"not yet: {have} of {need} signatures, {need - have} to go"
    )
    return lines


def said_lines(act: Act) -> list[str]:
    """Say in words all that an act says."""
    said = document(act)
    if isinstance(said, Order):
        held = said.policy_hash.hex() if said.policy_hash else "none: any may be its first"
        head = said.log_head.hex() if said.log_head else "none is named"
        lines = [
            f"order of term {said.term}",
            f"  coordinator {said.instance.hex()}",
            f"  policy {held}",
            f"  log head {head}",
            f"  revocations {said.revocations.hex() if said.revocations != EMPTY else 'none are named'}",
        ]
    elif isinstance(said, BreakGlass):
        lines = [
            f"break-glass: {said.role} may {said.may} {said.what}, whatever the policy says",
            f"  in term {said.term}",
            f"  until {date(said.until)}",
            f"  because: {printable(said.reason)}",
        ]
    elif isinstance(said, Renewal):
        lines = [f"renewal of the operators' lease in term {said.term}"]
    else:
        lines = [in_words(said), f"  because: {printable(said.reason)}"]
    return [*lines, f"  of {date(said.time)}"]


def _listed(digest: bytes, holding: Holding) -> str:
    known = holding.get(digest)
    return f"{digest.hex()}, which is unknown here" if known is None else in_words(known)


def act_data(act: Act, names: tuple[str, ...], council: Council, holding: Holding = _NONE) -> dict[str, Any]:
    """Return the same as plain data."""
    others = [each.name for each in council.operators if each.name not in names]
    lacking = max(0, council.threshold - len(names))
    told = said_data(act) | {"signed": list(names), "not_signed": others, "lacking": lacking}
    if act.kind == ORDER:
        told["roll"] = [_listed_data(digest, holding.get(digest)) for digest in act.roll]
    return told


def _listed_data(digest: bytes, known: RevocationOrder | None) -> dict[str, str | None]:
    kind, value = (known.kind, known.value) if known else (None, None)
    return {"revocation": digest.hex(), "revokes": kind, "value": value}


def said_data(act: Act) -> dict[str, Any]:
    """Return all that an act says as plain data."""
    said = document(act)
    fields: dict[str, Any] = {"kind": act.kind, "time": said.time}
    if isinstance(said, Order):
        fields |= {
            "term": said.term,
            "instance": said.instance.hex(),
            "policy_hash": said.policy_hash.hex() if said.policy_hash else None,
            "log_head": said.log_head.hex() if said.log_head else None,
            "revocations": said.revocations.hex(),
        }
    elif isinstance(said, BreakGlass):
        fields |= {"term": said.term, "role": said.role, "may": said.may, "what": said.what}
        fields |= {"until": said.until, "reason": said.reason}
    elif isinstance(said, Renewal):
        fields |= {"term": said.term}
    else:
        fields |= {"revokes": said.kind, "value": said.value, "reason": said.reason}
    return fields


def receipt_lines(desk: Desk, event: Event, receipt: LogReceipt) -> list[str]:
    """Say what a receipt proves, and where it is kept."""
    path = desk.kept.receipt(event.kind, term=receipt.term, index=receipt.log_index)
    return [
        f"in force: {event.kind}, entry {receipt.log_index} of the log of term {receipt.term}",
        f"  the coordinator's signed receipt: {path}",
    ]


def receipt_data(desk: Desk, event: Event, receipt: LogReceipt) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "kind": event.kind,
        "event": receipt.event.hex(),
        "term": receipt.term,
        "log_index": receipt.log_index,
        "policy_version": receipt.policy_version,
        "receipt": str(desk.kept.receipt(event.kind, term=receipt.term, index=receipt.log_index)),
    }


def status_data(status: MeshStatus, coordinator: bytes, *, parties: bool) -> dict[str, Any]:
    """Return what a coordinator told as plain data."""
    counted = _counts(status.parties)
    told: dict[str, Any] = {
        "coordinator": coordinator.hex(),
        "term": status.term,
        "policy_version": status.policy_version,
        "policy_hash": status.policy_hash.hex(),
        "log_size": status.log_size,
        "log_root": status.log_root.hex(),
        "time": status.time,
        "operators_version": status.operators_version,
        "operators_hash": status.operators_hash.hex(),
        "break_glass": list(status.break_glass),
        "lease_until": status.lease_until,
        "revoked": status.revoked,
        "parties": counted,
    }
    if parties:
        told["agents"] = [party_data(each) for each in status.parties if each.kind != OPERATOR]
    return told


def party_data(party: PartyStatus) -> dict[str, Any]:
    """Return an admitted party as plain data."""
    return {
        "instance": party.instance.hex(),
        "kind": party.kind,
        "roles": list(party.roles),
        "workload": party.workload or None,
        "measurement": party.workload_id.hex() or None,
        "platform": party.platform or None,
        "chip": party.chips[-1] if party.chips else None,  # the one that it named last
        "chips": list(party.chips),
        "evidence": party.evidence.hex() or None,
        "expires": party.expires,
        "state": party.state,
    }


def status_lines(status: MeshStatus, coordinator: bytes) -> list[str]:
    """Say where a coordinator stands."""
    policy = [f"  policy: version {status.policy_version}", f"    hash {status.policy_hash.hex()}"]
    admitted = ", ".join(count(number, kind) for kind, number in _counts(status.parties).items()) or "nobody"
    lines = [
        f"coordinator {coordinator.hex()}",
        f"  term {status.term}" if status.term else f"  {NO_TERM}",
        f"  its time: {date(status.time)}",
        # What tells two apart has a line of its own: both fit a terminal.
        *(policy if status.policy_version else ["  policy: none"]),
        f"  operators: version {status.operators_version}",
        f"    hash {status.operators_hash.hex()}",
        f"  log: {count(status.log_size, 'entry', 'entries')}",
        f"    head {status.log_root.hex()}",
        f"admitted: {admitted}; {count(status.revoked, 'entry', 'entries')} in the revoked set",
    ]
    lines += [f"BREAK-GLASS: {text}" for text in status.break_glass]
    if status.lease_until is not None:
        lines.insert(3, f"  falls silent unless operators renew before {date(status.lease_until)}")
    return lines


def agents_table(parties: Iterable[PartyStatus]) -> Table:
    """Return a table of who is admitted, operators left out."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("instance", no_wrap=True)  # to be copied
    for heading in ("state", "roles", "workload", "measurement", "TEE"):
        table.add_column(heading, overflow="fold")
    table.add_column("until (UTC)", no_wrap=True)
    for each in parties:
        if each.kind != OPERATOR:
            table.add_row(
                each.instance.hex()[:SHOWN],
                Text(each.state, "green" if each.state == "admitted" else "yellow"),
                ", ".join(each.roles),
                printable(each.workload or each.kind),
                each.workload_id.hex()[:MEASUREMENT_SHOWN],
                printable(each.platform),
                _until(each.expires),
            )
    return table


def _until(time: Millis) -> str:
    try:
        return datetime.fromtimestamp(time / SECOND, UTC).strftime("%d %H:%M:%S")
    except (OverflowError, ValueError):
        return f"{time} ms"  # a coordinator says what it likes


def _counts(parties: Iterable[PartyStatus]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for each in parties:
        counted[each.kind] = counted.get(each.kind, 0) + 1
    return dict(sorted(counted.items()))
