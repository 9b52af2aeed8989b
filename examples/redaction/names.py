"""Spelling of names: when two spellings are one person's, and when text can be a name at all.

Canonical spelling is lower case without marks, umlauts written out ("Müller", "Mueller" -> "mueller");
a person is the first given name and the last family name, so "Martha Anna Keller" is "Martha Keller".
"""

import re
import unicodedata
from array import array
from functools import lru_cache

from examples.redaction.messages import PersonName

# Words that belong to a family name and are not counted as a part of it.
PARTICLES = frozenset(
    str.split(
        """
        von van de der den vom zu zur da das do dos di del della du des le la los las el al bin ibn ter ten
        y e
        """
    )
)
TITLES = frozenset(
    str.split(
        """
        mr mrs ms miss mx dr prof professor professorin doctor herr herrn frau fraulein familie family
        famille sir dame madam monsieur madame mademoiselle mme mlle m senor senora srta sr sra signor
        signora sig dott dottoressa meneer mevrouw dhr mevr rev ing dipl mag lic med phil hc
        """
    )
)
_SUFFIXES = frozenset(
    str.split(
        """
        jr sr ii iii iv phd md mba msc bsc esq dds rn
        """
    )
)
# A value with one of these names an organisation, a thing or a function, not a person.
_NOT_PERSONS = frozenset(
    str.split(
        """
        gmbh ag inc ltd llc llp plc sarl sas sa spa bv nv kg ohg ev eg corp corporation company co group
        holding bank sparkasse clinic klinik klinikum clinique hospital hopital krankenhaus university
        universitat universite institute institut school schule ecole team support service services customer
        customers kunde kundin kunden kundendienst client clients department abteilung office buro bureau hr
        info newsletter noreply admin administrator manager hiring committee board council ministry city
        stadt ville insurance versicherung assurance sir madam damen herren mesdames messieurs colleague
        colleagues kollege kollegin kollegen kolleginnen collegues friends freunde all everyone everybody
        user users member members parents eltern unknown anonymous none null test street strasse road rue
        avenue product project projekt sales billing accounts accounting finance legal desk centre center
        zentrum praxis practice pharmacy apotheke foundation stiftung verein association valued new the and
        und et or oder ou not applicable see below above please
        """
    )
)

_EXPANSIONS = str.maketrans(
    {
        "ä": "ae",
        "ö": "oe",
        "ü": "ue",
        "ø": "oe",
        "æ": "ae",
        "œ": "oe",
        "ł": "l",
        "đ": "d",
        "ı": "i",
        "þ": "th",
    }
    | dict.fromkeys("’ʼ‘`´", "'")
    | dict.fromkeys("‐‑", "-")
)
# One character for one, so that positions stay: what text is folded to before names are looked for.
_FOLDS = {"ø": "o", "æ": "a", "œ": "o", "ł": "l", "đ": "d", "ı": "i"} | dict.fromkeys("’ʼ‘`´", "'")
_FOLDS |= dict.fromkeys("‐‑", "-") | dict.fromkeys("\u00a0\u202f\u2009", " ")

_LONGEST = 64
_MARKS = re.compile(r"[\u0300-\u036f]{1,2}")
_TOKEN = re.compile(r"[^\W\d_](?:[^\W\d_]|['’ʼ.‐‑-](?=[^\W\d_])){0,39}\.?")


_NEXT_WORD = re.compile(rf"[ \t]?({_TOKEN.pattern})")


def canonical(word: str) -> str:
    """Return the one spelling of a name that stands for all others."""
    folded = unicodedata.normalize("NFC", word).casefold().translate(_EXPANSIONS)
    bare = unicodedata.normalize("NFKD", folded)
    return "".join(c for c in bare if not unicodedata.combining(c))


def spellings(word: str) -> tuple[str, ...]:
    """Return what the spellings of a canonical name are folded to."""
    short = word.replace("ae", "a").replace("oe", "o").replace("ue", "u")
    return tuple(dict.fromkeys((word, short, word.replace("ss", "ß"), short.replace("ss", "ß"))))


@lru_cache(maxsize=4096)
def _fold(character: str) -> str:
    lowered = character.lower()
    if len(lowered) != 1:
        lowered = character
    if lowered in _FOLDS:
        return _FOLDS[lowered]
    bare = unicodedata.normalize("NFD", lowered)
    return bare[0] if len(bare) > 1 and all(unicodedata.combining(c) for c in bare[1:]) else lowered


class _Table(dict[int, str]):
    def __missing__(self, code: int) -> str:
        return _fold(chr(code))


_TABLE = _Table()


