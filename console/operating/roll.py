"""What is to stay revoked in the next term, as far as one console knows: what was sent or signed there. Pure.

Whatever takes away, by its digest as an order's roll has it. The end of a quarantine gives something back: it
is in no roll, and neither is the quarantine that it ended.
"""

from collections.abc import Iterable, Mapping

from schemas import codec
from schemas.documents import RevocationOrder
from schemas.messages import LIFT, MEASUREMENT, QUARANTINE
from schemas.toml_place import printable
from sealing.context import sha256

Holding = Mapping[bytes, RevocationOrder]


def holding(sent: Iterable[bytes], signed: Iterable[bytes]) -> dict[bytes, RevocationOrder]:
    """Return what is to hold, of texts that were sent from here and of those that were only signed."""
    known = {text: codec.decode(text, RevocationOrder) for text in sent}
    # What was only signed lifts nothing: it may have been given up.
    lifted = {each.value: each.time for each in known.values() if each.kind == LIFT}
    known |= {text: codec.decode(text, RevocationOrder) for text in signed}
    return {
        sha256(text): each
        for text, each in known.items()
        if each.kind != LIFT and not (each.kind == QUARANTINE and each.time < lifted.get(each.value, 0))
    }


def in_words(order: RevocationOrder) -> str:
    """Say what a revocation does."""
    what = {
        QUARANTINE: "quarantine of instance",
        LIFT: "end of the quarantine of instance",
        MEASUREMENT: "taint of measurement",
    }.get(order.kind, f"revocation of {order.kind}")
    return f"{what} {printable(order.value)}"
