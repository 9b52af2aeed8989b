"""Times as results say them: RFC 3339 in UTC, to the second unless there is more. Pure."""

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """Write a moment as 2026-01-31T12:00:00Z, with milliseconds if it has any."""
    whole = "milliseconds" if moment.microsecond else "seconds"
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=whole) + "Z"


def span(start: datetime, end: datetime) -> str:
    """Write from when until when something is valid."""
    return f"valid from {rfc3339(start)} to {rfc3339(end)}"


def at(moment: datetime) -> str:
    """Write when something should have been valid."""
    return f"valid at {rfc3339(moment)}"
