"""Times as results say them: RFC 3339 in UTC, to the second unless there is more. Pure."""

from contextlib import suppress
from datetime import UTC, datetime


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
