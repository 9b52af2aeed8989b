"""Where the command line writes: streams that no character breaks and whose failing is told as what it is.

An exit code of 0 or 1 is a verdict, so it must not come from the screen. Who closes a pipe early, as `head`
does, has read what he wanted: the rest goes nowhere, and the command ends with its own code. A full disk is
exit 2, for the caller has no output to go by.
"""

import io
import os
import sys
from typing import TYPE_CHECKING

from schemas.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputError(UsageError):
    """What the command printed could not be written."""


class _Descriptor(io.RawIOBase):
    """A descriptor to write to, left open when this is closed."""

    def __init__(self, number: int, *, quiet: bool) -> None:
        self._number = number
        self._quiet = quiet  # nobody is left to be told that an error could not be told
        self._broken = False

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write what can be written; after the first failure everything goes nowhere."""
        size = memoryview(data).nbytes
        if self._broken:
            return size
        try:
            return os.write(self._number, data)
        except BrokenPipeError:
            self._broken = True
            return size
        except OSError as error:
            self._broken = True
            if self._quiet:
                return size
            raise OutputError(
                f"cannot write the output: {error.strerror}; the exit code says nothing of what was asked"
            ) from error


def guard_streams() -> None:
    """Put such streams in place of the process's own two, where nobody else has replaced them."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(sys.stdout, quiet=False)
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, quiet=True)


def _guarded(stream: io.TextIOWrapper, *, quiet: bool) -> io.TextIOWrapper:
    # A character that the terminal's encoding lacks is written as an escape.
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(stream.fileno(), quiet=quiet)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
