"""Frames of an established session, in the hands of whoever carries them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import PeerError, Reason, UsageError
from schemas.limits import MAX_BODY, MAX_MESSAGE, SESSION_WINDOW
from sealing import frames, session
from sealing.context import Mesh
from sealing.errors import NotAuthenticError, SealingError
from sealing.frames import SESSION_HEADER
from sealing.session import Session, session_id_of
from tests.sealing.world import MESH, SIV_MESH, flipped, pair


def refuses(end: Session, frame: bytes) -> Reason:
    with pytest.raises(PeerError) as refusal:
        end.open(frame)
    return refusal.value.reason


@pytest.mark.parametrize("mesh", [MESH, SIV_MESH], ids=["GCM", "GCM-SIV"])
def test_both_directions_carry_what_they_are_given(mesh: Mesh) -> None:
    made = pair(mesh=mesh).confirm()
    for body in (b"", b"x", bytes(100_000)):
        assert made.responder.open(made.initiator.seal(body)) == body
        assert made.initiator.open(made.responder.seal(body)) == body


def test_a_frame_shows_suite_kind_receivers_id_and_counter_and_a_size_of_few() -> None:
    made = pair(ids=(b"initiatr", b"responds"))
    first, second = made.initiator.seal(b"a"), made.initiator.seal(b"longer")
    assert SESSION_HEADER.unpack_from(first) == (1, 1, b"responds", 0)
    assert SESSION_HEADER.unpack_from(second) == (1, 1, b"responds", 1)
    assert session_id_of(first) == b"responds"
    assert len(first) == len(second) == SESSION_HEADER.size + 256 + 16


@settings(max_examples=30)
@given(st.randoms(use_true_random=False), st.integers(1, 80))
def test_any_order_within_the_window_is_delivered_each_once(order: random.Random, count: int) -> None:
    made = pair()
    frames = [made.initiator.seal(bytes([number])) for number in range(count)]
    order.shuffle(frames)
    assert sorted(made.responder.open(frame) for frame in frames) == [bytes([n]) for n in range(count)]
    for frame in frames:
        assert refuses(made.responder, frame) is Reason.REPLAYED


def test_what_is_older_than_the_window_is_a_replay() -> None:
    made = pair()
    frames = [made.initiator.seal(b"") for _ in range(SESSION_WINDOW + 2)]
    made.responder.open(frames[-1])
    assert refuses(made.responder, frames[1]) is Reason.REPLAYED
    assert made.responder.open(frames[2]) == b""


@settings(max_examples=40)
@given(st.data())
def test_no_bit_of_a_frame_can_change_and_no_refused_frame_changes_the_session(data: st.DataObject) -> None:
    made = pair().confirm()
    end, frame = made.responder, made.initiator.seal(b"body")
    for bit in data.draw(st.lists(st.integers(0, len(frame) * 8 - 1), max_size=20)):
        refuses(end, flipped(frame, bit))
    # Had a forged counter moved the window, or a forged frame marked it, this would be a replay.
    assert end.open(frame) == b"body"


def test_no_byte_of_a_header_can_change() -> None:
    made = pair().confirm()
    frame = made.initiator.seal(b"body")
    for bit in range(SESSION_HEADER.size * 8):
        refuses(made.responder, flipped(frame, bit))
    assert made.responder.open(frame) == b"body"


def test_a_forged_counter_moves_no_window() -> None:
    made = pair().confirm()
    frame = made.initiator.seal(b"body")
    far = SESSION_HEADER.pack(1, 1, session_id_of(frame), 2**64 - 1) + frame[SESSION_HEADER.size :]
    with pytest.raises(NotAuthenticError):
        made.responder.open(far)
    assert made.responder.open(frame) == b"body"


@settings(max_examples=60)
@given(st.binary(max_size=400))
def test_any_bytes_are_no_frame(data: bytes) -> None:
    made = PAIR
    for end in (made.initiator, made.responder):
        for frame in (data, b"\x01\x01" + end.own_id + data):
            with pytest.raises(SealingError):
                end.open(frame)


PAIR = pair().confirm()


def test_a_frame_of_another_length_refuses() -> None:
    frame = PAIR.initiator.seal(b"body")
    for changed in (frame[:-1], frame + b"\x00", frame[:17], frame[:34], b"", frame[: SESSION_HEADER.size]):
        assert refuses(PAIR.responder, changed) is Reason.NOT_AUTHENTIC
    assert refuses(PAIR.responder, frame + bytes(MAX_MESSAGE)) is Reason.TOO_LARGE


@pytest.mark.parametrize("suite", [0, 2, 3, 255])
def test_another_suite_byte_refuses(suite: int) -> None:
    frame = PAIR.initiator.seal(b"body")
    assert refuses(PAIR.responder, bytes([suite]) + frame[1:]) is Reason.UNSUPPORTED_SUITE


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 255])
def test_another_kind_of_frame_is_none_of_a_session(kind: int) -> None:
    frame = PAIR.initiator.seal(b"body")
    refuses(PAIR.responder, frame[:1] + bytes([kind]) + frame[2:])


def test_a_frame_of_another_session_is_unknown_and_with_the_same_id_not_authentic() -> None:
    ids = (b"initiatr", b"responds")
    one, other, elsewhere = pair(ids=ids), pair(ids=ids), pair()
    frame = one.initiator.seal(b"body")
    assert refuses(elsewhere.responder, frame) is Reason.SESSION_UNKNOWN
    assert refuses(other.responder, frame) is Reason.NOT_AUTHENTIC
    assert not other.responder.confirmed


def test_a_frame_sent_back_is_not_authentic_even_where_both_chose_one_id() -> None:
    made = pair(ids=(b"the same", b"the same")).confirm()
    assert refuses(made.initiator, made.initiator.seal(b"mine")) is Reason.NOT_AUTHENTIC
    made.responder.seal(b"")  # a counter that the responder's window has not seen
    assert refuses(made.responder, made.responder.seal(b"mine")) is Reason.NOT_AUTHENTIC
    assert refuses(PAIR.initiator, PAIR.initiator.seal(b"mine")) is Reason.SESSION_UNKNOWN


@pytest.mark.parametrize("padded", [b"", b"\x00\x00\x00\x04body", b"\x00\x00\x00\x04body" + b"\x01" * 248])
def test_an_authentic_frame_of_another_padding_refuses(
    padded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pair().confirm()
    with monkeypatch.context() as patch:
        patch.setattr(frames, "pad_sized", lambda *_: padded)
        frame = made.initiator.seal(b"body")
    assert refuses(made.responder, frame) is Reason.NOT_AUTHENTIC
    assert made.responder.open(made.initiator.seal(b"body")) == b"body"


def test_a_frame_is_bound_to_its_subject() -> None:
    made = pair().confirm()
    frame = made.initiator.seal(b"body")
    subject = made.responder._receive_subject
    made.responder._receive_subject = subject + b"0"
    assert refuses(made.responder, frame) is Reason.NOT_AUTHENTIC
    made.responder._receive_subject = subject
    assert made.responder.open(frame) == b"body"


def test_a_session_says_that_it_is_exhausted_while_replies_still_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SESSION_MAX_FRAMES", 8)
    made = pair()
    for number in range(8):
        assert made.initiator.exhausted is (number >= 4)
        made.responder.open(made.initiator.seal(b""))
    with pytest.raises(NotAuthenticError, match="not open"):
        made.initiator.seal(b"")


def test_bytes_exhaust_a_session_as_frames_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SESSION_MAX_BYTES", 1_000)
    made = pair()
    made.initiator.seal(bytes(499))
    before = made.initiator.exhausted
    made.initiator.seal(bytes(1))
    assert (before, made.initiator.exhausted) == (False, True)
    made.initiator.seal(bytes(500))
    with pytest.raises(NotAuthenticError, match="not open"):
        made.initiator.seal(b"")


def test_the_largest_body_arrives_and_a_larger_one_is_the_callers_to_split() -> None:
    made = pair().confirm()
    frame = made.initiator.seal(bytes(MAX_BODY))
    assert len(frame) < MAX_MESSAGE - 1_024
    assert len(made.responder.open(frame)) == MAX_BODY
    with pytest.raises(UsageError, match="split them"):
        made.initiator.seal(bytes(MAX_BODY + 1))
    assert made.responder.open(made.initiator.seal(b"after")) == b"after"


def test_an_erased_session_opens_and_seals_nothing() -> None:
    made = pair().confirm()
    frame = made.responder.seal(b"body")
    made.initiator.erase()
    assert refuses(made.initiator, frame) is Reason.NOT_AUTHENTIC
    with pytest.raises(NotAuthenticError):
        made.initiator.seal(b"body")


def test_a_session_shows_its_peer_and_no_key() -> None:
    assert repr(PAIR.initiator) == f"Session(peer={PAIR.initiator.peer.hex()[:16]}, initiator=True)"
