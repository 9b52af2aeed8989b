"""Intel's collateral for TDX (PCS API version 4): TCB info, TD QE identity and the chains that sign them.

A signature covers the JSON value exactly as it was served, so the bytes between are never
re-serialised: what is verified is what is then read. Fetching and caching are not done here.
"""

import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Annotated, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from msgspec import Meta

from attestation.errors import EvidenceMalformedError, NotGenuineError
from attestation.memory import FORGETFUL, Remembers
from attestation.missing import missing_of
from attestation.moments import at, span
from attestation.x509 import (
    DIGITAL_SIGNATURE,
    Certificate,
    RevocationList,
    key_usage,
    load_public_key,
    read_certificate,
    read_revocation_list,
    verify_chain,
    verify_not_revoked,
)
from schemas.errors import Reason
from schemas.evidence import MAX_ENDORSEMENTS, Endorsements

TCB_INFO, TCB_INFO_CHAIN = "tcb_info.json", "tcb_info_chain.pem"
QE_IDENTITY, QE_IDENTITY_CHAIN = "qe_identity.json", "qe_identity_chain.pem"
PCK_CRL, PCK_CRL_CHAIN = "pck_crl.der", "pck_crl_chain.pem"
ROOT_CA_CRL = "root_ca_crl.der"
NAMES = (TCB_INFO, TCB_INFO_CHAIN, QE_IDENTITY, QE_IDENTITY_CHAIN, PCK_CRL, PCK_CRL_CHAIN, ROOT_CA_CRL)

# The root also issues CAs; only the certificate of this name (with "Intel" before it) speaks for TCBs.
TCB_SIGNER = "SGX TCB Signing"

PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\r\n]{1,12000})-----END CERTIFICATE-----[\r\n]*")

Struct = TypeVar("Struct", bound=msgspec.Struct)
Byte = Annotated[int, Meta(ge=0, le=0xFF)]
Svn = Annotated[int, Meta(ge=0, le=0xFFFF)]
Number = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Time = Annotated[datetime, Meta(tz=True)]
Advisories = Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=256)]
Status = Annotated[str, Meta(max_length=64)]
Hex2 = Annotated[str, Meta(pattern="^[0-9a-fA-F]{4}\\Z")]
Hex4 = Annotated[str, Meta(pattern="^[0-9a-fA-F]{8}\\Z")]
Hex6 = Annotated[str, Meta(pattern="^[0-9a-fA-F]{12}\\Z")]
Hex8 = Annotated[str, Meta(pattern="^[0-9a-fA-F]{16}\\Z")]
Hex16 = Annotated[str, Meta(pattern="^[0-9a-fA-F]{32}\\Z")]
Hex32 = Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}\\Z")]
Hex48 = Annotated[str, Meta(pattern="^[0-9a-fA-F]{96}\\Z")]
Hex64 = Annotated[str, Meta(pattern="^[0-9a-fA-F]{128}\\Z")]


class Component(msgspec.Struct, frozen=True):
    """The SVN of one TCB component; category and type are for people."""

    svn: Byte


Components = Annotated[tuple[Component, ...], Meta(min_length=16, max_length=16)]


class PlatformTcb(msgspec.Struct, frozen=True):
    """What a platform needs at least to stand at a level."""

    sgxtcbcomponents: Components
    tdxtcbcomponents: Components
    pcesvn: Svn

    @property
    def svns(self) -> tuple[int, ...]:
        """Return all numbers, in one order."""
        components = (*self.sgxtcbcomponents, *self.tdxtcbcomponents)
        return (*(each.svn for each in components), self.pcesvn)


class PlatformLevel(msgspec.Struct, frozen=True, rename="camel"):
    """One level of a platform, best first in its list."""

    tcb: PlatformTcb
    tcb_status: Status
    advisories: Advisories = msgspec.field(name="advisoryIDs", default=())


class EnclaveTcb(msgspec.Struct, frozen=True):
    """What an enclave or the TDX module needs at least to stand at a level."""

    isvsvn: Svn


class EnclaveLevel(msgspec.Struct, frozen=True, rename="camel"):
    """One level of the QE or the TDX module, best first in its list."""

    tcb: EnclaveTcb
    tcb_status: Status
    advisories: Advisories = msgspec.field(name="advisoryIDs", default=())


EnclaveLevels = Annotated[tuple[EnclaveLevel, ...], Meta(min_length=1, max_length=64)]


class TdxModule(msgspec.Struct, frozen=True, rename="camel"):
    """Who signs the TDX module and what attributes it must have."""

    mrsigner: Hex48
    attributes: Hex8
    attributes_mask: Hex8


class TdxModuleIdentity(TdxModule, frozen=True, rename="camel"):
    """The same for one major version of the module, with its levels."""

    id: Annotated[str, Meta(max_length=16)]
    tcb_levels: EnclaveLevels


