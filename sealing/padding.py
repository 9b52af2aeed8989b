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


def pad(body: bytes) -> bytes:
    """Return `length u32 || body || zeros` of a Padmé size."""
    length = len(body) + _LENGTH
    return b"".join((len(body).to_bytes(_LENGTH, "big"), body, bytes(padme(length) - length)))


def unpad(padded: bytes) -> bytes:
    """Return the body of what was authenticated as padded, or raise `NotAuthenticError`."""
    length = int.from_bytes(padded[:_LENGTH], "big")
    end = _LENGTH + length
    # The tag held, so wrong padding is the sender's doing: one honest form only, no covert channel.
    if len(padded) < MINIMUM or len(padded) != padme(end) or not padded.endswith(bytes(len(padded) - end)):
        raise NotAuthenticError("padding")
    return padded[_LENGTH:end]
