"""Where an agent went wrong: the line in its own code, and nothing of what the error says."""

import inspect
import traceback
from collections.abc import Callable, Iterator
from pathlib import PurePath
from types import FrameType
from typing import Any, NamedTuple


class Home(NamedTuple):
    """Where an agent's own code is: in its handler's package, and in its folder."""

    package: str
    folder: PurePath

    def holds(self, module: dict[str, Any]) -> bool:
        """Tell whether the module of these globals is of the same agent."""
        other = _home(module)
        return (self.package != "" and self.package == other.package) or self.folder == other.folder


def home_of(handler: Callable[..., Any]) -> Home:
    """Return where a handler's own code is."""
    return _home(getattr(inspect.unwrap(handler), "__globals__", {}))


def home_at(file: PurePath) -> Home:
    """Return where the code of an agent's file is, before it is run."""
    return Home("", file.parent)


def line_of(error: BaseException, *homes: Home) -> str:
    """Name file and line of the innermost frame in an agent's own code, or nothing if there is none.

    Whatever that calls is somebody else's. No text of the error and no folder's name is told, and no name
    that code was given when it was made at run time.
    """
    if isinstance(error, BaseExceptionGroup):
        # The line that waited for a task group says nothing of what went wrong in it.
        return line_of(error.exceptions[0], *homes) or _innermost(error, homes)
    return _innermost(error, homes)


def line_anywhere(error: BaseException) -> str:
    """Name file and line of the innermost frame in anybody's code."""
    return next(_places(error, lambda _: True), "")


def _place(frame: FrameType, line: int) -> str:
    file = PurePath(frame.f_code.co_filename).name
    return f"{file}:{line}" if file and file == _file(frame.f_globals).name else ""


def _innermost(error: BaseException, homes: tuple[Home, ...]) -> str:
    return next(_places(error, lambda module: any(home.holds(module) for home in homes)), "")


def _places(error: BaseException, ours: Callable[[dict[str, Any]], bool]) -> Iterator[str]:
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        place = _place(frame, line)
        if place and ours(frame.f_globals):
            yield place


def _home(module: dict[str, Any]) -> Home:
    return Home((module.get("__package__") or "").partition(".")[0], _file(module).parent)


def _file(module: dict[str, Any]) -> PurePath:
    return PurePath(str(module.get("__file__") or ""))
