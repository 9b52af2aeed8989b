"""What client, planner, redactors, linker and vault say to each other; payloads are msgspec msgpack.

Positions are character offsets in the document's whole text. Plaintext travels only in `Slice`,
`PersonName` and `Identifier`; answers hold positions and pseudonyms.
"""

from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from schemas.errors import MalformedError

# 128 Ki characters are at most 512 KiB of UTF-8, and a segment full of the shortest identifiers is
# answered in less than 768 KiB: both stay below the mesh's message limit of 900 KiB.
SEGMENT = 128 * 1024
PART = 32 * 1024  # large enough that the overlap is small change, small enough to spread one document

T = TypeVar("T")
Text = Annotated[str, Meta(max_length=2 * SEGMENT)]
Word = Annotated[str, Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0)]
Pseudonym = Annotated[str, Meta(pattern="^[0-9a-f]{12}$")]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message between agents."""


class Kind(StrEnum):
    """The kinds of identifier, in the order in which they win where two overlap."""

    IBAN = "iban"
    CARD = "card"
    NATIONAL_ID = "national-id"
    EMAIL = "email"
    PHONE = "phone"
    NAME = "name"


class Syntax(StrEnum):
    """How text is to be read: what may not be broken, and what bounds a value."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"  # whole records, with the header beside them
    CSV_LINES = "csv-lines"  # records too long to keep whole: every delimiter, quote and newline bounds


class Slice(Body, frozen=True):
    """A stretch of a document; identifiers that start in [low, high) are its own, the rest is context."""

    text: Text
    origin: Count  # the offset of text[0]
    low: Count
    high: Count
    syntax: Syntax = Syntax.TEXT
    delimiter: Annotated[str, Meta(max_length=1)] = ""
    header: Annotated[str, Meta(max_length=16 * 1024)] = ""


class Begin(Body, frozen=True):
    """Client to linker and vault, before pass 1: a job begins. Who was not told of it refuses it."""

    job: Word


class Begun(Body, frozen=True):
    """Vault to client: which vault it is. Its key, and so its name, ends with its process."""

    vault: Word


class Survey(Body, frozen=True):
    """Client to planner to redactor, pass 1: find the names that this stretch declares."""

    job: Word
    document: Count
    slice: Slice


class Redact(Body, frozen=True):
    """Client to planner to redactor, pass 2: find every identifier that starts in this stretch."""

    job: Word
    document: Count
    slice: Slice
    vault: Word = ""  # the vault that began the job: another one's pseudonyms would not match


class PersonName(Body, frozen=True, array_like=True, order=True):
    """A name in canonical spelling: the first given name and the last family name, either may be absent."""

    given: Word
    family: Word


class Declared(Body, frozen=True):
    """Redactor to linker: the names that one stretch declares."""

    job: Word
    names: tuple[PersonName, ...]


class LexiconRequest(Body, frozen=True):
    """Redactor to linker: the job's names from this position on."""

    job: Word
    start: Count


class LexiconPage(Body, frozen=True):
    """Linker to redactor: some of the job's names in order, and where the next page starts."""

    names: tuple[PersonName, ...]
    next: Count | None


class Identifier(Body, frozen=True, array_like=True, order=True):
    """A normalised identifier: equal for all spellings of the same thing."""

    kind: Kind
    value: Annotated[str, Meta(max_length=512)]


class PseudonymRequest(Body, frozen=True):
    """Redactor to vault: the distinct identifiers of one part, for the vault that began the job."""

    identifiers: tuple[Identifier, ...]
    vault: Word = ""


class PseudonymReply(Body, frozen=True):
    """Vault to redactor: one pseudonym for each, in the order asked."""

    pseudonyms: tuple[Pseudonym, ...]


class Token(Body, frozen=True, array_like=True, order=True):
    """What stands for an identifier outside the vault."""

    kind: Kind
    pseudonym: Pseudonym


class Span(Body, frozen=True, array_like=True, order=True):
    """An occurrence of `tokens[token]` of the message."""

    start: Count
    length: Annotated[int, Meta(ge=1)]
    token: Count


class Findings(Body, frozen=True):
    """Redactor to planner to client: what starts in a stretch; overlaps are the client's to resolve."""

    tokens: tuple[Token, ...]
    spans: tuple[Span, ...]


class Sighting(Body, frozen=True):
    """Planner to linker: which tokens a document contains. Repeating it changes nothing."""

    job: Word
    document: Count
    tokens: tuple[Token, ...]


class LinksRequest(Body, frozen=True):
    """Client to linker: the job's groups from this position on."""

    job: Word
    start: Count


class Group(Body, frozen=True):
    """Documents that share these identifiers, all of them and nobody else."""

    documents: tuple[Count, ...]
    tokens: tuple[Token, ...]


class LinksPage(Body, frozen=True):
    """Linker to client: some groups in order, and where the next page starts."""

    groups: tuple[Group, ...]
    next: Count | None


def encode(message: Body) -> bytes:
    """Encode a message as a payload."""
    return msgspec.msgpack.encode(message)


def decode(data: bytes, kind: type[T]) -> T:
    """Decode a payload as exactly one `kind`, or raise `MalformedError`."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedError(f"not a {kind.__name__}") from error
