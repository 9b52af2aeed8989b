"""When a rule holds: days of the week and hours, in UTC, as a policy writes them. Pure."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from schemas.limits import DAY, HOUR, MINUTE
from schemas.messages import Millis

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EPOCH_DAY = 3  # 1970-01-01 was a Thursday
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

Day = Annotated[str, Meta(pattern="^(mon|tue|wed|thu|fri|sat|sun)\\Z")]
# From the first minute on, to before the second; over midnight where the second is the earlier one.
Hours = Annotated[
    str,
    Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)\\Z"),
]


def has_day(moment: datetime) -> bool:
    """Tell whether a time is one that any party can write down: from 1970 to the end of 9999, in UTC."""
    return _FIRST <= moment <= _LAST


class Window:
    """Days and hours, read once. What is absent does not narrow."""

    __slots__ = ("_days", "_ends", "_starts")

    def __init__(self, days: tuple[str, ...] | None, hours: str | None) -> None:
        self._days = None if days is None else frozenset(DAYS.index(day) for day in days)
        self._starts, self._ends = span(hours) if hours else (0, DAY)

    def holds(self, now: Millis) -> bool:
        """Tell whether a time lies within; the day is that of the time itself, also after midnight."""
        if self._days is not None and (now // DAY + _EPOCH_DAY) % 7 not in self._days:
            return False
        of_day = now % DAY
        if self._starts < self._ends:
            return self._starts <= of_day < self._ends
        return of_day >= self._starts or of_day < self._ends


def span(hours: str) -> tuple[Millis, Millis]:
    """Return the two ends of hours, as milliseconds of a day."""
    starts, ends = (int(end[:2]) * HOUR + int(end[3:]) * MINUTE for end in hours.split("-"))
    return starts, ends
