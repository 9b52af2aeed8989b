"""Names as a broker takes them: checked before they can become part of a command.

A space or a line end in a subject would inject commands into NATS's text protocol.
"""

import re
from functools import lru_cache

from schemas.errors import UsageError

# nats-server takes control lines of 4,096 bytes; a consumer's subject appears twice in one.
MAX_SUBJECT = 512
MAX_NAME = 64

_PART = r"[!-)+\-/-=?-~]+"  # printable ASCII but for "*", "." and ">"
_LITERAL = re.compile(rf"(?!\$){_PART}(\.{_PART})*")
_FILTER = re.compile(rf"(?:(?:{_PART}|\*)\.)*(?:{_PART}|\*|>)")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(r"[A-Za-z0-9_=/-]+(\.[A-Za-z0-9_=/-]+)*")
_MESSAGE_ID = re.compile(r"[!-~]{1,128}")


@lru_cache(4096)  # each of what is sent often is looked at once
def check_subject(subject: str) -> None:
    """Refuse what cannot be published to: wildcards, spaces, empty tokens, the broker's own `$` subjects."""
    if len(subject) > MAX_SUBJECT or not _LITERAL.fullmatch(subject):
        raise UsageError("a subject is dot-separated printable ASCII without wildcards, and begins without $")


def check_filter(subject: str) -> None:
    """Refuse what cannot be subscribed to; `*` is one token, `>` at the end one or more."""
    if len(subject) > MAX_SUBJECT or subject.startswith("$") or not _FILTER.fullmatch(subject):
        raise UsageError("a subject filter is dot-separated printable ASCII, `*` or a last `>` for wildcards")


def check_name(name: str) -> None:
    """Refuse what cannot name a stream, a bucket, a durable or a queue group."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise UsageError(f"a name has up to {MAX_NAME} letters, digits, - or _")


def check_key(key: str) -> None:
    """Refuse what cannot be a key of a bucket."""
    if len(key) > MAX_SUBJECT or not _KEY.fullmatch(key):
        raise UsageError("a key is dot-separated letters, digits, -, _, = or /")


def check_message_id(message_id: str) -> None:
    """Refuse what cannot be a header's value."""
    if not _MESSAGE_ID.fullmatch(message_id):
        raise UsageError("a message id is up to 128 printable ASCII characters without spaces")


def matches(subject_filter: str, subject: str) -> bool:
    """Say whether a filter covers a subject (or a narrower filter)."""
    wanted, given = subject_filter.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(given) > index
        if index >= len(given) or given[index] == ">" or part not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


def overlap(one: str, other: str) -> bool:
    """Say whether some subject is covered by both filters."""
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if a == ">" or b == ">":
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(left) == len(right)
