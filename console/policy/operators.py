"""Operators' public keys as they send them to each other, and the anchor that is made of them.

Pure. A public key is one line of text: a format, the operator's name, 64 hexadecimal digits.
"""

import re
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import msgspec

from console.documents import make_anchor
from schemas.documents import OperatorKey
from schemas.errors import MalformedError, UsageError
from schemas.messages import Millis
from sealing.context import SUITE_GCM, Mesh
from sealing.documents import open_anchor
from sealing.errors import SealingError
from sealing.keys import can_be_a_key

FORMAT = "sealbus-operator-1"
_ROOT = re.compile(r"[0-9a-f]{64}")


class Operator(NamedTuple):
    """An operator by name and Ed25519 public key."""

    name: str
    public: bytes


def public_line(operator: Operator) -> str:
    """Return an operator's public key as one line of text."""
    return f"{FORMAT} {operator.name} {operator.public.hex()}\n"


def read_public(text: str, source: str) -> Operator:
    """Read an operator's public key, or raise `UsageError` that names `source`."""
    match text.split():
        case [form, name, digits] if form == FORMAT:
            try:
                key = msgspec.convert([name, bytes.fromhex(digits)], OperatorKey, builtin_types=(bytes,))
            except (msgspec.ValidationError, ValueError) as error:
                raise UsageError(f"{source} holds no valid operator's key: ask for it again") from error
            if not can_be_a_key(key.key):
                raise UsageError(f"{source} holds a key that nobody can have: ask for it again")
            return Operator(key.name, key.key)
    raise UsageError(f"{source} is no operator's public key: take the .pub that `policy keygen` wrote")


def majority(operators: int) -> int:
    """Return the lowest threshold that any two quorums share an operator under."""
    return operators // 2 + 1


def anchor_of(
    operators: Sequence[Operator], threshold: int, roots: Sequence[str], issued: Millis
) -> tuple[bytes, Mesh]:
    """Return an anchor's bytes and the mesh that they are, or raise `UsageError`."""
    least = majority(len(operators))
    if not least <= threshold <= len(operators):
        raise UsageError(
            f"a threshold of {threshold} among {len(operators)} operators: it has to be more than half, so "
            f"that no two groups decide against each other, and no more than all: {least} to {len(operators)}"
        )
    for root in roots:
        if not _ROOT.fullmatch(root):
            raise UsageError(f"--root {root}: a root is its SHA-256, 64 lower-case hexadecimal digits")
    for one, other in combinations(operators, 2):
        if one.public == other.public:
            raise UsageError(f"{one.name} and {other.name} have one key: each operator makes a key alone")
        if one.name == other.name:
            raise UsageError(f"two operators share the name {one.name}: have one make a key of another name")
    data = make_anchor(operators, threshold, roots, issued, SUITE_GCM)
    try:
        return data, open_anchor(data)[1]
    except (MalformedError, SealingError) as error:
        raise UsageError(f"these operators make no anchor: {error.detail}") from error
