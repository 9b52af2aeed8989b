"""The parser of what a broker says: the same commands however the bytes were cut; noise is the end."""

import itertools
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transport.nats_parser import MAX_INFO, MAX_LINE, BrokenError, NatsParser

LIMIT = 1000
Event = tuple[object, ...]


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_message(self, sid: int, subject: bytes, reply: bytes, payload: memoryview, headers: bytes) -> None:
        self.events.append((sid, subject, reply, bytes(payload), headers))

    def on_ping(self) -> None:
        self.events.append(("ping",))

    def on_pong(self) -> None:
        self.events.append(("pong",))

    def on_error(self, text: str) -> None:
        self.events.append(("error", text))


token = st.from_regex(rb"[a-zA-Z0-9_$.-]{1,20}", fullmatch=True)
payload = st.binary(max_size=200)


@st.composite
def commands(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    kind = draw(st.sampled_from(["msg", "hmsg", "ping", "pong", "ok", "err", "info"]))
    if kind in ("msg", "hmsg"):
        subject, reply, body = draw(token), draw(st.one_of(st.just(b""), token)), draw(payload)
        sid = draw(st.integers(0, 10**6))
        names = b" ".join(filter(None, (subject, b"%d" % sid, reply)))
        if kind == "msg":
            said = b"MSG %s %d\r\n%s\r\n" % (names, len(body), body)
            return said, [(sid, subject, reply, body, b"")]
        head = draw(payload)
        sizes = b"%d %d" % (len(head), len(head) + len(body))
        return b"HMSG %s %s\r\n%s%s\r\n" % (names, sizes, head, body), [(sid, subject, reply, body, head)]
    others: dict[str, tuple[bytes, list[Event]]] = {
        "ping": (b"PING\r\n", [("ping",)]),
        "pong": (b"PONG \r\n", [("pong",)]),
        "ok": (b"+OK\r\n", []),
        "err": (b"-ERR 'Something Else'\r\n", [("error", "'something else'")]),
        "info": (b'INFO {"a":1} \r\n', []),
    }
    return others[kind]


@given(said=st.lists(commands(), max_size=8), cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_commands_are_the_same_however_the_bytes_were_cut(
    said: list[tuple[bytes, list[Event]]], cuts: list[int]
) -> None:
    stream = b"".join(each for each, _ in said)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    heard = Heard()
    parser = NatsParser(heard, LIMIT)
    for start, end in pairwise(places):
        parser.feed(stream[start:end])
    assert heard.events == [event for _, events in said for event in events]


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_any_bytes_are_parsed_or_break(pieces: list[bytes]) -> None:
    parser = NatsParser(Heard(), LIMIT)
    try:
        for piece in pieces:
            parser.feed(piece)
    except BrokenError:
        return
    assert parser.held <= LIMIT + 2 * MAX_LINE


@pytest.mark.parametrize(
    "noise",
    [
        b"garbage\r\n",
        b"\r\n",
        b"MSG\r\n",
        b"MSG a 1 -1\r\n",
        b"MSG a 1 1\r\nxx\r\n",
        b"MSG a 1 1001\r\n",
        b"HMSG a 1 5 4\r\n",
        b"MSG a \xd9\xa3 1\r\nx\r\n",
        b"x" * (MAX_LINE + 1),
        b"INFO 5 5\r\n",
        b"msg a 1 1\r\nx\r\n",
    ],
)
def test_what_is_no_command_breaks_the_connection(noise: bytes) -> None:
    heard = Heard()
    parser = NatsParser(heard, LIMIT)
    with pytest.raises(BrokenError):
        parser.feed(noise)
    assert heard.events == []
    assert parser.held == 0
    assert parser.room


def test_noise_that_fills_the_buffer_leaves_room_to_read_into() -> None:
    parser = NatsParser(Heard(), LIMIT)
    room = parser.room
    room[:] = b"x" * len(room)
    with pytest.raises(BrokenError):
        parser.took(len(room))
    assert len(parser.room) == len(room)


@given(info=st.integers(0, MAX_INFO - 100), sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=5))
@example(info=MAX_INFO - 100, sizes=[1])
@settings(deadline=None, max_examples=20)
def test_a_line_in_pieces_is_searched_once_and_read_as_if_it_were_whole(info: int, sizes: list[int]) -> None:
    heard = Heard()
    parser = NatsParser(heard, LIMIT)
    parser._buffer = searched = Searched(parser._buffer)
    parser._view = parser.room = memoryview(searched)
    stream = b'INFO {"a":"%s"}\r\nPING\r\n' % (b"x" * info)
    pieces = itertools.cycle(sizes)
    at = count = 0
    while at < len(stream):
        size = next(pieces)
        parser.feed(stream[at : at + size])
        at, count = at + size, count + 1
    assert heard.events == [("ping",)]
    assert searched.bytes <= len(stream) + 2 * count


class Searched(bytearray):
    """Counts what is searched."""

    bytes = 0

    def find(self, what: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(what, start, end)
        self.bytes += (end if found < 0 else found) - start
        return found
