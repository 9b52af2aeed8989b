"""The names of a job, and finding them in text.

A name is found as "First Last" (up to two middle names or initials between them), "F. Last",
"Last, First", "Last First", and the family name alone after a title ("Ms Keller", "Herr Dr. Keller").
A bare given or family name is not found: too many are words.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from examples.redaction.extras import ahocorasick
from examples.redaction.messages import Kind, PersonName
from examples.redaction.names import PARTICLES, TITLES, Folded, canonical, spellings
from examples.redaction.numbers import Candidate

_LONGEST_WORD = 40
_GAP = " \t\r\n>"
_FURTHEST = 160  # from a family name to the first of its given names: see slices.SPREAD
_WIDEST_GAP = 12  # a wrapped line with its quoting: "\r\n> > "


class Word(NamedTuple):
    """A word of a folded text; `abbreviated` if a full stop follows it, which [start, end) leaves out."""

    start: int
    end: int
    text: str
    abbreviated: bool


class Lexicon:
    """The names that a job's documents declare; immutable once made."""

    def __init__(self, names: Iterable[PersonName]) -> None:
        self._persons: dict[tuple[str, str], set[PersonName]] = {}
        self._families: dict[str, set[PersonName]] = {}
        self._givens: dict[str, set[PersonName]] = {}
        self._automaton = ahocorasick.Automaton()
        for name in names:
            if name.family:
                self._add(name)
        self._automaton.make_automaton()

    def _add(self, name: PersonName) -> None:
        for family in spellings(name.family):
            self._automaton.add_word(family, len(family))
            persons = self._families.setdefault(family, set())
            if name.given:
                persons.add(name)
                for given in spellings(name.given):
                    self._persons.setdefault((given, family), set()).add(name)
        if name.given:
            for given in spellings(name.given):
                self._givens.setdefault(given, set()).add(name)

    def value(self, name: PersonName) -> str:
        """Return the normalised value of a declared name: one for all spellings of a person.

        A family name alone is the person's if the job knows one person of that name, and so is a
        given name alone; otherwise it stands for itself.
        """
        if name.given and name.family:
            known = self._persons.get((name.given, name.family), set())
            return _value(name if name in known else min(known, default=name))
        known = self._givens.get(name.given, set()) if name.given else self._families.get(name.family, set())
        exact = {
            other
            for other in known
            if (other.given if name.given else other.family) == (name.given or name.family)
        }
        known = exact or known
        return _value(min(known) if len(known) == 1 else name)

    def knows_given(self, given: str) -> bool:
        """Return whether someone in the job has this given name."""
        return given in self._givens

    def find(self, text: str) -> Iterator[Candidate]:
        """Find the job's names in `text`."""
        if not self._families:
            return
        reading = Folded(text)
        for last, length in self._automaton.iter(reading.text):
            start, end = last + 1 - length, last + 1
            if _stands_alone(reading.text, start, end):
                found = self._before(reading, start, end) or self._after(reading, start, end)
                if found is not None:
                    first, stop, name = found
                    yield Candidate(Kind.NAME, *reading.span(first, stop), self.value(name))

    def _before(self, reading: Folded, start: int, end: int) -> tuple[int, int, PersonName] | None:
        """Read a name that ends with the family name at [start, end)."""
        text, family = reading.text, reading.text[start:end]
        word, first = _word_before(text, start), start
        for _ in range(3):  # "von der", "de la"
            if word is not None and word.text in PARTICLES:
                first = word.start
                word = _word_before(text, first)
        given = word
        for _ in range(3):
            if given is None or start - given.start > _FURTHEST:
                break
            person = self._person(reading, given, start, end)
            if person:
                return given.start, end, person
            if not (given.abbreviated or reading.word(given.start, given.end)[:1].isupper()):
                break
            given = _word_before(text, given.start)
        if word is None:
            return None
        if len(word.text) == 1 and word.abbreviated:
            person = self._initial(word.text, family)
            if person:
                return word.start, end, person
        if word.text in TITLES:
            return first, end, PersonName("", canonical(reading.word(start, end)))
        return None

    def _after(self, reading: Folded, start: int, end: int) -> tuple[int, int, PersonName] | None:
        """Read a name that starts with the family name at [start, end)."""
        comma = reading.text.startswith(",", end)
        word = _word_after(reading.text, end + comma)
        if word is None:
            return None
        stop = word.end
        person = self._person(reading, word, start, end)
        if person is None and comma and len(word.text) == 1 and word.abbreviated:
            stop += 1
            person = self._initial(word.text, reading.text[start:end])
        return None if person is None else (start, stop, person)

    def _person(self, reading: Folded, given: Word, start: int, end: int) -> PersonName | None:
        known = self._persons.get((given.text, reading.text[start:end]))
        if known is None:
            return None
        written = PersonName(
            canonical(reading.word(given.start, given.end)), canonical(reading.word(start, end))
        )
        return written if written in known else min(known)

    def _initial(self, initial: str, family: str) -> PersonName | None:
        known = sorted(p for p in self._families[family] if p.given.startswith(initial))
        if len(known) > 1:
            return PersonName(initial, known[0].family)
        return known[0] if known else None


def _value(name: PersonName) -> str:
    return f"{name.given} {name.family}".strip()


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Return whether [start, end) is a word, not a part of one or of a hyphenated one."""
    if start > 0 and _joins(text[start - 1], text[start - 2 : start - 1]):
        return False
    if end == len(text) or not _joins(text[end], text[end + 1 : end + 2]):
        return True
    # The possessive: "Keller's".
    return text.startswith("'s", end) and not text[end + 2 : end + 3].isalnum()


def _joins(character: str, beyond: str) -> bool:
    return character.isalnum() or character == "_" or (character in "-'@" and beyond.isalnum())


def _word_before(text: str, position: int) -> Word | None:
    gap = position
    while gap > 0 and position - gap < _WIDEST_GAP and text[gap - 1] in _GAP:
        gap -= 1
    if gap == position or text.count("\n", gap, position) > 1:
        return None
    end = gap - (text[gap - 1 : gap] == ".")
    start = end
    while (
        start > 0 and end - start < _LONGEST_WORD and (text[start - 1].isalnum() or text[start - 1] in "-'")
    ):
        start -= 1
    if start == end or end - start == _LONGEST_WORD:
        return None
    return Word(start, end, text[start:end], end < gap)


def _word_after(text: str, position: int) -> Word | None:
    start = position
    while start < len(text) and start - position < _WIDEST_GAP and text[start] in _GAP:
        start += 1
    if start == position or text.count("\n", position, start) > 1:
        return None
    end = start
    while end < len(text) and end - start < _LONGEST_WORD and (text[end].isalnum() or text[end] in "-'"):
        end += 1
    if text.endswith("'s", start, end):
        end -= 2
    if start == end or end - start == _LONGEST_WORD:
        return None
    return Word(start, end, text[start:end], text.startswith(".", end))
