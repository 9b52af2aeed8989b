"""Is this Intel's TCB info, QE identity or revocation list that was asked for? (PCS API version 4). Pure."""

from collections.abc import Collection
from datetime import datetime

from attestation.bundles.subjects import Files, Validity
from attestation.endorsements.authority import check_authority, check_listing, check_root
from attestation.errors import NotGenuineError
from attestation.missing import refuse_without
from attestation.needs import PCK_AUTHORITIES
from attestation.tdx.collateral import (
    PCK_CRL,
    PCK_CRL_CHAIN,
    QE_IDENTITY,
    QE_IDENTITY_CHAIN,
    ROOT_CA_CRL,
    TCB_INFO,
    TCB_INFO_CHAIN,
    QeIdentity,
    TcbInfo,
    open_qe_identity,
    open_tcb_info,
    read_chain,
    read_collateral,
)
from attestation.x509 import Certificate, read_revocation_list
from schemas.errors import Reason


def check_tcb_info(of: tuple[str, ...], files: Files, roots: Collection[str], now: datetime) -> Validity:
    """Check that the TCB info is of this FMSPC, current, and signed under one of `roots`."""
    (fmspc,) = of
    refuse_without((TCB_INFO, TCB_INFO_CHAIN), files)
    root = _root(files[TCB_INFO_CHAIN], roots)
    info = open_tcb_info(read_collateral(files), root, now=now)
    if info is None or info.fmspc.lower() != fmspc:
        raise NotGenuineError(Reason.COLLATERAL_MISMATCH, "it is of another platform (FMSPC)")
    return _validity(info, files[TCB_INFO_CHAIN])


def check_qe_identity(of: tuple[str, ...], files: Files, roots: Collection[str], now: datetime) -> Validity:
    """Check that the identity is the TD quoting enclave's, current, and signed under one of `roots`."""
    del of
    refuse_without((QE_IDENTITY, QE_IDENTITY_CHAIN), files)
    root = _root(files[QE_IDENTITY_CHAIN], roots)
    identity = open_qe_identity(read_collateral(files), root, now=now)
    if identity is None:
        raise NotGenuineError(Reason.COLLATERAL_MISMATCH, "it is no identity of a quoting enclave")
    return _validity(identity, files[QE_IDENTITY_CHAIN])


def check_pck_crl(of: tuple[str, ...], files: Files, roots: Collection[str], now: datetime) -> Validity:
    """Check that the list is current and of this PCK authority, which one of `roots` certified."""
    (which,) = of
    refuse_without((PCK_CRL, PCK_CRL_CHAIN), files)
    authority, root = read_chain(files[PCK_CRL_CHAIN], 2)
    check_authority(authority, root, roots, now)
    if not authority.common_name.endswith(PCK_AUTHORITIES[which]):
        raise NotGenuineError(Reason.COLLATERAL_MISMATCH, "CRL is of the other PCK authority")
    listing = read_revocation_list(files[PCK_CRL])
    check_listing(listing, authority, now)
    expires = min(listing.next_update, authority.not_after, root.not_after)
    return Validity(listing.this_update, expires)


def check_root_ca_crl(of: tuple[str, ...], files: Files, roots: Collection[str], now: datetime) -> Validity:
    """Check that the list is current and the root's own; a chain beside it says which root that is."""
    del of
    refuse_without((ROOT_CA_CRL, PCK_CRL_CHAIN), files)
    root = _root(files[PCK_CRL_CHAIN], roots)
    listing = read_revocation_list(files[ROOT_CA_CRL])
    check_listing(listing, root, now)
    return Validity(listing.this_update, min(listing.next_update, root.not_after))


def _root(chain: bytes, roots: Collection[str]) -> Certificate:
    _, root = read_chain(chain, 2)
    check_root(root, roots)
    return root


def _validity(document: TcbInfo | QeIdentity, chain: bytes) -> Validity:
    ends = [certificate.not_after for certificate in read_chain(chain, 2)]
    return Validity(document.issue_date, min(document.next_update, *ends))
