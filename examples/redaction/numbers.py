"""IBANs, payment cards and national ids: numbers that check themselves.

Every pattern is bounded and has no width, so the work is linear in the text, every place is judged
by its neighbourhood alone, and a text that was cut gives the same answers.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from examples.redaction import extras
from examples.redaction.messages import Kind
from examples.redaction.views import View


class Candidate(NamedTuple):
    """An identifier at [start, end) of a view, and its normalised value."""

    kind: Kind
    start: int
    end: int
    value: str


# Lengths from the SWIFT IBAN registry (ISO 13616); as code, because enclaves measure code, not data files.
IBAN_LENGTHS = {
    code: int(length)
    for length, codes in {
        "15": "NO",
        "16": "BE",
        "18": "DK FI FO GL NL SD",
        "19": "MK SI",
        "20": "AT BA EE KZ LT LU XK MN",
        "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM TL SO",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST",
        "26": "IS TR",
        "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HU LB NI PL SV",
        "29": "BR EG PS QA UA",
        "30": "JO KW MU",
        "31": "MT SC",
        "32": "LC",
        "33": "RU",
    }.items()
    for code in codes.split()
}

_IBAN_START = re.compile(r"(?<![^\W_])[A-Za-z]{2}\d{2}(?=[ \u00a0-]?[A-Za-z0-9])", re.ASCII)


def ibans(view: View) -> Iterator[Candidate]:
    """Find IBANs, solid or grouped: the country tells the length, ISO 7064 MOD 97-10 the rest."""
    text = view.text
    for match in _IBAN_START.finditer(text):
        length = IBAN_LENGTHS.get(match[0][:2].upper())
        if length is None:
            continue
        taken, position = list(match[0]), match.end()
        while len(taken) < length and position < len(text):
            if text[position] in " \u00a0-":
                position += 1
            if not (text[position : position + 1].isascii() and text[position : position + 1].isalnum()):
                break
            taken.append(text[position])
            position += 1
        if len(taken) < length or text[position : position + 1].isalnum():
            continue
        value = "".join(taken).upper()
        if int("".join(str(int(c, 36)) for c in value[4:] + value[:4])) % 97 == 1:
            yield Candidate(Kind.IBAN, match.start(), position, value)


# (first prefix, last prefix, lengths): ISO/IEC 7812 ranges of issuers in use. Visa's 13 digits are
# left out: retired, and one in ten article numbers (EAN-13) would pass.
CARD_RANGES = (
    ("4", "4", (16, 19)),
    ("51", "55", (16,)),
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),
    ("37", "37", (15,)),
    ("300", "305", (14,)),
    ("36", "36", (14,)),
    ("38", "39", (14,)),
    ("6011", "6011", (16, 19)),
    ("644", "659", (16, 19)),
    ("3528", "3589", (16,)),
    ("62", "62", (16, 17, 18, 19)),
    ("5018", "5018", (16, 18, 19)),
    ("5020", "5020", (16, 18, 19)),
    ("5038", "5038", (16, 18, 19)),
    ("6304", "6304", (16, 18, 19)),
    ("6759", "6763", (16, 18, 19)),
    ("2200", "2204", (16,)),
)

# Looked for at every start (zero width), so that one run of groups cannot hide another.
_CARD = re.compile(
    r"(?<![\w-])(?<!\d[.,])(?=("
    r"\d{14,19}"
    r"|\d{4} \d{4} \d{4} \d{4}(?: \d{3})?|\d{4}-\d{4}-\d{4}-\d{4}(?:-\d{3})?"
    r"|\d{4}\u00a0\d{4}\u00a0\d{4}\u00a0\d{4}"
    r"|3\d{3}[ -]\d{6}[ -]\d{4,5}"
    r")(?!\w|-\w|[.,]\d))",
    re.ASCII,
)


def cards(view: View) -> Iterator[Candidate]:
    """Find payment cards: solid or in the groups that are printed on them, issuer's range, Luhn."""
    for match in _CARD.finditer(view.text):
        digits = re.sub(r"\D", "", match[1])
        if _issued(digits) and luhn(digits):
            yield Candidate(Kind.CARD, match.start(1), match.end(1), digits)


def _issued(digits: str) -> bool:
    return any(
        len(digits) in lengths and first <= digits[: len(first)] <= last
        for first, last, lengths in CARD_RANGES
    )


