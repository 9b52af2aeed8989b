"""Collateral as a person reads it, and as a program does: whose, how old, until when."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attestation.bundles.dated import DOCUMENTS
from attestation.bundles.outranking import outranking
from attestation.endorsements.facts import Fact, facts_of
from attestation.moments import rfc3339
from schemas.collateral import Entries
from schemas.evidence import Endorsements

CURRENT, SOON, EXPIRED, UNREADABLE, NOT_YET = "current", "soon", "expired", "unreadable", "not-yet-valid"
OLDER = "older"  # than in the bundle before
BAD = (EXPIRED, UNREADABLE, NOT_YET, OLDER)
SOON_DAYS = 7  # Intel's collateral lives for 30 days: a week is time to act in
DAY = timedelta(days=1)
_STYLES = {CURRENT: "green", SOON: "yellow", EXPIRED: "red", UNREADABLE: "red", NOT_YET: "red", OLDER: "red"}


@dataclass(frozen=True, slots=True)
class Row:
    """One document and how it stands."""

    place: str  # the entry of a bundle, or nothing
    fact: Fact
    state: str
    age_days: float | None  # since it was issued
    days_left: float | None
    fetched: datetime | None = None

    def as_json(self) -> dict[str, object]:
        """Return what a program reads."""
        issued, expires = self.fact.issued, self.fact.expires
        return {
            "entry": self.place,
            "file": self.fact.name,
            "subject": self.fact.subject,
            "issued": rfc3339(issued) if issued else None,
            "expires": rfc3339(expires) if expires else None,
            "fetched": rfc3339(self.fetched) if self.fetched else None,
            "age_days": self.age_days,
            "days_left": self.days_left,
            "state": self.state,
            "problem": self.fact.problem,
        }


def rows_of_files(files: Endorsements, now: datetime, soon_days: int, place: str = "") -> Iterator[Row]:
    """Yield a row for each file."""
    for fact in facts_of(files):
        if fact.issued is None or fact.expires is None:
            yield Row(place, fact, UNREADABLE, None, None)
            continue
        age, left = (now - fact.issued) / DAY, (fact.expires - now) / DAY
        yield Row(place, fact, _state(age, left, soon_days), round(age, 1), round(left, 1))


def rows_of_entries(entries: Entries, now: datetime, soon_days: int, before: Entries = ()) -> Iterator[Row]:
    """Yield a row for each different document of a collateral file; `before` is what it follows."""
    older = {each.entry.subject for each in outranking(before, entries)}
    seen: set[tuple[str, bytes]] = set()
    for entry in entries:
        new = {name: data for name, data in entry.files.items() if (name, data) not in seen}
        seen.update(new.items())
        fetched = _moment(entry.fetched)
        for row in rows_of_files(new, now, soon_days, entry.subject):
            is_older = entry.subject in older and row.fact.name in DOCUMENTS and row.state not in BAD
            yield replace(row, fetched=fetched, state=OLDER if is_older else row.state)


def not_renewed(rows: Iterable[Row]) -> dict[str, datetime]:
    """Name the entries that were not fetched when others were: kept, or of what was not asked for."""
    dated = {row.place: row.fetched for row in rows if row.fact.name in DOCUMENTS and row.fetched}
    last = max(dated.values(), default=None)
    return {} if last is None else {place: when for place, when in dated.items() if last - when > DAY}


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print the table, most urgent first."""
    # Without lines between, so that a subject has room on a screen of 80 columns.
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("document", no_wrap=True)
    table.add_column("subject", overflow="fold")
    for name in ("age", "expires", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for row in sorted(rows, key=lambda row: (row.days_left is not None, row.days_left or 0.0)):
        expires = row.fact.expires
        table.add_row(
            Text(row.fact.name),
            Text(row.fact.subject + (f": {row.fact.problem}" if row.fact.problem else "")),
            Text("" if row.age_days is None else f"{row.age_days:.0f} d"),
            Text("" if expires is None else f"{expires:%Y-%m-%d}"),
            Text("" if row.days_left is None else f"{row.days_left:.0f} d"),
            Text(row.state, _STYLES[row.state]),
        )
    console.print(table)


def missing_in(entries: Entries, before: Entries) -> list[str]:
    """Name what was there before: whoever signs or uses what follows does without."""
    return sorted({each.subject for each in before} - {each.subject for each in entries})


def show_stale(console: Console, rows: Sequence[Row], missing: Sequence[str]) -> None:
    """Print what was not renewed, and what is older than before or missing."""
    for place, when in not_renewed(rows).items():
        text = f"{short(place)}: not fetched since {when:%Y-%m-%d}, when others were"
        console.print(Text(text, "yellow"), soft_wrap=True)
    if any(row.state == OLDER for row in rows):
        text = "what is older than before is not signed, nor used by who has the newer: fetch it again"
        console.print(Text(text, "red"), soft_wrap=True)
    for subject in missing:
        console.print(Text(f"{short(subject)}: was there before, and is not here", "yellow"), soft_wrap=True)


def short(subject: str) -> str:
    """Shorten the words of a document's subject."""
    # A chip's id is 128 digits; the first 16 tell chips apart.
    return "/".join(word if len(word) <= 40 else f"{word[:16]}…" for word in subject.split("/"))


def _moment(seconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):
        return None  # after the year 9999


def _state(age: float, left: float, soon_days: int) -> str:
    if left < 0:
        return EXPIRED
    if age < 0:
        return NOT_YET
    return SOON if left < soon_days else CURRENT
