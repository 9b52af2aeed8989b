"""Where a handler went wrong: the line in its own code, and nothing of what the error says."""

import inspect
import traceback
from pathlib import PurePath
from typing import Any

from agent_runtime.agent import Handler


def line_of(error: BaseException, handler: Handler) -> str:
    """Name file and line of the innermost frame in the agent's own code, or nothing if there is none.

    Its own is what lies in the handler's package or folder: whatever that calls is somebody else's. No text
    of the error and no folder's name is told, and no name that code was given when it was made at run time.
    """
    home = getattr(inspect.unwrap(handler), "__globals__", {})
    if isinstance(error, BaseExceptionGroup):
        # The line that waited for a task group says nothing of what went wrong in it.
        return line_of(error.exceptions[0], handler) or _innermost(error, home)
    return _innermost(error, home)


def _innermost(error: BaseException, home: dict[str, Any]) -> str:
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = PurePath(frame.f_code.co_filename).name
        if file == _file(frame.f_globals).name and _is_of(home, frame.f_globals):
            return f"{file}:{line}"
    return ""


def _is_of(home: dict[str, Any], module: dict[str, Any]) -> bool:
    package = _package(home)
    return (package != "" and package == _package(module)) or _file(home).parent == _file(module).parent


def _package(module: dict[str, Any]) -> str:
    return (module.get("__package__") or "").partition(".")[0]


def _file(module: dict[str, Any]) -> PurePath:
    return PurePath(module.get("__file__") or "")
