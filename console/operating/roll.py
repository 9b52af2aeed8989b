"""What is to stay revoked in the next term, as far as one console knows: what was sent or signed there. Pure.

Whatever takes away, by its digest as an order's roll has it. The end of a quarantine gives something back: it
is in no roll, and neither is the quarantine that it ended.
"""

from collections.abc import Iterable, Mapping

from console.operating.acts import Document
from schemas import codec
from schemas.documents import RevocationOrder
from schemas.messages import LIFT, MEASUREMENT, QUARANTINE
from schemas.toml_place import printable
from sealing.context import sha256

Holding = Mapping[bytes, RevocationOrder]


def takes_away(document: Document) -> bool:
    """Tell whether a document only takes away: what gives something is never signed among other things."""
    return isinstance(document, RevocationOrder) and document.kind != LIFT


def holding(sent: Iterable[bytes], signed: Iterable[bytes]) -> dict[bytes, RevocationOrder]:
    """Return what is to hold, of texts that enough have signed and of others, which end no quarantine."""
    known = {text: codec.decode(text, RevocationOrder) for text in sent}
    lifted = {each.value: each.time for each in known.values() if each.kind == LIFT}
    known |= {text: codec.decode(text, RevocationOrder) for text in signed}
    return {
        sha256(text): each
        for text, each in known.items()
        if takes_away(each) and not (each.kind == QUARANTINE and each.time < lifted.get(each.value, 0))
    }


def in_words(order: RevocationOrder) -> str:
    """Say what a revocation does."""
    what = {
        QUARANTINE: "quarantine of instance",
        LIFT: "end of the quarantine of instance",
        MEASUREMENT: "taint of measurement",
    }.get(order.kind, f"revocation of {order.kind}")
    return f"{what} {printable(order.value)}"
