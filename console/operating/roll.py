"""What is to stay revoked in the next term, as far as one console knows: what was sent or signed there. Pure.

Whatever takes away, by its digest as an order's roll has it. The end of a quarantine gives something back: it
is in no roll, and neither is the quarantine that it ended. Nor does either count before its time has come: no
coordinator takes it before then, and a term that asks for it would wait.
"""

from collections.abc import Iterable, Mapping

from console.operating.acts import Document
from schemas import codec
from schemas.documents import RevocationOrder
from schemas.limits import CLOCK_AHEAD, MINUTE
from schemas.messages import LIFT, MEASUREMENT, QUARANTINE, Millis
from schemas.toml_place import printable
from sealing.context import sha256

AHEAD = 5 * MINUTE  # as coordinators take it
Holding = Mapping[bytes, RevocationOrder]


def takes_away(document: Document) -> bool:
    """Tell whether a document only takes away: what gives something is never signed among other things."""
    return isinstance(document, RevocationOrder) and document.kind != LIFT


def is_early(document: Document, now: Millis) -> bool:
    """Tell whether a document is of a time to come, as coordinators see it: a lifting has the least room."""
    is_lift = isinstance(document, RevocationOrder) and document.kind == LIFT
    return document.time > now + (CLOCK_AHEAD if is_lift else AHEAD)


def has_to_wait(revocation: RevocationOrder, now: Millis) -> bool:
    """Tell whether no coordinator takes a revocation yet. Other kinds than these are taken of any time."""
    return revocation.kind in (QUARANTINE, LIFT) and is_early(revocation, now)


def holding(sent: Iterable[bytes], signed: Iterable[bytes], now: Millis) -> dict[bytes, RevocationOrder]:
    """Return what is to hold, of texts that enough have signed and of others, which end no quarantine."""
    known = _read(sent, now)
    lifted: dict[str, Millis] = {}
    for each in known.values():
        if each.kind == LIFT:
            lifted[each.value] = max(each.time, lifted.get(each.value, 0))
    known |= _read(signed, now)
    return {
        sha256(text): each
        for text, each in known.items()
        if takes_away(each) and not (each.kind == QUARANTINE and each.time < lifted.get(each.value, 0))
    }


def _read(texts: Iterable[bytes], now: Millis) -> dict[bytes, RevocationOrder]:
    read = {text: codec.decode(text, RevocationOrder) for text in texts}
    return {text: each for text, each in read.items() if not has_to_wait(each, now)}


def waiting(texts: Iterable[bytes], now: Millis) -> dict[bytes, RevocationOrder]:
    """Return what no coordinator takes yet, by its digest."""
    read = {sha256(text): codec.decode(text, RevocationOrder) for text in texts}
    return {digest: each for digest, each in read.items() if has_to_wait(each, now)}


def in_words(order: RevocationOrder) -> str:
    """Say what a revocation does."""
    what = {
        QUARANTINE: "quarantine of instance",
        LIFT: "end of the quarantine of instance",
        MEASUREMENT: "taint of measurement",
    }.get(order.kind, f"revocation of {order.kind}")
    return f"{what} {printable(order.value)}"
