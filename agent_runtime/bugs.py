"""Where a handler went wrong: the line in its own code, and nothing of what the error says."""

import inspect
import traceback
from collections.abc import Callable
from pathlib import PurePath
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


def line_of(error: BaseException, home: Home) -> str:
    """Name file and line of the innermost frame in an agent's own code, or nothing if there is none.

    Whatever that calls is somebody else's. No text of the error and no folder's name is told, and no name
    that code was given when it was made at run time.
    """
    if isinstance(error, BaseExceptionGroup):
        # The line that waited for a task group says nothing of what went wrong in it.
        return line_of(error.exceptions[0], home) or _innermost(error, home)
    return _innermost(error, home)


def _innermost(error: BaseException, home: Home) -> str:
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = PurePath(frame.f_code.co_filename).name
        if file == _file(frame.f_globals).name and home.holds(frame.f_globals):
            return f"{file}:{line}"
    return ""


def _home(module: dict[str, Any]) -> Home:
    return Home((module.get("__package__") or "").partition(".")[0], _file(module).parent)


def _file(module: dict[str, Any]) -> PurePath:
    return PurePath(module.get("__file__") or "")
