"""Remember a little about tasks that are not in our hands: for a while, and never too many.

Pure. What is remembered only saves work; forgetting early costs a second delivery, never a task.
"""

from collections import OrderedDict


class Memory:
    """The newest notes by task id, at most `most` of them, none older than `age` milliseconds."""

    def __init__(self, *, most: int, age: int) -> None:
        self._most = most
        self._age = age
        self._notes: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._notes)

    def __contains__(self, task_id: bytes) -> bool:
        return task_id in self._notes

    def get(self, task_id: bytes) -> bytes | None:
        """Return the note of a task."""
        note = self._notes.get(task_id)
        return note[0] if note is not None else None

    def put(self, task_id: bytes, note: bytes, *, now: int) -> None:
        """Note something of a task, in place of what was noted before."""
        self._notes[task_id] = (note, now)
        self._notes.move_to_end(task_id)
        if len(self._notes) > self._most:
            self._notes.popitem(last=False)

    def drop(self, task_id: bytes) -> None:
        """Forget a task, if there is a note of it."""
        self._notes.pop(task_id, None)

    def forget(self, *, now: int) -> None:
        """Drop what is too old."""
        while self._notes and now - next(iter(self._notes.values()))[1] > self._age:
            self._notes.popitem(last=False)
