"""Strict, bounded DER (X.690), as much of it as the vendors' certificates and CRLs need, both ways.

Ours because every genuine VCEK has serial number 0, which RFC 5280 forbids and general X.509
libraries refuse or warn about. No recursion, no indefinite lengths, no multi-byte tags.
"""

from datetime import UTC, datetime

from attestation.errors import EvidenceMalformedError

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OID = 0x06
ENUMERATED = 0x0A
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
IA5_STRING = 0x16
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

MAX_INTEGER_BYTES = 32  # serial numbers have 21 at most (RFC 5280 section 4.1.2.2), SVNs 3


def context(number: int) -> int:
    """Give the tag of a constructed context-specific item."""
    return 0xA0 | number


class Reader:
    """Walk the items of one constructed DER value; every reading names the tag it expects."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)

    def next_is(self, tag: int) -> bool:
        """Say whether the next item has `tag`: how OPTIONAL and CHOICE are read."""
        return self._at < self._end and self._data[self._at] == tag

    def at_end(self) -> bool:
        """Say whether every item was read."""
        return self._at == self._end

    def finish(self) -> None:
        """Refuse items that nobody asked for."""
        if not self.at_end():
            raise EvidenceMalformedError("DER has more items than its type")

    def item(self, tag: int) -> bytes:
        """Read the next item whole, header included: what signatures cover."""
        start, _ = self._advance(tag)
        return self._data[start : self._at]

    def content(self, tag: int) -> bytes:
        """Read the content of the next item."""
        _, content = self._advance(tag)
        return self._data[content : self._at]

    def enter(self, tag: int) -> "Reader":
        """Read the next item as a constructed value."""
        return Reader(self.content(tag))

    def _advance(self, tag: int) -> tuple[int, int]:
        start = self._at
        if self._end - start < 2 or self._data[start] != tag:
            raise EvidenceMalformedError("DER item is missing or of another type")
        first = self._data[start + 1]
        content = start + 2
        length = first
        if first >= 0x80:
            octets = first & 0x7F
            content += octets
            # Three octets reach past every size we accept; 0x80 alone is BER's indefinite form.
            if not 1 <= octets <= 3 or content > self._end:
                raise EvidenceMalformedError("DER length is out of bounds")
            length = int.from_bytes(self._data[start + 2 : content])
            if length < 0x80 or length >> (8 * (octets - 1)) == 0:
                raise EvidenceMalformedError("DER length is not minimal")
        if length > self._end - content:
            raise EvidenceMalformedError("DER item is cut short")
        self._at = content + length
        return start, content


def read_only(data: bytes, tag: int) -> Reader:
    """Read `data` as exactly one constructed item."""
    outer = Reader(data)
    inner = outer.enter(tag)
    outer.finish()
    return inner


def read_integer(reader: Reader, tag: int = INTEGER) -> int:
    """Read a non-negative INTEGER (or ENUMERATED) in its shortest form."""
    content = reader.content(tag)
    if not 1 <= len(content) <= MAX_INTEGER_BYTES or content[0] >= 0x80:
        raise EvidenceMalformedError("DER integer is empty, negative or too long")
    if len(content) > 1 and content[0] == 0 and content[1] < 0x80:
        raise EvidenceMalformedError("DER integer is not minimal")
    return int.from_bytes(content)


def read_boolean(reader: Reader) -> bool:
    """Read a BOOLEAN; DER knows two values only."""
    content = reader.content(BOOLEAN)
    if content not in (b"\x00", b"\xff"):
        raise EvidenceMalformedError("DER boolean is neither true nor false")
    return content == b"\xff"


def read_bits(reader: Reader) -> bytes:
    """Read a BIT STRING of whole bytes: keys and signatures."""
    content = reader.content(BIT_STRING)
    if not content or content[0] != 0:
        raise EvidenceMalformedError("DER bit string is not of whole bytes")
    return content[1:]


def read_oid(reader: Reader) -> str:
    """Read an OBJECT IDENTIFIER in dotted form."""
    content = reader.content(OID)
    if not 1 <= len(content) <= 32 or content[-1] >= 0x80:
        raise EvidenceMalformedError("DER object identifier is empty, too long or cut short")
    arcs: list[int] = []
    value = 0
    for octet in content:
        if value == 0 and octet == 0x80:
            raise EvidenceMalformedError("DER object identifier is not minimal")
        value = (value << 7) | (octet & 0x7F)
        if octet < 0x80:
            arcs.append(value)
            value = 0
    head = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (head, arcs[0] - 40 * head, *arcs[1:]))


def read_time(reader: Reader) -> datetime:
    """Read a UTCTime or GeneralizedTime in the one form that RFC 5280 section 4.1.2.5 allows."""
    if reader.next_is(UTC_TIME):
        digits, size = reader.content(UTC_TIME), 13
    else:
        digits, size = reader.content(GENERALIZED_TIME), 15
    if len(digits) != size or digits[-1:] != b"Z" or not digits[:-1].isdigit():
        raise EvidenceMalformedError("DER time is not in the form of RFC 5280")
    text = digits[:-1].decode("ascii")
    if size == 13:
        text = ("20" if text[:2] < "50" else "19") + text
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise EvidenceMalformedError("DER time is not a date") from error


def item(tag: int, *parts: bytes) -> bytes:
    """Encode one item from its content or its members."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = (size.bit_length() + 7) // 8
    return bytes((tag, 0x80 | octets)) + size.to_bytes(octets) + content


def integer(value: int) -> bytes:
    """Encode a non-negative INTEGER."""
    return item(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def oid(dotted: str) -> bytes:
    """Encode an OBJECT IDENTIFIER."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        content += bytes(reversed(groups))
    return item(OID, bytes(content))


def bits(value: bytes) -> bytes:
    """Encode a BIT STRING of whole bytes."""
    return item(BIT_STRING, b"\x00", value)


def time(value: datetime) -> bytes:
    """Encode a time as RFC 5280 wants it: UTCTime to 2049, GeneralizedTime after."""
    text = value.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode("ascii")
    return item(UTC_TIME, text[2:]) if value.year < 2050 else item(GENERALIZED_TIME, text)
