"""The copies of a task that is under way, and the end of its handler when the last of them expires.

Each copy is sealed by itself: under its own reply key, with its own expiry. They come in any order, an older
one perhaps once more after a newer one.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from agent_runtime.ending import CURRENT
from agent_runtime.gate import OpenedTask
from schemas.messages import Millis


@dataclass(slots=True)
class Copies:
    """Of all copies of a task, however many come: the one that came last, and the one that lives longest."""

    latest: OpenedTask
    longest: OpenedTask

    @property
    def expires(self) -> Millis:
        """Return when nobody waits for the task any more."""
        return self.longest.body.expires

    def add(self, opened: OpenedTask) -> None:
        """Hold another copy."""
        self.latest = opened
        if opened.body.expires >= self.expires:
            self.longest = opened

    def unanswered(self, answered: set[tuple[bytes, bytes]]) -> OpenedTask | None:
        """Return a copy whose sender has no answer yet, and note there that he gets one."""
        for copy in (self.latest, self.longest):
            way = copy.body.reply_to, copy.body.reply_key
            if way not in answered:
                answered.add(way)
                return copy
        return None


class Expiry:
    """Tells a handler to end, once, when its task expires: nobody waits for it, and others for its slot."""

    def __init__(self, task: "asyncio.Task[object]", remaining: Callable[[], float]) -> None:
        self.cancelled = False
        self._task = task
        self._remaining = remaining  # seconds
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        CURRENT.set(self)
        self._look()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        # A copy that came meanwhile may live longer than those that were here.
        remaining = self._remaining()
        if remaining > 0:
            self._timer = asyncio.get_running_loop().call_later(remaining, self._look)
        else:
            self.cancelled = True
            self._task.cancel()
