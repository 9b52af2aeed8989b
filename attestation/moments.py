"""Times as results say them and people write them: RFC 3339, in UTC, to the second or finer. Pure."""

import re
from contextlib import suppress
from datetime import UTC, datetime

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


def read_rfc3339(text: str) -> datetime:
    """Read a moment, in UTC; one that names no zone is returned without. Raises `ValueError`."""
    if not _RFC3339.fullmatch(text):
        # `fromisoformat` takes more: weeks, days of a year, times without a date's hyphens.
        raise ValueError("no time of RFC 3339")
    moment = datetime.fromisoformat(text.upper())
    return moment if moment.tzinfo is None else in_utc(moment)


def rfc3339(moment: datetime) -> str:
    """Write a moment as 2026-01-31T12:00:00Z, with milliseconds if it has any.

    What has no date in UTC keeps its zone.
    """
    whole = "milliseconds" if moment.microsecond else "seconds"
    # Anybody signs any date, under a root of their own: to tell of it must end nothing.
    with suppress(ValueError):
        moment = in_utc(moment)
    return moment.isoformat(timespec=whole).replace("+00:00", "Z")


def in_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; raise `ValueError` for the hours at both ends of time without a date."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time has no date in UTC") from error


def span(start: datetime, end: datetime) -> str:
    """Write from when until when something is valid."""
    return f"valid from {rfc3339(start)} to {rfc3339(end)}"


def at(moment: datetime) -> str:
    """Write when something should have been valid."""
    return f"valid at {rfc3339(moment)}"
