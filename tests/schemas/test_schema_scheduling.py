"""The scheduler's messages: the task id is where the header says."""

import os

import pytest

from schemas import codec
from schemas.errors import MalformedError
from schemas.scheduling import TASK_ID_END, TASK_ID_OFFSET, Load, Status, TaskHints, TaskMessage, task_id_of
from sealing.frames import TASK_HEADER

HINTS = TaskHints(bytes(16), 5, 1, 8, None)


def test_the_scheduler_finds_the_task_id_that_sealing_packed() -> None:
    task_id = os.urandom(16)
    header = TASK_HEADER.pack(1, 2, os.urandom(16), 7, os.urandom(76), 9, task_id)
    assert task_id_of(header + os.urandom(40)) == task_id
    assert TASK_HEADER.size == TASK_ID_END == TASK_ID_OFFSET + 16


@pytest.mark.parametrize("size", [0, TASK_ID_OFFSET, TASK_ID_END - 1])
def test_a_task_too_short_for_its_id_is_malformed(size: int) -> None:
    kept = TaskMessage(HINTS, bytes(TASK_ID_END))
    assert codec.decode(codec.encode(kept), TaskMessage) == kept
    with pytest.raises(MalformedError):
        codec.decode(codec.encode(TaskMessage(HINTS, bytes(size))), TaskMessage)


@pytest.mark.parametrize("state", ["", "Taken", "taken\n", "lost"])
def test_a_state_is_one_of_four(state: str) -> None:
    with pytest.raises(MalformedError):
        codec.decode(codec.encode(Status(bytes(16), state)), Status)


@pytest.mark.parametrize(
    "load",
    [
        Load(bytes(16), (bytes(16),) * 257, 0, 0, (), False),
        Load(bytes(16), (), 65_536, 0, (), False),
        Load(bytes(16), (), -1, 0, (), False),
        Load(bytes(16), (), 0, 8, (), False),
        Load(bytes(16), (), 0, 0, (Status(bytes(16), "done"),) * 4_097, False),
    ],
    ids=["classes", "credits", "negative credits", "level", "statuses"],
)
def test_a_load_is_bounded(load: Load) -> None:
    with pytest.raises(MalformedError):
        codec.decode(codec.encode(load), Load)
