"""What a call costs, in calls of functions: the same on every machine, however busy it is.

Native code is one step whatever it does, so this sees the loops of our own parsers and no others.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class TooDearError(Exception):
    """A call took more steps than its input may cost."""


def within(most: int, work: Callable[[], T]) -> T:
    """Return what `work` returns; raise `TooDearError` at the first call of any function beyond `most`."""
    count = 0

    def step(_frame: FrameType, event: str, _called: object) -> None:
        nonlocal count
        if event == "call" or event == "c_call":
            count += 1
            if count > most:
                raise TooDearError(f"more than {most} steps")

    before = sys.getprofile()
    sys.setprofile(step)
    try:
        return work()
    finally:
        sys.setprofile(before)
