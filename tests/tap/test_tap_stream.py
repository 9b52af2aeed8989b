"""The splitter: the same frames whatever the pieces, the same bytes back, and one error for the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.tap import Frame, FrameError, Splitter, Towards
from lab.tap.stream import MAX_LINE, MAX_PAYLOAD

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
BYTES = st.binary(max_size=300)
LINES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(
    lambda text: text.strip().encode()
)


def controls(*verbs: str) -> st.SearchStrategy[Frame]:
    return st.builds(Frame, st.sampled_from(verbs), LINES)


def published() -> st.SearchStrategy[Frame]:
    replies = st.one_of(st.just(""), WORDS)
    plain = st.builds(Frame, st.just("PUB"), subject=WORDS, reply=replies, body=BYTES)
    return plain | st.builds(Frame, st.just("HPUB"), subject=WORDS, reply=replies, headers=BYTES, body=BYTES)


def delivered() -> st.SearchStrategy[Frame]:
    sids = st.integers(1, 10**9).map(str)
    replies = st.one_of(st.just(""), WORDS)
    plain = st.builds(Frame, st.just("MSG"), subject=WORDS, sid=sids, reply=replies, body=BYTES)
    full = st.builds(
        Frame, st.just("HMSG"), subject=WORDS, sid=sids, reply=replies, headers=BYTES, body=BYTES
    )
    return plain | full


STREAMS = {
    Towards.BROKER: st.lists(controls("CONNECT", "SUB", "UNSUB", "PING", "PONG") | published(), max_size=8),
    Towards.PARTY: st.lists(controls("INFO", "PING", "PONG", "+OK", "-ERR") | delivered(), max_size=8),
}


@pytest.mark.parametrize("towards", Towards)
@given(data=st.data())
def test_any_pieces_of_a_stream_give_its_frames(towards: Towards, data: st.DataObject) -> None:
    frames = data.draw(STREAMS[towards])
    stream = b"".join(frame.encode() for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    splitter = Splitter(towards)
    found = [
        frame
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for frame in splitter.feed(stream[start:end])
    ]
    assert found == frames
    assert b"".join(frame.encode() for frame in found) == stream


@pytest.mark.parametrize("towards", Towards)
@given(st.lists(st.binary(max_size=100), max_size=5))
def test_any_bytes_are_frames_or_the_one_error(towards: Towards, pieces: list[bytes]) -> None:
    splitter = Splitter(towards)
    try:
        for piece in pieces:
            splitter.feed(piece)
    except FrameError:
        pass


def test_what_clients_write_with_two_blanks_is_read() -> None:
    (frame,) = Splitter(Towards.BROKER).feed(b"PUB a.b  5\r\nhello\r\n")
    assert (frame.subject, frame.reply, frame.body) == ("a.b", "", b"hello")


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n",
        b"MSG a 1 0\r\n\r\n",  # only a broker says that
        b"PUB a\r\n",
        b"PUB\r\n",
        b"PUB a b c 5\r\n",
        b"PUB a -5\r\n",
        b"PUB a 0x5\r\n",
        b"PUB a 99999999999999\r\n",
        b"PUB a %d\r\n" % (MAX_PAYLOAD + 1),
        b"HPUB a 9 5\r\n",
        b"PUB a 2\r\nlonger than it says\r\n",
        b"PUB \xff\xfe 0\r\n\r\n",
        b"\xff\r\n",
        b"x" * (MAX_LINE + 2),
    ],
)
def test_what_is_not_nats_is_refused(stream: bytes) -> None:
    with pytest.raises(FrameError):
        Splitter(Towards.BROKER).feed(stream)


def test_nothing_is_held_of_what_is_complete() -> None:
    splitter = Splitter(Towards.BROKER)
    for _ in range(100):
        assert len(splitter.feed(b"PUB a 3\r\nabc\r\nPING\r\n")) == 2
    assert not splitter._held
