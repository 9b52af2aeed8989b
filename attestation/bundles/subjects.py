"""What an endorsement document is about: the name under which it is asked for, checked, stored and found."""

import re
from dataclasses import dataclass
from datetime import datetime

from attestation.errors import EvidenceMalformedError

VCEK, CHAIN, CRL = "vcek", "chain", "crl"
TCB_INFO, QE_IDENTITY, PCK_CRL, ROOT_CA_CRL = "tcb-info", "qe-identity", "pck-crl", "root-ca-crl"

# Which words follow a kind: product, VCEK or VLEK, chip id and TCB_VERSION; FMSPC; which PCK CA.
_PRODUCT, _KEY = r"[A-Z][a-z]{1,15}", r"(?:vcek|vlek)"
_FORMS = {
    VCEK: (_PRODUCT, r"[0-9a-f]{16}(?:[0-9a-f]{112})?", r"[0-9a-f]{16}"),
    CHAIN: (_PRODUCT, _KEY),
    CRL: (_PRODUCT, _KEY),
    TCB_INFO: (r"[0-9a-f]{12}",),
    QE_IDENTITY: (),
    PCK_CRL: (r"(?:platform|processor)",),
    ROOT_CA_CRL: (),
}

Files = dict[str, bytes]  # by the names that verification takes them under

# What only shows by which root a document is to be checked. Evidence takes the chain of its PCK list from
# that list: this one may be the other authority's.
_SHOWS_THE_ROOT = {ROOT_CA_CRL: "pck_crl_chain.pem"}


@dataclass(frozen=True, slots=True)
class Subject:
    """One document of a vendor's: its kind, and of which product, chip, platform or issuer it is."""

    kind: str
    of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        form = _FORMS.get(self.kind)
        if form is None or len(form) != len(self.of):
            raise EvidenceMalformedError("no kind of endorsement has this form")
        if not all(re.fullmatch(each, word) for each, word in zip(form, self.of, strict=True)):
            raise EvidenceMalformedError(f"a {self.kind} is not of such a thing")

    def __str__(self) -> str:
        return "/".join((self.kind, *self.of))

    def given(self, files: Files) -> Files:
        """Return those of the document's files that go to verification."""
        return {name: data for name, data in files.items() if name != _SHOWS_THE_ROOT.get(self.kind)}

    @classmethod
    def read(cls, text: str) -> "Subject":
        """Read what `str` gives, or raise `EvidenceMalformedError`."""
        kind, *of = text.split("/")
        return cls(kind, tuple(of))


@dataclass(frozen=True, slots=True)
class Validity:
    """From when a document is, and until when it may be used: the earliest end among its parts."""

    issued: datetime
    expires: datetime
