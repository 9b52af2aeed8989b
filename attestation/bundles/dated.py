"""When endorsements say that they were issued, and which of two is the newer. Pure; believes nothing."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from attestation.amd_names import CRL_FILE
from attestation.errors import AttestationError, EvidenceMalformedError
from attestation.moments import in_utc, rfc3339
from attestation.x509 import read_revocation_list
from schemas.evidence import Endorsements

# What can be old and still be valid, each with the chain that signs it: a chain is of its document.
_GROUPS = (
    ("tcb_info.json", "tcb_info_chain.pem"),
    ("qe_identity.json", "qe_identity_chain.pem"),
    ("pck_crl.der", "pck_crl_chain.pem"),
    ("root_ca_crl.der",),
    (CRL_FILE,),
)

DOCUMENTS = tuple(document for document, *_ in _GROUPS)


class Dated(msgspec.Struct, frozen=True, rename="camel"):
    """What one of Intel's signed documents says of itself."""

    id: Annotated[str, Meta(max_length=16)]
    issue_date: Annotated[datetime, Meta(tz=True)]
    next_update: Annotated[datetime, Meta(tz=True)]
    tcb_evaluation_data_number: int
    fmspc: Annotated[str, Meta(max_length=12)] = ""


class _Wrapped(msgspec.Struct, frozen=True, rename="camel"):
    tcb_info: Dated | None = None
    enclave_identity: Dated | None = None


class Age(NamedTuple):
    """How far a document has come: its evaluation number, if its kind has one, and when it was issued."""

    number: int | None
    issued: datetime

    def falls_behind(self, other: "Age") -> bool:
        """Say whether this is a step back: a lower number, whatever the date, or an earlier date."""
        return (self.number or 0) < (other.number or 0) or self.issued < other.issued

    def __str__(self) -> str:
        of = "" if self.number is None else f", evaluation {self.number}"
        return f"issued {rfc3339(self.issued)}{of}"


def read_dated(data: bytes) -> Dated:
    """Read the dates of a TCB info or an enclave's identity, or raise `EvidenceMalformedError`."""
    try:
        wrapped = msgspec.json.decode(data, type=_Wrapped)
        dated = wrapped.tcb_info or wrapped.enclave_identity
        if dated is not None:
            _ = in_utc(dated.issue_date), in_utc(dated.next_update)
    except (ValueError, RecursionError) as error:
        raise EvidenceMalformedError("it is not the JSON it should be") from error
    if dated is None:
        raise EvidenceMalformedError("it is neither TCB info nor an enclave's identity")
    return dated


def newer_of(came: Mapping[str, bytes], held: Mapping[str, bytes]) -> Endorsements:
    """Return all of both: of what both have, what is `held`, unless what `came` is newer.

    Certificates that `came` stay: they don't get old. A document whose date can't be read is not newer, nor
    is one that is a step back in anything: TCB info and QE identity have an evaluation number too.
    """
    chosen = {**held, **{name: data for name, data in came.items() if data}}
    for group in _GROUPS:
        document = group[0]
        if held.get(document) and not _is_newer(document, came.get(document, b""), held[document]):
            chosen |= {name: held[name] for name in group if held.get(name)}
    return chosen


def older_in(came: Mapping[str, bytes], held: Mapping[str, bytes]) -> tuple[str, ...]:
    """Name the documents that both have and that are older in `came`; what has no age is neither."""
    return tuple(name for name in DOCUMENTS if came.get(name) and held.get(name) and _older(name, came, held))


def document_in(files: Mapping[str, bytes]) -> str | None:
    """Name the one among a document's files that can be old and still be valid; None if it has none."""
    return next((document for document in DOCUMENTS if document in files), None)


def age_of(name: str, data: bytes) -> Age:
    """Read how old a document says it is, or raise `EvidenceMalformedError`."""
    if name.endswith(".der"):
        return Age(None, read_revocation_list(data).this_update)
    dated = read_dated(data)
    return Age(dated.tcb_evaluation_data_number, dated.issue_date)


def expires_of(name: str, data: bytes) -> datetime:
    """Read until when a document says that it may be used, or raise `EvidenceMalformedError`."""
    return read_revocation_list(data).next_update if name.endswith(".der") else read_dated(data).next_update


def _older(name: str, came: Mapping[str, bytes], held: Mapping[str, bytes]) -> bool:
    try:
        return age_of(name, came[name]).falls_behind(age_of(name, held[name]))
    except AttestationError:
        return False


def _is_newer(name: str, data: bytes, than: bytes) -> bool:
    if not data or data == than:
        return False
    try:
        age, held = age_of(name, data), age_of(name, than)
    except AttestationError:
        return False
    return held.falls_behind(age) and not age.falls_behind(held)
