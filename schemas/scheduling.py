"""What agents and the untrusted scheduler say to each other: all of it in the clear, all of it hints."""

from typing import Annotated

from msgspec import Meta

from schemas.codec import Message
from schemas.limits import MAX_MESSAGE
from schemas.messages import Bytes16, Millis

TAKEN = "taken"
WORKING = "working"
DONE = "done"
BACK = "back"

# Offset of the task id in a role frame: suite, kind, token 16, epoch 4, handle 76, counter 8.
TASK_ID_OFFSET = 1 + 1 + 16 + 4 + 76 + 8
TASK_ID_END = TASK_ID_OFFSET + 16


class TaskHints(Message, frozen=True):
    """All that the scheduler learns of a task. The sealed copies decide."""

    class_token: Bytes16
    priority: Annotated[int, Meta(ge=0, le=9)]  # 9 is the most urgent
    deadline: Millis
    size_class: Annotated[int, Meta(ge=0, le=32)]  # log2 of the padded frame's bytes
    affinity: Bytes16 | None  # tasks of one affinity like to share an instance


class TaskMessage(Message, frozen=True):
    """A task as it is published: hints, the id that statuses name, and the role frame."""

    hints: TaskHints
    frame: Annotated[bytes, Meta(min_length=TASK_ID_END, max_length=MAX_MESSAGE)]


class Assign(Message, frozen=True):
    """The scheduler's word to one agent. `dead`: open it, do not run it, report it undeliverable."""

    task: bytes  # an encoded TaskMessage, as it was published
    dead: bool


class Status(Message, frozen=True):
    """What became of one task at one agent."""

    task_id: Bytes16
    state: Annotated[str, Meta(pattern="^(taken|working|done|back)\\Z")]


class Load(Message, frozen=True):
    """An agent's word to the scheduler: heartbeat, capacity and the progress of its tasks."""

    assign_token: Bytes16
    class_tokens: Annotated[tuple[Bytes16, ...], Meta(max_length=256)]
    credits: Annotated[int, Meta(ge=0, le=65_535)]  # how many tasks more it takes now
    level: Annotated[int, Meta(ge=0, le=7)]  # quantised load, 7 is full
    statuses: Annotated[tuple[Status, ...], Meta(max_length=4_096)]
    draining: bool


def task_id_of(frame: bytes) -> bytes:
    """Return the task id that stands in the clear in a role frame's header."""
    return frame[TASK_ID_OFFSET:TASK_ID_END]
