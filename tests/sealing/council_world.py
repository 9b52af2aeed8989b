"""Operators and changes of them, as every test of theirs makes them."""

from collections.abc import Iterable, Sequence
from typing import Any

from schemas import codec
from schemas.documents import Anchor, OperatorKey, Operators
from schemas.messages import Succession
from sealing.context import Mesh, sha256
from sealing.council import Council, add_signatures, founders
from sealing.keys import SigningKey

NAMES = ("ada", "ben", "cyd", "dan", "eve", "fay", "gus", "hal")
KEYS = {name: SigningKey(sha256(name.encode())) for name in NAMES}


def operators(names: Iterable[str]) -> tuple[OperatorKey, ...]:
    """Return operators by their names."""
    return tuple(OperatorKey(name, KEYS[name].public) for name in names)


def council(names: Sequence[str] = ("ada", "ben", "cyd"), threshold: int = 2, issued: int = 1) -> Council:
    """Return the council of a new mesh."""
    anchor = Anchor(1, operators(names), threshold, ("ab" * 32,), issued, 1)
    return founders(anchor, Mesh(sha256(codec.encode(anchor)), 1))


def change(held: Council, names: Sequence[str], threshold: int, **changes: Any) -> Succession:
    """Return a change to others that nobody has signed."""
    fields: dict[str, Any] = {
        "mesh": held.mesh.id,
        "version": held.version + 1,
        "previous": held.digest,
        "operators": operators(names),
        "threshold": threshold,
        "reason": "a key was lost",
        "time": held.issued + held.version + 1,
    }
    return Succession(codec.encode(Operators(**{**fields, **changes})), ())


def signed(held: Council, step: Succession, signers: Iterable[str]) -> Succession:
    """Return a change with these operators' signatures."""
    return add_signatures(held, step, [KEYS[name] for name in signers])
