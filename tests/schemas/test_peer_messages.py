"""What peers say in a session: read as it was written, or refused; several in one frame."""

from typing import cast

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.errors import MalformedError
from schemas.peer import (
    MAX_MESSAGES,
    Call,
    Cancel,
    Confirm,
    Parts,
    PeerMessage,
    Reopen,
    Reply,
    Send,
    bin_parts,
    decode_messages,
    encode_message,
    encode_with,
    join_messages,
    joined,
)

request_id = st.binary(min_size=16, max_size=16)
messages = st.one_of(
    st.just(Confirm()),
    st.builds(
        Call,
        request_id,
        st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
        st.binary(max_size=300),
        st.integers(0, 2**63 - 1),
        st.none() | request_id,
    ),
    st.builds(Reply, request_id, st.text(max_size=20), st.text(max_size=40), st.binary(max_size=300)),
    st.builds(Cancel, request_id),
    st.builds(Send, st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True), st.binary(max_size=300)),
    st.builds(Reopen, st.text(max_size=128), st.binary(max_size=300)),
)


def body(said: list[PeerMessage]) -> bytes:
    return join_messages([encode_message(each) for each in said])


@given(st.lists(messages, min_size=1, max_size=20))
def test_messages_are_read_as_they_were_written(said: list[PeerMessage]) -> None:
    assert decode_messages(body(said)) == tuple(said)


@given(messages, st.sampled_from([0, 1, 255, 256, 4096, 65535, 65536, 200_000]), st.integers(0, 9))
def test_a_payload_in_parts_makes_the_same_message_as_one_within(
    message: PeerMessage, size: int, cut: int
) -> None:
    assume(isinstance(message, Call | Reply))
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    field = "arguments" if isinstance(message, Call) else "value"
    empty = cast("Call | Reply", replace(message, **{field: b""}))
    whole = encode_message(replace(message, **{field: payload}))
    assert joined(encode_with(empty, payload)) == whole
    parts = encode_with(empty, Parts(payload[:cut], payload[cut:]))
    assert joined(parts) == whole
    assert len(parts) == len(whole)
    assert joined(bin_parts(payload)) == msgspec.msgpack.encode(payload)


def test_large_payloads_are_views_and_small_calls_keep_nothing_of_a_large_frame() -> None:
    large, small = bytes(100_000), b"small"
    calls = [Call(bytes(16), "tool", payload, 1, None) for payload in (large, small)]
    first, second = decode_messages(body([*calls]))
    assert isinstance(first, Call)
    assert isinstance(second, Call)
    assert isinstance(first.arguments, memoryview)
    assert isinstance(second.arguments, bytes)
    assert (bytes(first.arguments), second.arguments) == (large, small)


@given(st.lists(messages, min_size=1, max_size=4), st.integers(0, 10**6), st.integers(0, 7))
def test_a_changed_bit_gives_other_messages_or_a_refusal(
    said: list[PeerMessage], position: int, bit: int
) -> None:
    data = bytearray(body(said))
    data[position % len(data)] ^= 1 << bit
    try:
        read = decode_messages(bytes(data))
    except MalformedError:
        return
    assert read != tuple(said)


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_malformed(data: bytes) -> None:
    try:
        decode_messages(data)
    except MalformedError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"",
        body([]),
        body([Confirm()] * (MAX_MESSAGES + 1)),
        body([Confirm()]) + b"\x00",
        msgspec.msgpack.encode([[9]]),
        msgspec.msgpack.encode([[3, b"short"]]),
        msgspec.msgpack.encode([[3, b"q" * 16, "more"]]),
        msgspec.msgpack.encode([[1, b"q" * 16, "n" * 65, b"", 1, None]]),
        msgspec.msgpack.encode([[1, b"q" * 16, "tool", b"", -1, None]]),
        b"\x91" * 5000,
    ],
    ids=["none", "empty", "too many", "more", "kind", "short", "fields", "name", "negative", "nested"],
)
def test_what_no_peer_says_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_messages(data)


def test_no_payload_is_in_a_representation() -> None:
    assert "secret" not in repr(Call(bytes(16), "tool", b"secret", 1, None))