def luhn(digits: str) -> bool:
    """Return whether the last digit is the Luhn check digit (ISO/IEC 7812-1 annex B) of the others."""
    odd = sum(map(int, digits[-1::-2]))
    even = sum(sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return (odd + even) % 10 == 0


class NationalId(NamedTuple):
    """A country's number: how it is written, how it is checked, which words must stand before it."""

    country: str
    pattern: re.Pattern[str]
    validate: Callable[[str], Any]
    words: re.Pattern[str] | None  # None: its form and check digits are proof enough


def _number(country: str, pattern: str, validate: Callable[[str], Any], words: str = "") -> NationalId:
    bounded = re.compile(rf"(?:{pattern})(?!\w|[-./]\d)", re.ASCII)
    return NationalId(country, bounded, validate, re.compile(words, re.IGNORECASE) if words else None)


# What all of them have in common, so that a text is searched once and not once for each.
_ID_START = re.compile(
    r"(?<![\w+])(?<!\w[-./])(?=(?:[A-Za-z]{1,6}[ -]?)?\d(?:[ ./+-]{0,3}[\dA-Za-z]){6})", re.ASCII
)
_NINO_PREFIX = re.compile(r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]")


def _nino(text: str) -> str:
    # HMRC manual NIM39110: no check digit, so only with its words before it.
    compact = text.replace(" ", "").upper()
    if not _NINO_PREFIX.match(compact):
        raise extras.ValidationError
    return compact


NATIONAL_IDS = (
    _number("at", r"\d{4} ?\d{6}", extras.at_vnr.validate, r"sozialvers|\bsv-?n|versicherungsn"),
    _number("be", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", extras.be_nn.validate),
    _number("be", r"\d{11}", extras.be_nn.validate, r"rijksregister|registre national|national number|insz"),
    _number("br", r"\d{3}\.\d{3}\.\d{3}-\d{2}", extras.br_cpf.validate),
    _number("ch", r"756[. ]\d{4}[. ]\d{4}[. ]\d{2}", extras.ch_ssn.validate),
    _number("ch", r"756\d{10}", extras.ch_ssn.validate, r"\bah[vs]\b|\bavs\b|sozialvers|social"),
    _number("de", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", extras.de_idnr.validate, r"steuer|idnr|\btin\b|\btax"),
    _number("es", r"\d{8}-?[A-HJ-NP-TV-Z]", extras.es_dni.validate),
    _number("es", r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]", extras.es_nie.validate),
    _number("fi", r"\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y]", extras.fi_hetu.validate),
    _number(
        "fr",
        r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3}(?: | ?/ ?)?\d{2}",
        lambda text: extras.fr_nir.validate(text.replace("/", "")),
    ),
    _number("gb", r"\d{3}[ -]?\d{3}[ -]?\d{4}", extras.gb_nhs.validate, r"\bnhs"),
    _number(
        "gb",
        r"[A-Za-z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-Da-d]",
        _nino,
        r"national ins|\bnino\b|\bni\b|\binsurance n",
    ),
    _number("ie", r"\d{7}[A-Wa-w][A-IWa-iw]?", extras.ie_pps.validate, r"\bpps"),
    _number("in", r"\d{4} ?\d{4} ?\d{4}", extras.in_aadhaar.validate, r"aadhaar|aadhar"),
    _number("it", r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]", extras.it_codicefiscale.validate),
    _number("nl", r"\d{9}|\d{4}\.\d{2}\.\d{3}", extras.nl_bsn.validate, r"\bbsn|burgerservice|sofi"),
    _number(
        "no", r"\d{6} ?\d{5}", extras.no_fodselsnummer.validate, r"f[øo]dsels|personn|national id|\bd-nummer"
    ),
    _number("pl", r"\d{11}", extras.pl_pesel.validate, r"pesel"),
    _number("se", r"(?:\d{2})?\d{6}[-+]?\d{4}", extras.se_personnummer.validate, r"personn|\bpnr\b"),
    _number("us", r"\d{3}-\d{2}-\d{4}", extras.us_ssn.validate),
    _number("us", r"\d{9}|\d{3} \d{2} \d{4}", extras.us_ssn.validate, r"\bssn|social sec"),
)


def national_ids(view: View) -> Iterator[Candidate]:
    """Find national ids whose check digits hold and, where digits prove little, whose words are there."""
    for begin in _ID_START.finditer(view.text):
        start = begin.start()
        for number in NATIONAL_IDS:
            match = number.pattern.match(view.text, start)
            if match is None or (number.words and not number.words.search(view.before(start))):
                continue
            try:
                value = number.validate(match[0])
            except extras.ValidationError:
                continue
            yield Candidate(Kind.NATIONAL_ID, start, match.end(), f"{number.country}:{value}")
