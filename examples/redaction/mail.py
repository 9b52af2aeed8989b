"""Mail (RFC 5322, MIME) in one readable form: decoded headers, decoded text, nothing else.

What is no text cannot be searched, so it would leak: attachments, embedded images and parts in
other formats are removed. So are headers that say how a mail travelled (`Received`, signatures,
message ids): they name machines and accounts and no longer hold once a mail is redacted. A header
`X-Redacted-Removed` counts what is gone. The form is a mail itself, which mail programs open.
"""

import codecs
import html
import re
from binascii import Error as BinasciiError
from collections.abc import Iterable
from email.errors import MessageError
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32

_ADDRESSES = frozenset(("from", "sender", "reply-to", "to", "cc", "bcc"))
_KEPT = _ADDRESSES | {"date", "subject"}
_ABOUT_FORM = frozenset(("mime-version", "content-type", "content-transfer-encoding"))
_DEEPEST = 8  # mails within mails; what is deeper is removed as an attachment is
# Not encodings of text, or (punycode) quadratic.
_NO_CHARSETS = frozenset(("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"))

# Entities that are markup themselves stay as they are.
_ENTITY = re.compile(
    r"&(?!(?:lt|gt|amp|quot|#0{0,4}(?:34|38|60|62)|#[xX]0{0,4}(?:22|26|3[cCeE]));)#?\w{1,31};"
)
_EMBEDDED = re.compile(r"data:[\w.+-]{1,60}/[\w.+-]{1,60};base64,[A-Za-z0-9+/=\s]{64,}+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_FOLD = re.compile(r"\r?\n[ \t]+")
_NEWLINE = re.compile(r"\r\n|\r|\n")
_SPECIAL = re.compile(r'[,;:<>@"()\\]')


class _Parts:
    """What a mail contains: texts with their subtype, and how much that is not text."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.removed = 0


def readable(data: bytes) -> str:
    """Return a mail as text: UTF-8, 8bit, unfolded headers, text parts only.

    Raises what Python's parser raises for mails that it cannot read: `MessageError`, `ValueError`,
    `RecursionError`.
    """
    message = BytesParser(policy=compat32).parsebytes(data)
    parts = _Parts()
    _collect(message, parts, 0)
    lines = _headers(message)
    removed = sum(name.lower() not in _KEPT | _ABOUT_FORM for name in message.keys())  # noqa: SIM118 - repeats count
    lines.append("MIME-Version: 1.0")
    if parts.removed or removed:
        lines.append(f"X-Redacted-Removed: attachments {parts.removed}, headers {removed}")
    lines += _body(parts.texts, message.get_content_type())
    newline = "\r\n" if b"\r\n" in data[:4096] else "\n"
    return newline.join(line for text in lines for line in _NEWLINE.split(text))


def _body(texts: list[tuple[str, str]], content_type: str) -> Iterable[str]:
    if len(texts) < 2:
        subtype, text = texts[0] if texts else ("plain", "")
        return *_describe(subtype), "", text
    number = 0
    while any(f"--=_{number}_" in text for _, text in texts):
        number += 1
    form = "alternative" if content_type == "multipart/alternative" else "mixed"
    lines = [f'Content-Type: multipart/{form}; boundary="=_{number}_"', ""]
    for subtype, text in texts:
        lines += (f"--=_{number}_", *_describe(subtype), "", text)
    return *lines, f"--=_{number}_--", ""


def _describe(subtype: str) -> tuple[str, str]:
    return f"Content-Type: text/{subtype}; charset=utf-8", "Content-Transfer-Encoding: 8bit"


def _collect(message: Message, parts: _Parts, depth: int) -> None:
    if depth > _DEEPEST:
        parts.removed += 1
        return
    if message.get_content_type() == "message/rfc822" and message.is_multipart():
        for inner in message.get_payload():
            if isinstance(inner, Message):
                parts.texts.append(("plain", "\n".join(_headers(inner))))
                _collect(inner, parts, depth + 1)
        return
    if message.is_multipart():
        for inner in message.get_payload():
            if isinstance(inner, Message):
                _collect(inner, parts, depth + (message.get_content_maintype() != "multipart"))
        return
    if message.get_content_maintype() != "text" or message.get_content_disposition() == "attachment":
        parts.removed += 1
        return
    payload = message.get_payload(decode=True)
    text = _decoded(payload if isinstance(payload, bytes) else b"", message.get_content_charset())
    if message.get_content_subtype() == "html":
        text, embedded = _EMBEDDED.subn("data:,", _ENTITY.sub(lambda found: html.unescape(found[0]), text))
        parts.removed += embedded
        parts.texts.append(("html", text))
    else:
        parts.texts.append(("plain", text))


def _headers(message: Message) -> list[str]:
    lines: list[str] = []
    for name, raw in message.raw_items():
        if name.lower() in _KEPT:
            unfolded = _FOLD.sub(" ", str(raw)).encode("utf-8", "surrogateescape")
            value = _words(_decoded(unfolded, "utf-8"), quoting=name.lower() in _ADDRESSES)
            # A line break that came encoded would start a header of the sender's choice.
            lines.append(f"{name}: {_CONTROL.sub(' ', value).strip()}")
    return lines


def _words(value: str, *, quoting: bool) -> str:
    """Decode the encoded words (RFC 2047) of a header."""
    if "=?" not in value:
        return value
    try:
        pieces = decode_header(value)
    except (MessageError, BinasciiError, ValueError):
        return value
    words: list[str] = []
    for piece, charset in pieces:
        if isinstance(piece, str):
            words.append(piece)
        elif charset is None:
            words.append(piece.decode("raw-unicode-escape", "replace"))
        else:
            word = _decoded(piece, charset)
            # "Keller, Martha" came as one word; bare it would be two addresses.
            words.append(f'"{_SPECIAL.sub(_escaped, word)}"' if quoting and _SPECIAL.search(word) else word)
    return "".join(words)


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[0]}" if match[0] in '"\\' else match[0]


def _decoded(data: bytes, charset: str | None) -> str:
    for name in (charset or "utf-8", "utf-8", "cp1252"):
        try:
            if codecs.lookup(name).name not in _NO_CHARSETS:
                return data.decode(name)
        except (LookupError, UnicodeError, ValueError):
            continue  # a mail may name any charset; these are what unnamed ones are
    return data.decode("latin-1")