class TcbInfo(msgspec.Struct, frozen=True, rename="camel"):
    """TDX TCB info version 3 of one platform family. Unknown fields are Intel's to add, and are signed."""

    id: str
    version: int
    issue_date: Time
    next_update: Time
    fmspc: Hex6
    pce_id: Hex2
    tcb_type: int
    tcb_evaluation_data_number: Number
    tdx_module: TdxModule
    tcb_levels: Annotated[tuple[PlatformLevel, ...], Meta(min_length=1, max_length=256)]
    tdx_module_identities: Annotated[tuple[TdxModuleIdentity, ...], Meta(max_length=32)] = ()


class QeIdentity(msgspec.Struct, frozen=True, rename="camel"):
    """TD QE identity version 2: which enclave may sign quotes."""

    id: str
    version: int
    issue_date: Time
    next_update: Time
    tcb_evaluation_data_number: Number
    miscselect: Hex4
    miscselect_mask: Hex4
    attributes: Hex16
    attributes_mask: Hex16
    mrsigner: Hex32
    isvprodid: Svn
    tcb_levels: EnclaveLevels


class _SignedTcbInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    body: msgspec.Raw = msgspec.field(name="tcbInfo")
    signature: Hex64


class _SignedQeIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    body: msgspec.Raw = msgspec.field(name="enclaveIdentity")
    signature: Hex64


Signed = TypeVar("Signed", _SignedTcbInfo, _SignedQeIdentity)
Dated = TypeVar("Dated", TcbInfo, QeIdentity)


@dataclass(frozen=True, slots=True)
class Collateral:
    """The documents that a TDX verdict rests on, read and not yet believed. A pair is whole or absent."""

    tcb_info: tuple[_SignedTcbInfo, tuple[Certificate, ...]] | None
    qe_identity: tuple[_SignedQeIdentity, tuple[Certificate, ...]] | None
    pck_crl: tuple[RevocationList, tuple[Certificate, ...]] | None
    root_ca_crl: RevocationList | None
    missing: tuple[str, ...]  # by name; what can't be checked for want of it is for the policy to refuse


def read_collateral(endorsements: Endorsements, memory: Remembers = FORGETFUL) -> Collateral:
    """Read what there is of the seven documents, each with its chain."""
    for name in NAMES:
        if len(endorsements.get(name, b"")) > MAX_ENDORSEMENTS:
            raise EvidenceMalformedError(f"{name} is too large", Reason.TOO_LARGE)
    missing = missing_of(NAMES, endorsements)

    def whole(*names: str) -> bool:
        return not set(names) & set(missing)

    def signed(name: str, chain: str, kind: type[Signed]) -> tuple[Signed, tuple[Certificate, ...]] | None:
        if not whole(name, chain):
            return None
        data = endorsements[name]
        body = memory.recall(f"signed {name}", (data,), lambda: _decode(data, kind))
        return body, read_chain(endorsements[chain], 2, memory)

    return Collateral(
        tcb_info=signed(TCB_INFO, TCB_INFO_CHAIN, _SignedTcbInfo),
        qe_identity=signed(QE_IDENTITY, QE_IDENTITY_CHAIN, _SignedQeIdentity),
        pck_crl=(
            read_revocation_list(endorsements[PCK_CRL], memory),
            read_chain(endorsements[PCK_CRL_CHAIN], 2, memory),
        )
        if whole(PCK_CRL, PCK_CRL_CHAIN)
        else None,
        root_ca_crl=read_revocation_list(endorsements[ROOT_CA_CRL], memory) if whole(ROOT_CA_CRL) else None,
        missing=missing,
    )


def check_form(name: str, data: bytes) -> None:
    """Raise `EvidenceMalformedError` unless a chain or document is of the form that its name says."""
    if name.endswith(".pem"):
        read_chain(data, 2)
    elif name == TCB_INFO:
        _levels_in_order(_decode(_decode(data, _SignedTcbInfo).body, TcbInfo))
    elif name == QE_IDENTITY:
        _levels_in_order(_decode(_decode(data, _SignedQeIdentity).body, QeIdentity))


def read_chain(pem: bytes, length: int, memory: Remembers = FORGETFUL) -> tuple[Certificate, ...]:
    """Read exactly `length` certificates in PEM, leaf first; C strings keep their final NUL."""
    return memory.recall(f"chain of {length}", (pem,), lambda: _read_chain(pem, length, memory))


def _read_chain(pem: bytes, length: int, memory: Remembers) -> tuple[Certificate, ...]:
    pem = pem.removesuffix(b"\x00")
    blocks: list[bytes] = []
    at = 0
    while at < len(pem):
        block = PEM.match(pem, at)
        if block is None or len(blocks) == length:
            raise EvidenceMalformedError("certificate chain is not PEM, or too long")
        blocks.append(block[1].replace(b"\r", b"").replace(b"\n", b""))
        at = block.end()
    if len(blocks) != length:
        raise EvidenceMalformedError("certificate chain is too short")
    return tuple(read_certificate(_from_base64(block), memory) for block in blocks)


def _from_base64(text: bytes) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise EvidenceMalformedError("certificate is not base64") from error


