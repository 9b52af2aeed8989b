"""Numbers, and constraints of a rule, in words: for differences and explanations. Pure."""

import json
from datetime import UTC, datetime

from schemas.documents import Condition, Constraints
from schemas.limits import SECOND
from schemas.messages import Moment


def count(number: int, what: str, many: str = "") -> str:
    """Say how many there are of something."""
    return f"{number} {what if number == 1 else many or what + 's'}"


def sentence(text: str) -> str:
    """Return a text that ends as a sentence does; a question has its mark already."""
    return text if text.endswith("?") else f"{text}."


def constraints_in_words(given: Constraints, expires: int | None) -> list[str]:
    """Say what narrows a permission; what forbids it at times is not among it."""
    words = []
    if given.max_bytes is not None:
        words.append(f"at most {given.max_bytes} bytes")
    if given.per_minute is not None:
        words.append(f"at most {given.per_minute} a minute")
    words += _times(given.days, given.hours, expires)
    if given.arguments is not None:
        words.append(f"with arguments that fit {_schema(given.arguments)}")
    return words


def conditions_in_words(given: Condition) -> str:
    """Say when a rule forbids."""
    words = _times(given.days, given.hours, given.until)
    if given.arguments is not None:
        words.append(f"with arguments that fit {_schema(given.arguments)}")
    return " ".join(words)


def day(seconds: int) -> str:
    """Return a time as it is written in a policy."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def moment(time: Moment) -> str:
    """Return a time as people read it, beside the number that a policy has for it."""
    return f"{time} ({day(time // SECOND)})"


def _times(days: tuple[str, ...] | None, hours: str | None, until: int | None) -> list[str]:
    words = []
    if days is not None:
        words.append(f"on {' '.join(days)}")
    if hours is not None:
        words.append(f"from {hours.replace('-', ' to ')} UTC")
    if until is not None:
        words.append(f"until {day(until)}")
    return words


def _schema(schema: object) -> str:
    # Letters of other scripts look like those of ours: what is another text has to read as another.
    return json.dumps(schema, ensure_ascii=True, sort_keys=True)
