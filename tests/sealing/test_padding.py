"""Padmé: the paper's sizes, and one padded form of every body."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealing.errors import NotAuthenticError
from sealing.padding import MINIMUM, pad, padme, unpad


def paper(length: int) -> int:
    """Algorithm 1 of Nikitin et al., "Reducing Metadata Leakage from Encrypted Files", PETS 2019."""
    exponent = math.floor(math.log2(length))
    kept = math.floor(math.log2(exponent)) + 1
    last_bits = exponent - kept
    mask: int = 2**last_bits - 1
    return (length + mask) & ~mask


def test_sizes_are_the_papers() -> None:
    for length in range(MINIMUM, 70_000):
        assert padme(length) == paper(length)
    for length in (2**20 - 1, 2**20, 2**20 + 1, 10_000_019):
        assert padme(length) == paper(length)
    assert [padme(length) for length in (0, 1, 255, 256, 257, 1_000)] == [256, 256, 256, 256, 272, 1_024]


def test_padding_costs_at_most_an_eighth_and_never_shrinks() -> None:
    for length in range(MINIMUM, 70_000):
        assert length <= padme(length) <= length * 1.12 + 1
        assert padme(padme(length)) == padme(length)


@given(st.binary(max_size=2_000))
def test_what_was_padded_comes_back(body: bytes) -> None:
    assert unpad(pad(body)) == body


@given(st.integers(0, 3_000), st.integers(0, 3_000))
def test_a_size_tells_the_class_alone(one: int, other: int) -> None:
    assert (len(pad(bytes(one))) == len(pad(bytes(other)))) == (padme(one + 4) == padme(other + 4))


PADDED = pad(b"body")
WRONG = {
    "nothing": b"",
    "no length": b"\x00\x00\x00",
    "shorter than the minimum": PADDED[:-1],
    "longer than its class": PADDED + b"\x00",
    "the next class": PADDED + bytes(16),
    "zeros that are not": PADDED[:-1] + b"\x01",
    "a bit after the body": PADDED[:8] + b"\x80" + PADDED[9:],
    "a length past the end": (253).to_bytes(4, "big") + bytes(252),
    "a length of 2^32 - 1": b"\xff\xff\xff\xff" + bytes(252),
    "a body in a class too large": b"\x00\x00\x00\x04body" + bytes(264),
}


@pytest.mark.parametrize("padded", WRONG.values(), ids=WRONG.keys())
def test_every_other_form_refuses(padded: bytes) -> None:
    assert unpad(PADDED) == b"body"
    with pytest.raises(NotAuthenticError, match="padding"):
        unpad(padded)


@given(st.binary(max_size=600))
def test_any_bytes_are_the_one_form_or_refuse(data: bytes) -> None:
    try:
        body = unpad(data)
    except NotAuthenticError:
        return
    assert pad(body) == data
