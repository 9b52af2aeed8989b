"""Ground truth: which identifiers a document contains, and where.

Written as marks in the text while a document is composed, and taken out again: so positions are
right by construction, also after a mail was encoded and decoded.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from examples.redaction.messages import Kind
from schemas.errors import UsageError

FILE = "truth.json"

# Private-use characters: no text has them, every encoding of Unicode carries them.
_OPEN = {kind: chr(0xE000 + index) for index, kind in enumerate(Kind)}
_KINDS = {mark: kind for kind, mark in _OPEN.items()}
_CLOSE = "\ue00f"
_MARK = re.compile(f"[{''.join(_KINDS)}{_CLOSE}]")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An identifier as it is written, and the character offsets of its occurrences."""

    kind: Kind
    value: Annotated[str, Meta(min_length=1)]
    offsets: Annotated[tuple[int, ...], Meta(min_length=1)]


Truth = dict[str, tuple[Entry, ...]]  # by file


def marked(kind: Kind, text: str) -> str:
    """Return `text` marked as an identifier."""
    return f"{_OPEN[kind]}{text}{_CLOSE}"


def unmarked(text: str) -> str:
    """Return a text without its marks."""
    return _MARK.sub("", text)


def entries(text: str) -> tuple[Entry, ...]:
    """Return what is marked in `text`, with offsets in the text without marks."""
    found: defaultdict[tuple[Kind, str], list[int]] = defaultdict(list)
    begun: re.Match[str] | None = None
    for marks, mark in enumerate(_MARK.finditer(text)):
        if mark[0] == _CLOSE and begun is not None:
            value = text[begun.end() : mark.start()]
            found[_KINDS[begun[0]], value].append(begun.start() - (marks - 1))
            begun = None
        else:
            begun = mark
    return tuple(Entry(kind, value, tuple(offsets)) for (kind, value), offsets in sorted(found.items()))


def write(folder: Path, truth: Truth) -> None:
    """Write a corpus's truth beside its documents."""
    data = msgspec.json.encode(dict(sorted(truth.items())))
    (folder / FILE).write_bytes(msgspec.json.format(data, indent=1) + b"\n")


def load(folder: Path) -> Truth:
    """Read a corpus's truth, or raise `UsageError`."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Truth)
    except OSError as error:
        raise UsageError(f"{folder} has no readable {FILE}: generate a corpus, or name no truth") from error
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{folder / FILE} is not a truth of this version: generate the corpus anew"
        ) from error
