"""The classifier: every byte has a name that the table knows, or there is an error."""

import base64
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.tap import Frame, Unclassified, classify
from schemas import codec
from schemas.messages import Hello
from schemas.scheduling import Assign, Load, Status, TaskHints, TaskMessage
from schemas.subjects import TABLE, Kind, Row, subject
from sealing.frames import (
    GROUP_HEADER,
    KIND_GROUP,
    KIND_RESULT,
    KIND_SESSION,
    KIND_TASK,
    RESULT_HEADER,
    SESSION_HEADER,
    TASK_HEADER,
)
from sealing.padding import padme

MESH = bytes(range(32))
TOKEN, HANDLE, ID = b"t" * 16, b"h" * 76, b"i" * 16


CLEARTEXT = b"The patient was seen on Monday; her doctor wrote that nothing is certain. " * 20
ENDS_SEALED = (Kind.BOOT, Kind.INBOX, Kind.ACCEPT, Kind.SESSION, Kind.BEACON, Kind.RESULT)


def zeros_behind(text: bytes) -> bytes:
    """Return a short text with padding, as what is sealed begins."""
    return text[:40] + bytes(472)


def sealed(size: int = 300) -> bytes:
    return os.urandom(padme(size) + 16)


GROUP = GROUP_HEADER.pack(1, KIND_GROUP, TOKEN, 7, HANDLE, 3)
TASK = codec.encode(
    TaskMessage(
        TaskHints(b"c" * 16, 5, 1_900_000_000_000, 10, b"a" * 16),
        TASK_HEADER.pack(1, KIND_TASK, TOKEN, 7, HANDLE, 3, ID) + sealed(),
    )
)
GENUINE: dict[Kind, bytes] = {
    Kind.HELLO: codec.encode(Hello(1, MESH, b"n" * 32)),
    Kind.BOOT: os.urandom(1088 + 32) + sealed(),
    Kind.INBOX: GROUP + sealed(),
    Kind.ACCEPT: os.urandom(1088 + 32) + sealed(2000),
    Kind.SESSION: SESSION_HEADER.pack(1, KIND_SESSION, b"s" * 8, 9) + sealed(70_000),
    Kind.BEACON: GROUP + sealed(),
    Kind.TASK: TASK,
    Kind.LOAD: codec.encode(Load(TOKEN, (b"c" * 16,), 3, 1, (Status(ID, "taken"),), False)),
    Kind.ASSIGN: codec.encode(Assign(TASK, False)),
    Kind.RESULT: RESULT_HEADER.pack(1, KIND_RESULT, TOKEN, 0, ID, b"x" * 16) + sealed(),
}


def frame(kind: Kind, body: bytes, headers: bytes = b"") -> Frame:
    return Frame("HPUB" if headers else "PUB", subject=subject(MESH, kind, TOKEN), headers=headers, body=body)


@pytest.mark.parametrize("row", [row for row in TABLE if row.kind in GENUINE], ids=lambda row: row.kind.value)
def test_a_genuine_message_shows_what_the_table_lists(row: Row) -> None:
    sight = classify(frame(row.kind, GENUINE[row.kind]))
    assert (sight.kind, sight.sealing) == (row.kind.value, row.sealing.value)
    assert set(sight.clear) == set(row.clear)


@pytest.mark.parametrize("kind", [kind for kind in GENUINE if kind not in (Kind.HELLO, Kind.LOAD)])
def test_a_byte_more_or_less_is_noticed(kind: Kind) -> None:
    for body in (GENUINE[kind] + b"\0", GENUINE[kind][:-1], b"", GENUINE[kind][1:]):
        with pytest.raises(Unclassified):
            classify(frame(kind, body))


@pytest.mark.parametrize("kind", Kind)
@given(st.text(min_size=1, max_size=400))
def test_cleartext_is_no_ciphertext(kind: Kind, text: str) -> None:
    with pytest.raises(Unclassified):
        classify(frame(kind, text.encode("utf-8", "surrogatepass") * (300 // len(text) + 1)))


@pytest.mark.parametrize(
    "headers",
    [
        b"NATS/1.0\r\nX-Comment: a secret\r\n\r\n",
        b"NATS/1.0\r\nNats-Msg-Id: " + b"a" * 100 + b"\r\n\r\n",
        b"NATS/1.0\r\nNats-Msg-Id: jane\r\n\r\n",
        b"a secret\r\nNats-Msg-Id: " + b"0f" * 16 + b"\r\n\r\n",
        b"NATS/1.0\r\nNats-Msg-Id: " + b"0f" * 16 + b"\r\nNats-Msg-Id: " + b"0f" * 16 + b"\r\n\r\n",
    ],
)
def test_headers_that_nobody_needs_are_noticed(headers: bytes) -> None:
    with pytest.raises(Unclassified):
        classify(frame(Kind.TASK, TASK, headers))


def test_a_message_id_is_for_streams_alone() -> None:
    headers = b"NATS/1.0\r\nNats-Msg-Id: " + b"0f" * 16 + b"-1\r\n\r\n"
    assert classify(frame(Kind.TASK, TASK, headers)).clear["message id"] == "0f" * 16 + "-1"
    with pytest.raises(Unclassified):
        classify(frame(Kind.BEACON, GENUINE[Kind.BEACON], headers))


def sealed_parts() -> list[tuple[Kind, int]]:
    """Return the kinds whose bodies end in ciphertext, with its size."""
    return [
        (kind, classify(frame(kind, body)).sealed) for kind, body in GENUINE.items() if kind in ENDS_SEALED
    ]


@pytest.mark.parametrize(("kind", "size"), sealed_parts())
@pytest.mark.parametrize(
    "cover", [lambda text: text, base64.b64encode, zeros_behind], ids=["plain", "base64", "padded"]
)
@given(place=st.floats(0, 1))
def test_cleartext_of_a_ciphertexts_size_is_noticed(
    kind: Kind, size: int, cover: Callable[[bytes], bytes], place: float
) -> None:
    # As if sealing were switched off, or a part of the body left out of it.
    body = bytearray(GENUINE[kind])
    planted = cover(CLEARTEXT)[:512]
    start = len(body) - size + int(place * max(size - len(planted), 0))
    body[start : start + len(planted)] = planted[: len(body) - start]
    with pytest.raises(Unclassified):
        classify(frame(kind, bytes(body)))


@pytest.mark.parametrize(
    "reply", ["somewhere.else", "_INBOX.a name", "_INBOX.x.r.1", "$JS.ACK.a.b.1.1.1.1.1"]
)
@pytest.mark.parametrize("kind", GENUINE)
def test_an_answer_is_wanted_only_where_the_transport_listens(kind: Kind, reply: str) -> None:
    with pytest.raises(Unclassified):
        classify(replace(frame(kind, GENUINE[kind]), reply=reply))


@pytest.mark.parametrize(
    "name",
    ["sb", "sb.x.hello.00", "sb." + "00" * 16 + ".gossip.00", "sb." + "00" * 16 + ".hello.text", "foo.bar"],
)
def test_a_subject_of_nobodys_is_noticed(name: str) -> None:
    with pytest.raises(Unclassified):
        classify(Frame("PUB", subject=name, body=GENUINE[Kind.HELLO]))
