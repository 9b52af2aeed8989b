"""E-mail addresses and telephone numbers: how people are reached.

`phonenumbers` is asked only about runs of digits that could be a number, never about the whole text:
its own matcher is some hundred times slower.
"""

import re
from collections.abc import Iterator

from examples.redaction.extras import phonenumbers
from examples.redaction.messages import Kind
from examples.redaction.numbers import Candidate
from examples.redaction.views import View

# Bounded everywhere: at most 64 characters of local part are tried from each start of one. Zero width,
# so that in "a@b.org@c.org" what is found does not depend on where the text was cut.
_EMAIL = re.compile(
    r"(?<![\w@])(?<!\w[.+&'%-])(?=(\w(?:[\w.+&'-]|%(?!40)){0,63}(?:@|%40)"
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}(?:xn--[A-Za-z0-9-]{2,30}|[^\W\d_]{2,24}))(?![\w-]))"
)
_LONGEST_ADDRESS = 254  # RFC 5321 section 4.5.3.1.3
# "icon@2x.png" and its like name a picture for a sharper screen.
_FILES = frozenset(("css", "gif", "html", "jpeg", "jpg", "js", "json", "pdf", "png", "svg", "webp"))


def emails(view: View) -> Iterator[Candidate]:
    """Find e-mail addresses, also percent-encoded ones; one spelling whatever the case."""
    if "@" not in view.text and "%40" not in view.text:
        return
    for match in _EMAIL.finditer(view.text):
        address = match[1].replace("%40", "@").casefold()
        if len(match[1]) <= _LONGEST_ADDRESS and address.rpartition(".")[2] not in _FILES:
            yield Candidate(Kind.EMAIL, match.start(1), match.end(1), address[:512])


# Tried in this order for a number without a country code; the first that accepts it is its country.
REGIONS = ("DE", "GB", "FR", "CH", "AT", "US", "IT", "ES", "NL", "BE")

LONGEST = 40  # characters of a number as written; a longer run of digits may be a table

_SEPARATOR = r"(?!\. )[ \u00a0\u202f()/.\-\u2010-\u2013]"
_RUN = re.compile(rf"(?<![\w+@#])(?<!\d[-.,/])(?<!\w[-/@])(?:\(?\+|\()?\d(?:{_SEPARATOR}{{0,3}}\d){{5,}}+")
_START = re.compile(r"(?:^|(?<=[ \u00a0]))(?=[+(0-9])")
_NEXT_NUMBER = re.compile(r"[ \u00a0/\u2013-]+(?=\(?0[1-9])")  # "030 ... / 040 ..." are two
_AMERICAN = re.compile(r"\(?[2-9]\d{2}(?:\) ?|[-. ])[2-9]\d{2}[-. ]\d{4}")
_TRUNK = re.compile(r"\(?0[1-9]")
_NOT_A_NUMBER = re.compile(
    r"\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})(?![\d.])"  # a date
    r"|\d{4}[./-]\d{1,2}[./-]\d{1,2}(?![\d.])"
    r"|\d{1,3}(?:\.\d{1,3}){3}\Z"  # an IP address
    r"|0[ ./-]"  # a decimal, a chapter, an ISBN-10
)
_WORDS_FOR = re.compile(
    r"(?:\bt[ée]l\b|phone|\bfon\b|\bmobil|\bm[óo]vil|\bcell\b|cellular|portable|\bruf|telefon|t[ée]l[ée]fono)"
    r"(?:[^\W\d]*[ -]?(?:n(?:umber|ummer|um[ée]ro|o|r)\b\.?))?"
    r"|\bcall(?:s|ed|ing|back)?\b|\bhandy\b|\bfax|durchwahl|\bsms\b|whatsapp|hotline|\bring\b|erreich|joindre|\breach",
    re.IGNORECASE,
)
# Right before it, even for a number that does not look like one.
_LABEL = re.compile(
    r"(?:t[ée]l|phone|fon|mobil|m[óo]vil|cell|portable|fax|ruf)[^\W\d]{0,12}[\W_]{0,12}\Z", re.IGNORECASE
)
_SENTENCE = re.compile(r"[.!?]\s+(?=[A-Z])")
_WORDS_AGAINST = re.compile(
    r"isbn|order|invoice|\bref|article|artikel|\bitem|serial|version|bestell|rechnung|auftrag|commande"
    r"|facture|ticket|\bcase\b|account|konto|compte|policy|police|tracking|\bpart\b|vertrag|contract|dossier"
    r"|\bn(?:o|r)\b|(?:kunden|customer|client)[ -]?(?:n(?:o|r|umber|ummer|um[ée]ro)|id)\b",
    re.IGNORECASE,
)


