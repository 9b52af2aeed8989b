"""Reading one file into a document: what kind it is, how it is encoded, whether it can be worked.

A file that cannot be worked raises `DocumentError`; the others of a job go on.
"""

import os
import re
import stat
from email.errors import MessageError
from pathlib import Path
from typing import NamedTuple

from examples.redaction import mail
from examples.redaction.messages import Slice, Syntax
from examples.redaction.slices import whole
from schemas.errors import UsageError

LIMIT = 32 * 1024 * 1024  # the client holds one document in memory, in a few copies

SYNTAXES = {
    ".txt": Syntax.TEXT,
    ".md": Syntax.TEXT,
    ".eml": Syntax.TEXT,
    ".json": Syntax.JSON,
    ".csv": Syntax.CSV,
}

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
# Written text has tabs, line and page breaks, and of the rest at most escapes of a terminal.
_JUNK = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x80-\x9f\ufffe\uffff]")


class DocumentError(UsageError):
    """This file cannot be worked; the text says why, without its content."""


class Document(NamedTuple):
    """A file as text: what is redacted and what positions count in. `bom` is written back."""

    text: str
    syntax: Syntax
    bom: bool = False

    def slice(self) -> Slice:
        """Return the slice that is all of it."""
        return whole(self.text, self.syntax)

    def encode(self, text: str) -> bytes:
        """Return the bytes of the redacted text: UTF-8, with a byte order mark if the original had it."""
        return (b"\xef\xbb\xbf" if self.bom else b"") + text.encode("utf-8", "replace")


def supported(name: str) -> bool:
    """Return whether a file of this name is of a type that is redacted."""
    return os.path.splitext(name)[1].lower() in SYNTAXES


def read(path: Path) -> Document:
    """Read a file, or raise `DocumentError`."""
    try:
        # A fifo would block and a device may never end: only a regular file is read.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DocumentError("is not a regular file")
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror or 'input/output error'}") from error
    return document(path.name, data)


def document(name: str, data: bytes) -> Document:
    """Return a file's bytes as a document, or raise `DocumentError`."""
    if len(data) > LIMIT:
        raise DocumentError(f"is larger than {LIMIT // 2**20} MiB; split it and run again")
    extension = os.path.splitext(name)[1].lower()
    syntax = SYNTAXES.get(extension)
    if syntax is None:
        raise DocumentError(f"is of no supported type ({', '.join(SYNTAXES)})")
    if extension == ".eml":
        try:
            return Document(mail.readable(data), syntax)
        except (MessageError, ValueError, LookupError, RecursionError) as error:
            raise DocumentError("is not a mail that can be read") from error
    return Document(_text(data), syntax, bom=data.startswith(b"\xef\xbb\xbf"))


def _text(data: bytes) -> str:
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            try:
                return _sane(data[len(bom) :].decode(encoding))
            except UnicodeDecodeError as error:
                raise DocumentError(f"starts as {encoding} and is not; save it as UTF-8") from error
    try:
        return _sane(data.decode("utf-8"))
    except UnicodeDecodeError:
        pass
    try:
        text = _sane(data.decode("cp1252"))
    except UnicodeDecodeError as error:
        raise DocumentError("is not text in UTF-8, UTF-16 or Windows-1252; save it as UTF-8") from error
    # Any bytes without control codes decode; words of Western languages are mostly ASCII.
    if sum(character > "\x7f" for character in text) * 3 > len(text):
        raise DocumentError("is not text in UTF-8, UTF-16 or Windows-1252; save it as UTF-8")
    return text


def _sane(text: str) -> str:
    if _JUNK.search(text):
        raise DocumentError("holds bytes that are no text")
    return text
