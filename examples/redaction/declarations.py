"""Where a document itself says that something is a person's name.

Mail headers and other `Name <address>`; fields (`Name: ...`, `Patient: ...`); salutations ("Dear Ms
Keller,"); columns and keys that are called like one. Each is read from its neighbourhood alone. What
only a reader would recognise as a name is not found here, nor anywhere.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from examples.redaction import names, roles
from examples.redaction.messages import PersonName, Syntax
from examples.redaction.roles import Role
from examples.redaction.tables import BARRIER
from examples.redaction.views import View

_PAIR = 200  # how far apart a given name's field and its family name's field may stand


class Declaration(NamedTuple):
    """A name at [start, end) of a view; `probable` only if someone of the job has that given name."""

    start: int
    end: int
    name: PersonName
    probable: bool = False


class _Fragment(NamedTuple):
    start: int
    end: int
    role: Role
    word: str


def declarations(view: View) -> Iterator[Declaration]:
    """Find the names that a view declares."""
    yield from _addressees(view.text)
    yield from _salutations(view.text)
    match view.piece.syntax:
        case Syntax.CSV:
            yield from _columns(view)
        case Syntax.JSON:
            yield from _keys(view.text)
    yield from _fields(view.text)


_ADDRESS = re.compile(r"[ \t]{0,3}(?:\r?\n[ \t]{1,3})?[<\[](?:mailto:)?[^<>\[\]\s@]{1,64}@")


def _addressees(text: str) -> Iterator[Declaration]:
    """Read the name before `<address>`, as in RFC 5322 section 3.4."""
    for match in _ADDRESS.finditer(text):
        end = match.start()
        if text[end - 1 : end] == '"':
            start = text.rfind('"', max(0, end - 90), end - 1) + 1
            if start:
                yield from _declared(text, start, end - 1)
            continue
        start = _phrase_start(text, end)
        if text[start - 1 : start] == "," and " " not in text[start:end].strip():
            # "Keller, Martha <...>", unquoted, as some programs print it.
            family = _phrase_start(text, start - 1)
            if " " not in text[family : start - 1].strip():
                yield from _declared(text, family, end)
                continue
        yield from _declared(text, start + names.trailing(text[start:end]), end)


_PHRASE_ENDS = f',;:"<>()|\n{BARRIER}'


def _phrase_start(text: str, end: int) -> int:
    low = max(0, end - 90)
    return max(low, max(text.rfind(c, low, end) for c in _PHRASE_ENDS) + 1)


def _declared(text: str, start: int, end: int, *, minimum: int = 2) -> Iterator[Declaration]:
    """Declare the name at [start, end), without titles and what surrounds it, if it is one."""
    raw = text[start:end]
    start += len(raw) - len(raw.lstrip(" \t\r\n*_\"'"))
    raw = raw.strip(" \t\r\n*_\"'")
    name = names.parse(raw, minimum=minimum)
    if name is not None:
        own = raw.partition("(")[0].rstrip()
        yield Declaration(start + names.untitled(own), start + len(own), name)


_GREETINGS = "|".join(
    (
        r"dear|hello|hi|good (?:morning|afternoon|evening)",
        r"sehr geehrter?|liebe[rs]?|hallo|guten (?:tag|morgen)|moin",
        r"bonjour|bonsoir|ch(?:er|ère)s?",
        r"estimad[oa]|querid[oa]|hola|gentile|car[oa]|buongiorno|beste|geachte",
    )
)
_SALUTATION = re.compile(
    rf"(?:^|(?<=[\n,>\"{BARRIER}]))[ \t>*]{{0,6}}(?:{_GREETINGS})[ \t]{{1,4}}"
    rf"([^,!:\n\r\"<>{BARRIER}]{{2,60}})[,!:\n\r]",
    re.IGNORECASE,
)
_AND = re.compile(r"\s+(?:and|und|et|y|e|en|&)\s+")
_COURTESY = re.compile(
    rf"(?:^|(?<=[\n{BARRIER}]))[ \t]{{0,6}}(?:Madame|Monsieur|Mademoiselle)[ \t]{{1,4}}"
    rf"([^,\n{BARRIER}]{{2,60}}),[ \t]{{0,4}}\r?\n"
)


def _salutations(text: str) -> Iterator[Declaration]:
    for pattern, titled in ((_SALUTATION, False), (_COURTESY, True)):
        for match in pattern.finditer(text):
            position = match.start(1)
            for piece in _AND.split(match[1]):
                yield from _saluted(text, text.index(piece, position), piece, titled=titled)
                position += len(piece)


def _saluted(text: str, start: int, piece: str, *, titled: bool) -> Iterator[Declaration]:
    skipped = names.untitled(piece)
    titled = titled or skipped > 0
    end = start + len(piece.rstrip())
    yield from _declared(text, start + skipped, end, minimum=1 if titled else 2)
    word = piece.strip()
    if not titled and " " not in word and (given := names.parse_one(word)):
        yield Declaration(end - len(word), end, PersonName(given, ""), probable=True)


_FIELD = re.compile(
    r"(?:^|(?<=[\n|"
    + BARRIER
    + r"]))[ \t>*_#|•-]{0,10}([^\W\d_][\w ./()'’-]{0,38})[*_ \t\u00a0\u202f]{0,4}[:|]"
    r"[*_ \t\u00a0|]{0,40}(?=([^\n\r;|<>\[\]{}\"" + BARRIER + r"]{2,80}))"
)
_FIELD_END = re.compile(r"\t|  |\(")
_HEADER_BESIDE = re.compile(
    r"(?:^|\n)[ \t>*]{0,6}(?:subject|sent|date|betreff|gesendet|datum|objet|envoyé|asunto|oggetto)"
    r"[* \t\u00a0]{0,4}:",
    re.IGNORECASE,
)


def _fields(text: str) -> Iterator[Declaration]:
    fragments: list[_Fragment] = []
    for match in _FIELD.finditer(text):
        role = roles.role(match[1])
        if role is None or roles.role(match[2]) is not None:
            continue  # the latter: the heading of a table
        start = match.start(2)
        value = _FIELD_END.split(match[2], maxsplit=1)[0]
        if role is Role.CORRESPONDENT:
            before, after = text[max(0, start - 240) : start], text[start : start + 240]
            if not _HEADER_BESIDE.search(before.rpartition(BARRIER)[2] + after.partition(BARRIER)[0]):
                continue
            role = Role.FULL
        end = names.leading(value)
        if role is Role.FULL:
            if " " not in value[:end] and value.startswith(",", end):
                # "Keller, Martha"
                end += 1 + names.leading(value[end + 1 :])
            yield from _declared(text, start, start + end)
        elif end:
            fragments.append(_Fragment(start, start + end, role, value[:end]))
    yield from _paired(fragments, text)


def _columns(view: View) -> Iterator[Declaration]:
    columns = roles.columns(view.headings)
    if not columns:
        return
    fragments: list[_Fragment] = []
    row = 0
    text = view.piece.text
    first = view.piece.origin == 0  # the header itself
    for cell in view.cells:
        if cell.row != row:
            yield from _paired(fragments, "")
            fragments, row = [], cell.row
        if cell.column not in columns or (first and cell.row == 0):
            continue
        raw = text[cell.start : cell.end].strip()
        if not raw or len(raw) > 80:
            continue
        start = cell.start + text[cell.start : cell.end].index(raw)
        role = columns[cell.column]
        if role is Role.FULL:
            yield from _declared(text, start, start + len(raw))
        else:
            fragments.append(_Fragment(start, start + len(raw), role, raw))
    yield from _paired(fragments, "")


_KEY = re.compile(r"\"([^\"\\:,{}\[\]\n]{1,40})\"\s{0,8}:\s{0,8}(\[\s{0,40})?(?=\")")
_STRING = re.compile(r"\"([^\"\n]{1,80})\"\s{0,40}(,\s{0,40}(?=\"))?")
_MOST_NAMES = 16  # of one list: what is further from its key is not near it


def _keys(text: str) -> Iterator[Declaration]:
    fragments: list[_Fragment] = []
    for match in _KEY.finditer(text):
        role = roles.role(match[1])
        if role is Role.CORRESPONDENT:
            role = Role.FULL
        if role is None or (roles.is_bare(match[1]) and _beside_a_product(text, match.start())):
            continue
        position = match.end()
        for _ in range(_MOST_NAMES if match[2] else 1):
            string = _STRING.match(text, position, min(len(text), match.start() + 400))
            if string is None:
                break
            if role is Role.FULL:
                yield from _declared(text, string.start(1), string.end(1))
            else:
                fragments.append(_Fragment(string.start(1), string.end(1), role, string[1]))
            if not string[2]:
                break
            position = string.end()
    yield from _paired(fragments, text)


def _beside_a_product(text: str, position: int) -> bool:
    low = max(0, position - _PAIR)
    start = max(text.rfind("{", low, position), text.rfind("}", low, position), low)
    stop = min(
        (i for c in "{}" if (i := text.find(c, position, position + _PAIR)) >= 0), default=position + _PAIR
    )
    return any(
        roles.is_thing(match[1]) for match in re.finditer(r"\"([^\"\n]{1,30})\"\s?:", text[start:stop])
    )


def _paired(fragments: list[_Fragment], text: str) -> Iterator[Declaration]:
    """Join each family name with the nearest given name of the same object, row or form."""
    given = [f for f in fragments if f.role is Role.GIVEN]
    partners: dict[_Fragment, str] = {}
    for last in fragments:
        if last.role is not Role.FAMILY:
            continue
        first = _partner(last, given, text)
        family = names.parse_family(last.word)
        if first is None:
            # Languages differ in what the bare word for "name" means.
            name = names.parse(last.word) or (family and PersonName("", family))
            if name:
                yield Declaration(last.start, last.end, name)
        elif family:
            partners[first] = family
            yield Declaration(last.start, last.end, PersonName(names.parse_one(first.word) or "", family))
    for first in given:
        word = names.parse_one(first.word)
        if first in partners and word:
            yield Declaration(first.start, first.end, PersonName(word, partners[first]))
        elif word:
            name = names.parse(first.word) or PersonName(word, "")
            yield Declaration(first.start, first.end, name)


def _partner(last: _Fragment, given: list[_Fragment], text: str) -> _Fragment | None:
    low = bisect_left(given, last.start - _PAIR, key=_start)
    high = bisect_right(given, last.start + _PAIR, key=_start)
    near = [first for first in given[low:high] if not _parted(text, first, last)]
    return min(near, key=lambda first: (abs(first.start - last.start), first.start), default=None)


def _start(fragment: _Fragment) -> int:
    return fragment.start


def _parted(text: str, one: _Fragment, other: _Fragment) -> bool:
    between = text[min(one.end, other.end) : max(one.start, other.start)]
    return any(bound in between for bound in ("{", "}", "\n\n", BARRIER))