def phones(view: View, regions: tuple[str, ...] = REGIONS) -> Iterator[Candidate]:
    """Find telephone numbers.

    A number with a country code counts if its length is possible there. One without counts if a word
    for it stands before it, or if it is written in groups, valid in a region, and no word stands
    before it that explains it otherwise.
    """
    text = view.text
    for match in _RUN.finditer(text):
        run = match[0]
        if text[match.end() : match.end() + 1].isalnum():
            run = run[: max(run.rfind(" "), 0)]  # its last group is part of a word
        # Every start is judged by what is near it, not by what was found before it in the run.
        for start in _START.finditer(run):
            position = match.start() + start.start()
            candidate = run[start.start() : start.start() + LONGEST]
            if candidate.startswith(("+", "(+", "00")):
                found = _international(candidate)
            elif sum(map(str.isdigit, candidate)) >= 7:
                context = view.before(position)
                said = _said(context)
                behind = start.start() > 0 and text[position - 4 : position].rstrip()[-1:].isdigit()
                if said is None and (behind or len(run) > LONGEST):
                    continue  # a group of a longer number
                if said and not _TRUNK.match(candidate) and (behind or not _LABEL.search(context)):
                    said = None  # the word is about something else nearby
                found = _number(candidate, said, regions)
            else:
                continue
            if found is not None:
                length, value = found
                yield Candidate(Kind.PHONE, position, position + length, value)


def _number(text: str, said: bool | None, regions: tuple[str, ...]) -> tuple[int, str] | None:
    """Return how long the number is that `text` starts with, and its E.164 form.

    `said` is what the context says: that it is a telephone number, that it is none, or nothing.
    """
    for end in (len(text), *(match.start() for match in _NEXT_NUMBER.finditer(text))):
        value = _national(text[:end], said, regions)
        if value:
            return end, value
    return None


def _national(text: str, said: bool | None, regions: tuple[str, ...]) -> str | None:
    digits = sum(map(str.isdigit, text))
    if not 7 <= digits <= 13 or _NOT_A_NUMBER.match(text):
        return None
    if _AMERICAN.fullmatch(text):
        # Three groups of digits between spaces may be anything.
        if said is None and " " in text and "(" not in text:
            return None
        regions = ("US",)
    elif said is not True and (digits == len(text) or digits < 9 or not _TRUNK.match(text)):
        return None
    if said is False:
        return None
    for lenient in (False, True) if said else (False,):
        for region in regions:
            value = _parsed(text, region, lenient=lenient)
            if value:
                return value
    return None


def _international(text: str) -> tuple[int, str] | None:
    # What follows after a space may belong to something else: the longest that is a number wins.
    plain = text.replace("(0)", "   ").replace("(+", " +")
    if plain.startswith("00"):
        plain = " +" + plain[2:]
    ends = [len(text), *(m.start() for m in reversed(list(re.finditer(r"[ \u00a0/(]+", text))))]
    # A plus says what it is; two zeros may begin any number.
    said = "+" in text
    for lenient in (False, True) if said else (False,):
        for end in ends if said else ends[:1]:
            if sum(map(str.isdigit, text[:end])) < 8:
                break
            value = _parsed(plain[:end], None, lenient=lenient)
            if value:
                return end, value
    return None


def _said(context: str) -> bool | None:
    """Return whether the nearest telling word says that a telephone number follows, None without one."""
    # What an earlier sentence was about does not matter.
    context = _SENTENCE.split(context)[-1]
    nearest, answer = -1, None
    for words, meaning in ((_WORDS_FOR, True), (_WORDS_AGAINST, False)):
        for match in words.finditer(context):
            if match.end() > nearest:
                nearest, answer = match.end(), meaning
    return answer


def _parsed(text: str, region: str | None, *, lenient: bool) -> str | None:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    # Numbers reserved for fiction and new ranges are possible but not valid; with other proof they count.
    accepted = phonenumbers.is_possible_number(number) if lenient else phonenumbers.is_valid_number(number)
    if not accepted:
        return None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