def _decode(data: bytes | msgspec.Raw, kind: type[Struct]) -> Struct:
    try:
        return msgspec.json.decode(data, type=kind)
    # UnicodeDecodeError is a ValueError, and so is msgspec's own.
    except (ValueError, RecursionError, OverflowError) as error:
        raise EvidenceMalformedError("collateral is not the JSON it should be") from error


def open_tcb_info(
    collateral: Collateral, root: Certificate, *, now: datetime, memory: Remembers = FORGETFUL
) -> TcbInfo | None:
    """Verify who signed the TCB info, and that it is of TDX and current at `now`; None if it is absent."""
    crl = collateral.root_ca_crl
    info = _open(collateral.tcb_info, TcbInfo, "TCB info", root, crl, now=now, memory=memory)
    if info is not None and (info.id, info.version, info.tcb_type) != ("TDX", 3, 0):
        raise NotGenuineError(Reason.COLLATERAL_MISMATCH, "TCB info is of another TEE or version")
    return info


def open_qe_identity(
    collateral: Collateral, root: Certificate, *, now: datetime, memory: Remembers = FORGETFUL
) -> QeIdentity | None:
    """Verify who signed the QE identity, and that it is of the TD QE and current; None if it is absent."""
    crl = collateral.root_ca_crl
    identity = _open(collateral.qe_identity, QeIdentity, "QE identity", root, crl, now=now, memory=memory)
    if identity is not None and (identity.id, identity.version) != ("TD_QE", 2):
        raise NotGenuineError(Reason.COLLATERAL_MISMATCH, "QE identity is of another enclave or version")
    return identity


def _levels_in_order(document: Dated) -> Dated:
    """Return a document whose levels stand best first: the first one that is met is what counts."""
    enclaves = [document.tcb_levels] if isinstance(document, QeIdentity) else []
    if isinstance(document, TcbInfo):
        enclaves = [module.tcb_levels for module in document.tdx_module_identities]
        _refuse_better_after([level.tcb.svns for level in document.tcb_levels])
    for levels in enclaves:
        _refuse_better_after([(level.tcb.isvsvn,) for level in levels])
    return document


def _refuse_better_after(levels: Sequence[tuple[int, ...]]) -> None:
    for one, following in pairwise(levels):
        if all(after >= before for before, after in zip(one, following, strict=True)):
            raise EvidenceMalformedError("collateral has TCB levels that are not in descending order")


def _open(
    served: tuple[_SignedTcbInfo | _SignedQeIdentity, tuple[Certificate, ...]] | None,
    kind: type[Dated],
    what: str,
    root: Certificate,
    root_ca_crl: RevocationList | None,
    *,
    now: datetime,
    memory: Remembers,
) -> Dated | None:
    if served is None:
        return None
    document, chain = served
    key = _verify_signer(chain, root, root_ca_crl, now=now, memory=memory)
    signature, body = bytes.fromhex(document.signature), bytes(document.body)
    inputs = (chain[0].key_info, signature, body)
    memory.recall("collateral signature", inputs, lambda: verify_p256(key, signature, body, what))
    opened = memory.recall(what, (body,), lambda: _levels_in_order(_decode(body, kind)))
    if not opened.issue_date <= now <= opened.next_update:
        raise NotGenuineError(
            Reason.COLLATERAL_EXPIRED,
            "collateral is not current at this time",
            seen=f"the {what} is {span(opened.issue_date, opened.next_update)}",
            wanted=at(now),
        )
    return opened


def _verify_signer(
    chain: tuple[Certificate, ...],
    root: Certificate,
    root_ca_crl: RevocationList | None,
    *,
    now: datetime,
    memory: Remembers,
) -> ec.EllipticCurvePublicKey:
    signer, anchor = chain
    if anchor.encoded != root.encoded:
        raise NotGenuineError(Reason.CHAIN_INVALID, "collateral and quote end in different roots")
    verify_chain(chain, now=now, memory=memory)
    usage = key_usage(signer)
    if not signer.common_name.endswith(TCB_SIGNER) or usage is None or not usage & DIGITAL_SIGNATURE:
        raise NotGenuineError(Reason.CHAIN_INVALID, "collateral is not signed by a TCB signer")
    if root_ca_crl is not None:
        verify_not_revoked(signer, root, root_ca_crl, now=now, memory=memory)
    return p256_key(signer, memory)


def p256_key(certificate: Certificate, memory: Remembers = FORGETFUL) -> ec.EllipticCurvePublicKey:
    """Give the certificate's key, which for Intel is always P-256."""
    key = load_public_key(certificate.key_info, memory)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise NotGenuineError(Reason.CHAIN_INVALID, "certificate's key is not P-256")
    return key


def verify_p256(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes, what: str) -> None:
    """Verify a bare r || s signature with SHA-256, or refuse `what` it was to vouch for."""
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise NotGenuineError(
            Reason.SIGNATURE_INVALID, f"the signature of the {what} is not valid"
        ) from error
