"""Pseudonyms: what stands for an identifier in shared documents. Only the vault has the key."""

import hashlib
import hmac

from examples.redaction.messages import Kind

# 48 bits. Two identifiers of one kind that got one pseudonym would be shown as one person: among
# 100,000 the odds of any such pair are 1 in 56,000, among a million 1 in 564 (with 32 bits: 69 %, certain).
DIGITS = 12

LABELS = {
    Kind.EMAIL: "EMAIL",
    Kind.PHONE: "PHONE",
    Kind.IBAN: "IBAN",
    Kind.CARD: "CARD",
    Kind.NATIONAL_ID: "ID",
    Kind.NAME: "NAME",
}


def pseudonym(key: bytes, kind: Kind, value: str) -> str:
    """Return the pseudonym of a normalised identifier under the vault's key."""
    # The kind ends at a byte that no kind contains, so kind and value cannot be shifted against each other.
    message = kind.value.encode() + b"\0" + value.encode()
    return hmac.digest(key, message, hashlib.sha256).hex()[:DIGITS]


def placeholder(kind: Kind, pseudonym: str) -> str:
    """Return the text that replaces an identifier; safe inside JSON strings and csv cells."""
    return f"[{LABELS[kind]}-{pseudonym}]"
