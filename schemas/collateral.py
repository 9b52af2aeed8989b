"""Endorsements that travel by themselves: gathered in a file, and signed by a mesh's operators."""

from typing import Annotated

from msgspec import Meta

from schemas.codec import Document, Message
from schemas.documents import Seconds
from schemas.evidence import Endorsements
from schemas.messages import Bytes32, Chain, Millis, SignedByOperators

MAX_COLLATERAL = 4 * 1024 * 1024  # bytes; a chip's VCEK with its chain is 5 KiB, a TDX family 30 KiB
MAX_ENTRIES = 2_000


class CollateralEntry(Document, frozen=True, kw_only=True):
    """One document with the chain that it verifies by, and when it was fetched."""

    subject: Annotated[str, Meta(min_length=3, max_length=200)]  # as `attestation.endorsements.Subject`
    files: Endorsements
    fetched: Seconds


Entries = Annotated[tuple[CollateralEntry, ...], Meta(max_length=MAX_ENTRIES)]


class CollateralFile(Document, frozen=True, kw_only=True):
    """What was gathered, on nobody's word yet. Sorted by subject, each once."""

    entries: Entries


class CollateralBundle(Document, frozen=True, kw_only=True):
    """The claims of a signed bundle: what operators say is the collateral of their mesh, and since when."""

    mesh: Bytes32
    issued: Millis
    entries: Entries


class SignedCollateral(Message, frozen=True):
    """A bundle by those operators who have signed it so far: COSE_Sign1 over one text.

    `operators` is how they became that: whoever carries a bundle has the anchor and nothing else.
    """

    signatures: SignedByOperators
    operators: Chain