class Folded:
    """Text in lower case without marks, and the way back to the text as it was."""

    def __init__(self, text: str) -> None:
        self.original = text
        self._offsets: array[int] | None = None
        if text.isascii():
            self.text = text.lower()
            return
        if _MARKS.search(text):
            text = self._unmarked(text)
        self.text = text.translate(_TABLE)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where [start, end) stands in the original."""
        return (start, end) if self._offsets is None else (self._offsets[start], self._offsets[end])

    def word(self, start: int, end: int) -> str:
        """Return [start, end) as it was written."""
        first, last = self.span(start, end)
        return self.original[first:last]

    def _unmarked(self, text: str) -> str:
        pieces: list[str] = []
        offsets = array("L")
        done = 0
        for match in _MARKS.finditer(text):
            # A mark without a letter, or after the letter's second mark, is a character of its own.
            if match.start() == 0 or unicodedata.combining(text[match.start() - 1]):
                continue
            pieces.append(text[done : match.start()])
            offsets.extend(range(done, match.start()))
            done = match.end()
        pieces.append(text[done:])
        offsets.extend(range(done, len(text) + 1))
        self._offsets = offsets
        return "".join(pieces)


def parse(raw: str, *, minimum: int = 2) -> PersonName | None:
    """Return the person that `raw` names as "First Last" or "Last, First", or None if it is no such name.

    With `minimum=1` a single word counts as a family name.
    """
    raw = raw.strip(" \t\r\n*_\"'").partition("(")[0].strip()
    family, comma, given = raw.partition(",")
    if comma and canonical(given).strip(" .").replace(".", "") not in _SUFFIXES:
        last, first = _words(family), _words(given)
        if not last or not first or len(last) > 3 or len(first) > 4:
            return None
        return _person([*first, *last[-1:]]) if _plausible([*first, *last]) else None
    words = _words(family if comma else raw)
    if words is None or not minimum <= len(words) <= 6 or not _plausible(words):
        return None
    return _person(words)


def parse_one(raw: str) -> str | None:
    """Return the canonical form of the first given name in a field that holds given names only."""
    words = _words(raw.strip(" \t\r\n*_\"'"))
    return _spelled(words[0]) if words and _plausible(words) else None


def parse_family(raw: str) -> str | None:
    """Return the canonical family name of a field that holds family names only."""
    words = _words(raw.strip(" \t\r\n*_\"'"))
    return _spelled(words[-1]) if words and _plausible(words) else None


def leading(text: str) -> int:
    """Return where the capitalised words, particles and initials end that `text` starts with."""
    end = position = 0
    while match := _NEXT_WORD.match(text, position):
        if match[1][0].isupper():
            end = match.end()
        elif canonical(match[1]) not in PARTICLES:
            break
        position = match.end()
    return end


def trailing(text: str) -> int:
    """Return where the capitalised words, particles and initials start that `text` ends with."""
    start = len(text)
    for match in reversed(list(re.finditer(r"\S+", text))):
        if canonical(match[0]) in _OF_SENTENCE:
            break
        if match[0][0].isupper() or match[0][0] in "\"'":
            start = match.start()
        elif canonical(match[0]) not in PARTICLES:
            break
    return start


# Before a name these belong to the sentence, though a capital starts it.
_OF_SENTENCE = frozenset(
    str.split(
        """
        contact email mail call write ask see from to via cc kontakt kontaktieren schreiben fragen bei an von
        contactez ecrivez demandez regards sincerely thanks best yours grussen gruss on when if with for
        """
    )
)


def untitled(text: str) -> int:
    """Return where the name starts after its titles."""
    start = 0
    for match in re.finditer(r"\S+\s+", text):
        if not is_title(match[0].strip()):
            break
        start = match.end()
    return start


def is_title(word: str) -> bool:
    """Return whether a word before a name is a form of address or a degree."""
    return canonical(word).strip(".") in TITLES


def _spelled(word: str) -> str:
    # Written out, a word may be longer than what the messages take.
    return canonical(word).strip(".")[:_LONGEST]


def _words(text: str) -> list[str] | None:
    """Return the words of a name without titles, or None if something else is among them."""
    words = text.split()
    if not words or len(words) > 8 or not all(_TOKEN.fullmatch(word) for word in words):
        return None
    while words and is_title(words[0]) and (words[0].endswith(".") or len(words) > 1):
        del words[0]
    while len(words) > 2 and canonical(words[-1]).strip(".") in _SUFFIXES:
        del words[-1]
    return words or None


def _plausible(words: list[str]) -> bool:
    whole = 0
    for word in words:
        spelled = canonical(word).strip(".")
        if spelled in _NOT_PERSONS:
            return False
        if spelled in PARTICLES and word[0].islower():
            continue
        if word[0].islower():
            return False
        whole += len(spelled) > 1
    return whole > 0


def _person(words: list[str]) -> PersonName | None:
    own = [word for word in words if not (canonical(word) in PARTICLES and word[0].islower())]
    if not own:
        return None
    spelled = [_spelled(word) for word in own]
    if len(spelled[-1]) < 2:
        return None
    return PersonName(spelled[0] if len(spelled) > 1 else "", spelled[-1])
