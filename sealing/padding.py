"""Padmé padding (Nikitin et al., PETS 2019): sizes leak at most O(log log n) bits, costing at most 12 %."""

import struct
from collections.abc import Sequence

from sealing.errors import NotAuthenticError

MINIMUM = 256
_SIZE = struct.Struct(">I")
_LENGTH = _SIZE.size


def padme(length: int) -> int:
    """Return the padded size for `length` bytes."""
    if length <= MINIMUM:
        return MINIMUM
    exponent = length.bit_length() - 1
    mask = (1 << exponent - exponent.bit_length()) - 1
    return (length + mask) & ~mask


def pad(*parts: bytes) -> bytes:
    """Return `length u32 || body || zeros` of a Padmé size; the body may come in parts."""
    return pad_sized(sum(map(len, parts)), parts)


def pad_sized(size: int, parts: Sequence[bytes]) -> bytes:
    """Do as `pad` where the caller knows how many bytes the parts have."""
    length = size + _LENGTH
    return b"".join((_SIZE.pack(size), *parts, bytes(padme(length) - length)))


def unpad(padded: bytes) -> bytes:
    """Return the body of what was authenticated as padded, or raise `NotAuthenticError`."""
    return padded[body_of(padded)]


def body_of(padded: bytes) -> slice:
    """Return where the body stands in what was authenticated as padded, or raise `NotAuthenticError`."""
    size = len(padded)
    # The tag held, so wrong padding is the sender's doing: one honest form only, no covert channel.
    if size < MINIMUM:
        raise NotAuthenticError("padding")
    end = _LENGTH + int.from_bytes(padded[:_LENGTH], "big")
    if size != padme(end) or not padded.endswith(bytes(size - end)):
        raise NotAuthenticError("padding")
    return slice(_LENGTH, end)
