"""Composing test documents: values that check themselves, and mails as mail programs write them."""

import base64
import quopri
import random
import re
from collections.abc import Callable, Iterable, Sequence
from email.header import Header
from typing import Any

from examples.redaction import extras
from examples.redaction.numbers import IBAN_LENGTHS, luhn
from examples.redaction.truth import unmarked


def iban(country: str, account: str) -> str:
    """Return the IBAN of an account, with its check digits (ISO 7064 MOD 97-10)."""
    number = int("".join(str(int(c, 36)) for c in f"{account}{country}00"))
    return f"{country}{98 - number % 97:02}{account}"


def random_iban(country: str, chance: random.Random) -> str:
    """Return the IBAN of no account in particular."""
    letters = {"GB": 4, "NL": 4, "IE": 4}.get(country, 0)
    account = "".join(chance.choices("ABCDEFGHKLMNPRSTUVW", k=letters))
    account += "".join(chance.choices("0123456789", k=IBAN_LENGTHS[country] - 4 - letters))
    if country == "IT":
        account = "X" + account[1:]
    return iban(country, account)


def card(prefix: str) -> str:
    """Return a card number: `prefix` and its Luhn digit."""
    return next(prefix + digit for digit in "0123456789" if luhn(prefix + digit))


def grouped(text: str, sizes: Sequence[int], separator: str = " ") -> str:
    """Return `text` in groups of these sizes; the last size repeats."""
    pieces: list[str] = []
    position = index = 0
    while position < len(text):
        size = sizes[min(index, len(sizes) - 1)]
        pieces.append(text[position : position + size])
        position += size
        index += 1
    return separator.join(pieces)


_CHECKS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "at": ("0123456789", extras.at_vnr.validate),
    "ch": ("0123456789", extras.ch_ssn.validate),
    "de": ("0123456789", extras.de_idnr.validate),
    "es": ("ABCDEFGHJKLMNPQRSTVWXYZ", extras.es_dni.validate),
    "fr": ("0123456789", extras.fr_nir.validate),
    "gb": ("0123456789", extras.gb_nhs.validate),
    "ie": ("ABCDEFGHIJKLMNOPQRSTUVW", extras.ie_pps.validate),
    "it": ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", extras.it_codicefiscale.validate),
    "nl": ("0123456789", extras.nl_bsn.validate),
    "pl": ("0123456789", extras.pl_pesel.validate),
}


def national_id(country: str, pattern: str) -> str | None:
    """Return `pattern` with its question marks filled so that the number is valid, None if none is."""
    alphabet, validate = _CHECKS[country]
    for number in range(len(alphabet) ** pattern.count("?")):
        rest = number
        filled = pattern
        while "?" in filled:
            rest, digit = divmod(rest, len(alphabet))
            filled = filled.replace("?", alphabet[digit], 1)
        try:
            validate(filled)
        except extras.ValidationError:
            continue
        return filled
    return None


STYLES = ("plain", "quoted-printable", "base64", "alternative", "mixed")


def mail(headers: Iterable[tuple[str, str]], body: str, style: str) -> bytes:
    """Return a mail in one of the `STYLES`. Headers and body may carry marks."""
    lines = [f"{name}: {_encoded_words(value)}" for name, value in headers]
    # Latin-1 where the text allows it: much mail still is. Marks are no Latin-1, but decode to the same text.
    latin = unmarked(body).isprintable() or all(ord(c) < 256 for c in unmarked(body))
    charset = "iso-8859-1" if latin and body == unmarked(body) else "utf-8"
    lines.append("MIME-Version: 1.0")
    match style:
        case "quoted-printable" | "base64":
            lines += _part("plain", body, charset, style)
        case "alternative":
            lines += ('Content-Type: multipart/alternative; boundary="=_a"', "", "--=_a")
            lines += (*_part("plain", body, charset, "quoted-printable"), "--=_a")
            lines += (*_part("html", _html(body), "utf-8", "base64"), "--=_a--", "")
        case "mixed":
            lines += ('Content-Type: multipart/mixed; boundary="=_m"', "", "--=_m")
            lines += (*_part("plain", body, "utf-8", "8bit"), "--=_m")
            lines += ("Content-Type: application/pdf", "Content-Transfer-Encoding: base64")
            lines += ('Content-Disposition: attachment; filename="scan.pdf"', "")
            lines += ("JVBERi0xLjQKJcOkw7zDtsOfCg==", "--=_m--", "")
        case _:
            lines += _part("plain", body, "utf-8", "8bit")
    return "\r\n".join(line for text in lines for line in text.split("\n")).encode("utf-8")


def _part(subtype: str, text: str, charset: str, encoding: str) -> list[str]:
    data = text.encode(charset)
    match encoding:
        case "base64":
            payload = base64.encodebytes(data).decode("ascii")
        case "quoted-printable":
            payload = quopri.encodestring(data).decode("ascii")
        case _:
            payload = text
    return [
        f"Content-Type: text/{subtype}; charset={charset}",
        f"Content-Transfer-Encoding: {encoding}",
        "",
        payload,
    ]


def _html(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = escaped.replace("é", "&eacute;").replace("ü", "&uuml;")
    paragraphs = "".join(f"<p>{paragraph}</p>\n" for paragraph in escaped.split("\n\n"))
    return f"<html><body>\n{paragraphs}</body></html>\n"


def _encoded_words(value: str) -> str:
    def encoded(match: re.Match[str]) -> str:
        return Header(match[0].strip(), "utf-8", maxlinelen=1000).encode() + " " * match[0].endswith(" ")

    # Only the words that need it, as programs do: addresses stay readable.
    return re.sub(r"[^<>,\"@ ]*[^\x00-\x7f<>,\"@][^<>,\"@]*", encoded, value)
