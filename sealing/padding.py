"""Padmé padding (Nikitin et al., PETS 2019): sizes leak at most O(log log n) bits, costing at most 12 %."""

from sealing.errors import NotAuthenticError

MINIMUM = 256
_LENGTH = 4


def padme(length: int) -> int:
    """Return the padded size for `length` bytes."""
    if length <= MINIMUM:
        return MINIMUM
    exponent = length.bit_length() - 1
    keep = exponent.bit_length()
    mask = (1 << max(exponent - keep, 0)) - 1
    return (length + mask) & ~mask


def pad(*parts: bytes) -> bytes:
    """Return `length u32 || body || zeros` of a Padmé size; the body may come in parts."""
    size = sum(map(len, parts))
    length = size + _LENGTH
    return b"".join((size.to_bytes(_LENGTH, "big"), *parts, bytes(padme(length) - length)))


def unpad(padded: bytes) -> bytes:
    """Return the body of what was authenticated as padded, or raise `NotAuthenticError`."""
    return padded[_LENGTH : body_end(padded)]


def unpad_view(padded: bytes) -> memoryview:
    """Do as `unpad` without a copy."""
    return memoryview(padded)[_LENGTH : body_end(padded)]


def body_end(padded: bytes) -> int:
    """Return where the body of what was authenticated as padded ends, or raise `NotAuthenticError`."""
    size = len(padded)
    end = _LENGTH + int.from_bytes(padded[:_LENGTH], "big")
    # The tag held, so wrong padding is the sender's doing: one honest form only, no covert channel.
    if size < MINIMUM or size != padme(end) or not padded.endswith(bytes(size - end)):
        raise NotAuthenticError("padding")
    return end
