"""What nobody catches in an agent's process: its type and the line in the agent's own code, no more.

Python and asyncio print such errors whole. Texts of errors, arguments of callbacks and reprs of tasks may
quote a payload, and what a process prints is its host's to read.
"""

import asyncio
import logging
import sys
import threading
import warnings
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TextIO

from agent_runtime.agent import Agent
from agent_runtime.bugs import Home, Part, home_at, line_anywhere, line_of, parts

if TYPE_CHECKING:
    # Of the type checker's alone: at run time there is no such name.
    from sys import UnraisableHookArgs

log = logging.getLogger("sealbus.agent")

TASK_LOST = "Task was destroyed but it is pending!"  # as asyncio says it
# Parts of the standard library that log what went wrong in others' code, with reprs of it.
TALKATIVE = ("asyncio", "concurrent.futures")
WITHHELD = "..."


class Uncaught:
    """Tells what nobody caught, in an agent's process."""

    def __init__(self) -> None:
        self._homes: list[Home] = []
        self._file = ""

    def install(self) -> None:
        """Tell it from now on, in place of Python; the event loop has to be given `in_loop`."""
        sys.excepthook = self._at_the_end
        sys.unraisablehook = self._unraisable
        threading.excepthook = self._in_thread
        warnings.showwarning = self._warned
        for name in TALKATIVE:
            logging.getLogger(name).addFilter(self._withhold)

    def expect(self, file: PurePath) -> None:
        """Take a file for the agent's own, before it is run."""
        self._file = str(file)
        self._homes.append(home_at(file))

    def know(self, agent: Agent) -> None:
        """Take the code of an agent's handlers for its own, wherever the agent has it from."""
        for endpoints in (agent.tasks, agent.tools, agent.messages):
            self._homes += {each.home for each in endpoints.values()} - set(self._homes)

    def tell(self, where: str, error: BaseException) -> None:
        """Say each error of a group, alike ones once."""
        for said in dict.fromkeys(map(self._said, parts(error))):
            log.error("uncaught %s%s", where, said)

    def code_of(self, end: SystemExit) -> int:
        """Return the exit code that Python gives, which prints a text as well."""
        self.tell("at the end", end)
        if end.code is None:
            return 0
        return end.code if isinstance(end.code, int) else 1

    def in_loop(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle what the event loop calls its exception handler for."""
        error, task = context.get("exception"), context.get("task")
        if isinstance(error, BaseException):
            self.tell("in a task or callback", error)
        elif context.get("message") == TASK_LOST and isinstance(task, asyncio.Task):
            # Its frame may be gone already: the line is that of its function.
            code = getattr(task.get_coro(), "cr_code", None)
            place = self._in_a_file(code.co_filename, code.co_firstlineno) if code else ""
            log.error("uncaught in a task%s: destroyed while it waited", _at(place))
        else:
            # Whatever else it says is made of reprs.
            log.error("uncaught in the event loop")

    def _at_the_end(self, _kind: type[BaseException], error: BaseException, _trace: object) -> None:
        self.tell("at the end", error)

    def _in_thread(self, args: threading.ExceptHookArgs) -> None:
        # A thread may exit, as Python has it.
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            self.tell("in a thread", args.exc_value)

    def _unraisable(self, args: "UnraisableHookArgs") -> None:
        if args.exc_value is None:
            log.error("uncaught where nothing can be raised: %s", args.exc_type.__name__)
        else:
            error = args.exc_value.with_traceback(args.exc_traceback)
            self.tell("where nothing can be raised", error)

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        log.warning("warned%s: %s", _at(self._in_a_file(filename, lineno)), category.__name__)

    def _withhold(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and record.args:
            # With arguments the message is a literal of the library's.
            record.args = tuple(each if type(each) in (int, float) else WITHHELD for each in record.args)
        else:
            record.msg, record.args = f"{record.name}, {record.filename}:{record.lineno}", ()
        error = record.exc_info[1] if record.exc_info else None
        record.exc_info = record.exc_text = record.stack_info = None
        if error is not None:
            self.tell(f"in {record.name}", error)
        return True

    def _in_a_file(self, name: str, line: int) -> str:
        # A name that code was given when it was made at run time is no module's.
        modules = [getattr(module, "__dict__", {}) for module in list(sys.modules.values())]
        known = name == self._file or any(each.get("__file__") == name for each in modules)
        return f"{PurePath(name).name}:{line}" if known else ""

    def _said(self, part: Part) -> str:
        place = line_of(part, *self._homes) or line_anywhere(part)
        return f"{_at(place)}: {type(part.error).__name__}"


def _at(place: str) -> str:
    return f", {place}" if place else ""
