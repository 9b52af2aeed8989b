"""Messages in and out of CBOR: every type, exactly, and nothing else in its place."""

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.codec import Document, Message
from schemas.errors import MalformedError
from schemas.messages import Body, Bytes16, Hello, MemberPackage, Name, TaskBody, Time
from tests.schemas.strategies import KINDS, of

TIME = codec.encode(Time(7))


def test_the_types_below_are_all_that_there_are() -> None:
    assert {"Hello", "Offer", "Policy", "Beacon", "Admission", "TaskMessage", "Evidence"} <= {
        kind.__name__ for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=12)
@given(data=st.data())
def test_every_message_is_read_as_it_was_written_and_with_one_bit_changed_is_another_or_malformed(
    kind: type[Message | Document], data: st.DataObject
) -> None:
    message = data.draw(of(kind))
    encoded = codec.encode(message)
    assert codec.decode(encoded, kind) == message
    assert codec.encode(codec.decode(encoded, kind)) == encoded
    changed = bytearray(encoded)
    changed[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        other = codec.decode(bytes(changed), kind)
    except MalformedError:
        return
    # A document's field that is absent has its default, so two encodings of it may mean one thing.
    assert other != message or issubclass(kind, Document)


@settings(max_examples=50)
@given(st.sampled_from(KINDS), st.binary(max_size=48))
def test_any_bytes_decode_or_are_malformed(kind: type[Message | Document], data: bytes) -> None:
    try:
        message = codec.decode(data, kind)
    except MalformedError:
        return
    assert isinstance(message, kind)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [7, 8],
        [-1],
        [2**63],
        ["7"],
        [b"\x07"],
        [True],
        [None],
        [[7]],
        {"time": 7},
        {0: 7},
        7,
        None,
    ],
    ids=repr,
)
def test_another_shape_is_not_the_message(fields: Any) -> None:
    assert codec.decode(TIME, Time) == Time(7)
    with pytest.raises(MalformedError, match="not a Time"):
        codec.decode(cbor2.dumps(fields, canonical=True), Time)


def test_text_is_never_bytes_nor_bytes_text() -> None:
    with pytest.raises(MalformedError):
        codec.decode(codec.encode([1, "m" * 32, b"n" * 32]), Hello)
    with pytest.raises(MalformedError):
        codec.decode(codec.encode([b"purpose", bytes(16), None]), Body)
    # A text that is the base64 of sixteen bytes is still text.
    with pytest.raises(MalformedError):
        codec.convert("AAAAAAAAAAAAAAAAAAAAAA==", Bytes16)


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_identifiers_have_one_length(length: int) -> None:
    with pytest.raises(MalformedError):
        codec.convert(bytes(length), Bytes16)


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "a\n", "\na", "ä", "a" * 65, "a/b", "a\x00"])
def test_a_name_is_lower_case_and_ends_where_it_ends(name: str) -> None:
    assert codec.convert("a.b-c_9", Name) == "a.b-c_9"
    with pytest.raises(MalformedError):
        codec.convert(name, Name)


def test_an_epoch_fits_its_header() -> None:
    package = codec.encode(MemberPackage("g", 2**32 - 1, bytes(32), 1, 2, 3))
    assert codec.decode(package, MemberPackage).epoch == 2**32 - 1
    with pytest.raises(MalformedError):
        codec.decode(codec.encode(MemberPackage("g", 2**32, bytes(32), 1, 2, 3)), MemberPackage)
    # What a worker packs into a result's header is a peer's number.
    task = TaskBody("c", bytes(16), 1, 2, bytes(32), 2**32, bytes(16), b"")
    with pytest.raises(MalformedError):
        codec.decode(codec.encode(task), TaskBody)


@settings(max_examples=60)
@given(st.sampled_from([kind for kind in KINDS if issubclass(kind, Message)]), st.data())
def test_no_message_shows_what_it_carries(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(of(kind))
    assert repr(message) == str(message) == f"{kind.__name__}(...)"
    assert message.__rich_repr__() == []


def test_an_error_text_holds_nothing_of_the_peer() -> None:
    secret = "do-not-log-me"
    for data in (codec.encode([secret, bytes(16), secret, secret]), codec.encode([secret]), secret.encode()):
        with pytest.raises(MalformedError) as refused:
            codec.decode(data, Body)
        assert secret not in str(refused.value) + repr(refused.value)
        assert secret not in str(refused.value.__cause__)
