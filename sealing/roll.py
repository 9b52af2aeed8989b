"""The roll of a term: the revocations that its coordinator has to be told before its first policy. Pure.

Each stands in it by its digest, in order. The operators' order names the roll's hash, so whoever signs that
says which revocations they are, and the roll itself needs no signature.
"""

from collections.abc import Iterable
from itertools import pairwise

from schemas import codec
from schemas.documents import RevocationOrder
from schemas.errors import MalformedError, Reason
from schemas.messages import Roll
from sealing.context import sha256
from sealing.errors import SealingError


def digest(revocation: RevocationOrder) -> bytes:
    """Return what a roll knows a revocation by: the hash of its text, whoever signed it."""
    return sha256(codec.encode(revocation))


def encode_roll(digests: Iterable[bytes]) -> bytes:
    """Return the one roll of some revocations."""
    return codec.encode(tuple(sorted(set(digests))))


def roll_hash(digests: Iterable[bytes]) -> bytes:
    """Return what an order names the roll of some revocations by."""
    return sha256(encode_roll(digests))


EMPTY = roll_hash(())


def open_roll(data: bytes, named: bytes) -> Roll:
    """Return the roll that an order names, or raise.

    1. It is that one.
    2. It is in order, each once: of the same revocations there is one roll, which people can compare.
    """
    # 1.
    if sha256(data) != named:
        raise SealingError(Reason.CONSTRAINT_VIOLATED, "not the roll that the order names")
    # 2.
    roll = codec.decode(data, Roll)
    if any(before >= after for before, after in pairwise(roll)):
        raise MalformedError("a roll out of order")
    return roll
