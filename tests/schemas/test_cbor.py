"""The CBOR reader: one value has one encoding, and nothing of a stranger's runs."""

import math
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import cbor
from schemas.errors import MalformedError
from tests.schemas.strategies import PLAIN

REFUSED = {
    # Nothing, too little, too much
    "empty": "",
    "cut in an argument": "19ff",
    "cut in an eight-byte argument": "1b00000001",
    "cut in a byte string": "43aabb",
    "cut in a text": "626f",
    "cut in an array": "8301",
    "cut in a map": "a10a",
    "trailing byte": "0000",
    "trailing break": "00ff",
    "lone break": "ff",
    # Lengths that promise what is not there
    "byte string of 2^64 - 1": "5bffffffffffffffff",
    "text of 2^63": "7b8000000000000000",
    "array of 2^64 - 1": "9bffffffffffffffff",
    "map of 2^32": "bb0000000100000000",
    # Not the shortest form
    "23 in one byte more": "1817",
    "255 in two": "1900ff",
    "65535 in four": "1a0000ffff",
    "2^32 - 1 in eight": "1b00000000ffffffff",
    "-1 in one byte more": "3800",
    "length of a byte string": "580100",
    "length of a text": "780161",
    "length of an array": "980100",
    "length of a map": "b8010001",
    # Reserved and indefinite
    "argument 28": "1c",
    "argument 30": "5e",
    "indefinite byte string": "5f4100ff",
    "indefinite text": "7f6161ff",
    "indefinite array": "9f00ff",
    "indefinite map": "bf0000ff",
    # Tags, whatever they mean
    "bignum": "c249010000000000000000",
    "negative bignum": "c349010000000000000000",
    "date and time": "c074323031332d30332d32315432303a30343a30305a",
    "decimal": "c48221196ab3",
    "big float that takes for ever": "c5821b00000000ffffffff03",
    "regular expression": "d8236161",
    "fraction": "d81e820102",
    "shared value": "d81c8100",
    "a list that holds itself": "d81c81d81d00",
    "set": "d9010283010203",
    "string reference": "d90100826161d81900",
    "self-described": "d9d9f700",
    "unknown tag": "d9ffff00",
    "COSE_Sign1": "d284404040" + "40",
    # Floats and simple values
    "half": "f93c00",
    "single": "fa47c35000",
    "double": "fb3ff199999999999a",
    "not a number": "f97e00",
    "infinity": "f97c00",
    "undefined": "f7",
    "simple value 0": "e0",
    "simple value 255": "f8ff",
    "false in two bytes": "f814",
    # Map keys
    "the same key twice": "a201000101",
    "the same text key twice": "a2616100616101",
    "keys out of order": "a202000100",
    "longer key first": "a2626161006162 00".replace(" ", ""),
    "true as a key": "a1f500",
    "null as a key": "a1f600",
    "bytes as a key": "a1416100",
    "text and an integer as keys": "a3012021f5616180",
    "a shorter key after a longer one": "a2186401" + "20f5",
    "an array as a key": "a18000",
    "a map as a key": "a1a000",
    "two keys that are not numbers": "a2f97e0000f97e0001",
    # Text
    "not UTF-8": "61ff",
    "overlong": "62c080",
    "surrogate": "63eda080",
}


@pytest.mark.parametrize("encoded", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_deterministic_plain_cbor_is_malformed(encoded: str) -> None:
    with pytest.raises(MalformedError):
        cbor.read(bytes.fromhex(encoded))


ACCEPTED = {
    "00": 0,
    "17": 23,
    "1818": 24,
    "18ff": 255,
    "190100": 256,
    "1a00010000": 65_536,
    "1b0000000100000000": 2**32,
    "1bffffffffffffffff": 2**64 - 1,
    "20": -1,
    "3bffffffffffffffff": -(2**64),
    "40": b"",
    "62c3bc": "ü",
    "80": [],
    "8201820203": [1, [2, 3]],
    "a0": {},
    "a20120386302": {1: -1, -100: 2},
    "a2616101616202": {"a": 1, "b": 2},
    "f4": False,
    "f6": None,
}


@pytest.mark.parametrize(("encoded", "value"), ACCEPTED.items())
def test_examples_of_the_rfc_are_read(encoded: str, value: object) -> None:
    read = cbor.read(bytes.fromhex(encoded))
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("opening", ["81", "a100"], ids=["arrays", "maps"])
def test_nesting_ends_before_the_interpreter_does(opening: str) -> None:
    deepest = bytes.fromhex(opening * cbor.MAX_DEPTH + "00")
    assert cbor2.dumps(cbor.read(deepest), canonical=True) == deepest
    for depth in (cbor.MAX_DEPTH + 1, 100_000):
        with pytest.raises(MalformedError, match="nested"):
            cbor.read(bytes.fromhex(opening * depth + "00"))


@pytest.mark.parametrize("shape", [[0] * 9, [[]] * 9, [{}] * 9, [[0] * 3] * 3, {0: 0, 1: [0] * 4}])
def test_work_is_bounded_wherever_the_items_are(shape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = cbor2.dumps(shape, canonical=True)
    assert cbor.read(encoded) == shape
    monkeypatch.setattr(cbor, "MAX_ITEMS", 5)
    with pytest.raises(MalformedError, match="too many items"):
        cbor.read(encoded)


def test_maps_as_keys_of_maps_cost_nothing() -> None:
    # A general decoder takes time exponential in this depth: 61 bytes would stop a coordinator.
    with pytest.raises(MalformedError):
        cbor.read(bytes.fromhex("a1" * 30 + "00" * 31))


@given(PLAIN)
def test_every_plain_value_is_read_as_it_was_written(value: Any) -> None:
    assert cbor.read(cbor2.dumps(value, canonical=True)) == value


@given(st.binary(max_size=64))
@example(bytes.fromhex("a1f500"))
def test_any_bytes_are_malformed_or_the_only_encoding_of_their_value(data: bytes) -> None:
    try:
        value = cbor.read(data)
    except MalformedError:
        return
    assert cbor2.dumps(value, canonical=True) == data


@given(PLAIN, st.data())
def test_one_bit_changes_the_value_or_refuses(value: Any, data: st.DataObject) -> None:
    encoded = bytearray(cbor2.dumps(value, canonical=True))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        other = cbor.read(bytes(encoded))
    except MalformedError:
        return
    # `repr` tells True from 1.
    assert repr(other) != repr(value)


@given(PLAIN, st.floats() | st.just(math.nan))
def test_a_float_anywhere_refuses(value: Any, number: float) -> None:
    with pytest.raises(MalformedError):
        cbor.read(cbor2.dumps([value, number], canonical=True))
