"""Where an agent went wrong: the line in its own code, and nothing of what the error says."""

import inspect
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import PurePath
from types import TracebackType
from typing import Any, NamedTuple

FRAMES_MOST = 50  # that are looked at: a peer chooses how deep the recursion is that its argument ends


class Home(NamedTuple):
    """Where an agent's own code is: in its handler's package, and in its folder."""

    package: str
    folder: PurePath

    def holds(self, module: dict[str, Any]) -> bool:
        """Tell whether the module of these globals is of the same agent."""
        other = _home(module)
        return (self.package != "" and self.package == other.package) or self.folder == other.folder


class Part(NamedTuple):
    """An error that is no group, or a group, with the one that it is in."""

    error: BaseException
    within: "Part | None"


def home_of(handler: Callable[..., Any]) -> Home:
    """Return where a handler's own code is."""
    return _home(getattr(inspect.unwrap(handler), "__globals__", {}))


def home_at(file: PurePath) -> Home:
    """Return where the code of an agent's file is, before it is run."""
    return Home("", file.parent)


def parts(error: BaseException) -> Iterator[Part]:
    """Yield what is in a group and in the groups in it, in order; what is no group is its own part.

    Neither by recursion nor by `split`, which is one too and makes groups of foreign classes: a group is as
    deep as somebody's tasks began others.
    """
    waiting, seen = [Part(error, None)], set[int]()
    while waiting:
        part = waiting.pop()
        if not isinstance(part.error, BaseExceptionGroup):
            yield part
        elif id(part.error) not in seen:
            seen.add(id(part.error))
            waiting.extend(Part(each, part) for each in reversed(part.error.exceptions))


def line_of(part: Part, *homes: Home) -> str:
    """Name file and line of the innermost frame in an agent's own code, or nothing if none of the last is.

    Whatever that calls is somebody else's. No text of the error and no folder's name is told, and no name
    that code was given when it was made at run time.
    """
    return _innermost(part, lambda module: any(home.holds(module) for home in homes))


def line_anywhere(part: Part) -> str:
    """Name file and line of the innermost of the last frames that stands in anybody's file."""
    return _innermost(part, lambda _: True)


def _innermost(part: Part, ours: Callable[[dict[str, Any]], bool]) -> str:
    # The line that waited for a task group says nothing of what went wrong in it.
    groups: Part | None = part
    left = FRAMES_MOST
    while groups is not None and left:
        frames = deque(_frames(groups.error.__traceback__), left)
        for frame in reversed(frames):
            code, module = frame.tb_frame.f_code, frame.tb_frame.f_globals
            file = PurePath(code.co_filename).name
            if file and file == _file(module).name and ours(module):
                return f"{file}:{frame.tb_lineno}"
        left -= len(frames)
        groups = groups.within
    return ""


def _frames(frame: TracebackType | None) -> Iterator[TracebackType]:
    while frame is not None:
        yield frame
        frame = frame.tb_next


def _home(module: dict[str, Any]) -> Home:
    return Home((module.get("__package__") or "").partition(".")[0], _file(module).parent)


def _file(module: dict[str, Any]) -> PurePath:
    return PurePath(module.get("__file__") or "")
