"""The tasks that an instance ran or runs: a repeat gets the kept result, never a second run.

Entries are kept until their task has expired and the grace period has passed, by the highest time ever
held. A full set hands tasks back; it never forgets early.
"""

import heapq
from dataclasses import dataclass

from schemas.limits import SEEN_TASKS
from schemas.messages import Millis
from sealing.context import sha256

Owner = bytes
TaskKey = tuple[Owner, bytes]


@dataclass(slots=True)
class Entry:
    """One task: pending while `body` is None, then its encoded result body."""

    until: Millis
    content: bytes = b""  # digest of class and payload: what the result is of
    body: bytes | None = None
    overdue: bool = False  # its handler was ended when its task expired: not the result of a copy that lives


def content_digest(task_class: str, payload: bytes) -> bytes:
    """Return what tells two tasks of one id apart: the digest of class and payload."""
    return sha256(task_class.encode(), b"\0", payload)


class SeenTasks:
    """The seen-set of one instance, by (owner, task id)."""

    def __init__(self, limit: int = SEEN_TASKS) -> None:
        self._limit = limit
        self._entries: dict[TaskKey, Entry] = {}
        self._expiry: list[tuple[Millis, TaskKey]] = []

    def full(self) -> bool:
        """Tell whether nothing more can be remembered."""
        return len(self._entries) >= self._limit

    def get(self, key: TaskKey) -> Entry | None:
        """Return what is known of a task."""
        return self._entries.get(key)

    def insert(self, key: TaskKey, until: Millis, content: bytes = b"") -> Entry:
        """Remember a task of this content as pending until `until` has passed."""
        entry = self._entries[key] = Entry(until, content)
        heapq.heappush(self._expiry, (until, key))
        return entry

    def extend(self, key: TaskKey, until: Millis) -> None:
        """Remember a task for longer: a copy of it came that lives on after the first."""
        entry = self._entries[key]
        if until > entry.until:
            entry.until = until
            heapq.heappush(self._expiry, (until, key))

    def remove(self, key: TaskKey) -> None:
        """Forget a task that was handed back before its handler started."""
        self._entries.pop(key, None)

    def forget(self, highest: Millis) -> None:
        """Drop what expired before the highest time ever held."""
        while self._expiry and self._expiry[0][0] < highest:
            _, key = heapq.heappop(self._expiry)
            entry = self._entries.get(key)
            # Removed and taken again, or extended, it stands in the heap more than once.
            if entry is not None and entry.until < highest:
                del self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)
