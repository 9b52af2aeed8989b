"""Results: for whoever holds the reply key, about one task, each under a key of its own."""

import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import PeerError, Reason, UsageError
from schemas.limits import MAX_BODY
from sealing.context import Mesh
from sealing.errors import NotAuthenticError, SealingError
from sealing.frames import RESULT_HEADER
from sealing.results import (
    CLIENT_EPOCH,
    ResultHeader,
    client_reply_key,
    open_result,
    parse_header,
    role_reply_key,
    seal_result,
)
from tests.sealing.world import MESH, OTHER_MESH, SIV_MESH, flipped

KEY = os.urandom(32)
HEADER = ResultHeader(os.urandom(16), 7, os.urandom(16), os.urandom(16))
FRAME = seal_result(MESH, KEY, HEADER, b"result")


def refuses(frame: bytes, key: bytes = KEY, mesh: Mesh = MESH) -> Reason:
    with pytest.raises(PeerError) as refusal:
        open_result(mesh, key, frame)
    return refusal.value.reason


@pytest.mark.parametrize("mesh", [MESH, SIV_MESH], ids=["GCM", "GCM-SIV"])
def test_the_submitter_opens_it_by_the_key_that_the_task_carried(mesh: Mesh) -> None:
    frame = seal_result(mesh, KEY, HEADER, b"result")
    assert parse_header(mesh, frame) == HEADER
    assert open_result(mesh, KEY, frame) == b"result"


def test_another_reply_key_refuses() -> None:
    assert refuses(FRAME, key=bytes(32)) is Reason.NOT_AUTHENTIC


@pytest.mark.parametrize(
    "other",
    [
        replace(HEADER, token=bytes(16)),
        replace(HEADER, epoch=8),
        replace(HEADER, task_id=bytes(16)),
        replace(HEADER, salt=bytes(16)),
    ],
    ids=["token", "epoch", "task id", "salt"],
)
def test_a_result_is_of_one_task_under_one_epoch(other: ResultHeader) -> None:
    packed = RESULT_HEADER.pack(1, 4, other.token, other.epoch, other.task_id, other.salt)
    moved = packed + FRAME[RESULT_HEADER.size :]
    assert parse_header(MESH, moved) == other
    assert refuses(moved) is Reason.NOT_AUTHENTIC


@settings(max_examples=200)
@given(st.integers(0, len(FRAME) * 8 - 1))
def test_no_bit_can_change(bit: int) -> None:
    refuses(flipped(FRAME, bit))


@given(st.binary(max_size=400))
def test_any_bytes_are_no_result(data: bytes) -> None:
    for frame in (data, b"\x01\x04" + data):
        with pytest.raises(SealingError):
            open_result(MESH, KEY, frame)


def test_another_mesh_suite_or_kind_refuses() -> None:
    assert refuses(FRAME, mesh=OTHER_MESH) is Reason.NOT_AUTHENTIC
    assert refuses(FRAME, mesh=SIV_MESH) is Reason.UNSUPPORTED_SUITE
    for kind in (0, 1, 2, 3, 5):
        with pytest.raises(NotAuthenticError):
            parse_header(MESH, FRAME[:1] + bytes([kind]) + FRAME[2:])


def test_two_results_of_one_task_have_two_keys() -> None:
    again = seal_result(MESH, KEY, replace(HEADER, salt=os.urandom(16)), b"result")
    assert again[RESULT_HEADER.size :] != FRAME[RESULT_HEADER.size :]
    assert open_result(MESH, KEY, again) == b"result"


def test_a_reply_key_is_of_one_task_epoch_and_submitter_and_comes_again_after_a_restart() -> None:
    stored, token, task_id = os.urandom(32), os.urandom(16), os.urandom(16)
    keys = [
        client_reply_key(MESH, stored, token, task_id),
        client_reply_key(MESH, bytes(32), token, task_id),
        client_reply_key(MESH, stored, bytes(16), task_id),
        client_reply_key(MESH, stored, token, bytes(16)),
        client_reply_key(OTHER_MESH, stored, token, task_id),
        # A role's is never a client's, though secret and epoch were the same.
        role_reply_key(MESH, stored, token, CLIENT_EPOCH, task_id),
        role_reply_key(MESH, stored, token, 1, task_id),
        role_reply_key(MESH, stored, bytes(16), 1, task_id),
        role_reply_key(MESH, stored, token, 1, bytes(16)),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == client_reply_key(MESH, stored, token, task_id)
    assert keys[6] == role_reply_key(MESH, stored, token, 1, task_id)


def test_the_largest_result_arrives_and_a_larger_one_is_the_callers_to_split() -> None:
    assert len(open_result(MESH, KEY, seal_result(MESH, KEY, HEADER, bytes(MAX_BODY)))) == MAX_BODY
    with pytest.raises(UsageError, match="split them"):
        seal_result(MESH, KEY, HEADER, bytes(MAX_BODY + 1))
