"""Is this AMD's VCEK, chain or revocation list that was asked for? (AMD publication 57230). Pure."""

from collections.abc import Collection
from datetime import datetime

from attestation.amd_names import ARK_FILE, ASK_FILE, AUTHORITY, CRL_FILE, SUBJECT, VCEK_FILE
from attestation.bundles.subjects import Files, Validity
from attestation.endorsements.authority import check_authority, check_listing
from attestation.errors import NotGenuineError
from attestation.missing import refuse_without
from attestation.sev_snp.certificate import read_endorsed, unpack_tcb
from attestation.x509 import Certificate, read_certificate, read_revocation_list, verify_chain
from schemas.errors import Reason
from schemas.evidence import VCEK


def check_vcek(of: tuple[str, ...], files: Files, roots: Collection[str], now: datetime) -> Validity:
    """Check that the VCEK is of this chip and TCB, under a chain that ends in one of `roots`."""
    product, chip, tcb = of
    refuse_without((VCEK_FILE,), files)
    ask, ark = _authorities(product, VCEK, files, roots, now)
    vcek = read_certificate(files[VCEK_FILE])
    verify_chain((vcek, ask, ark), now=now)
    endorsed = read_endorsed(vcek)
    if vcek.common_name != SUBJECT[VCEK] or endorsed.product_name != product:
        raise NotGenuineError(Reason.CHIP_MISMATCH, "it is for another kind of key or processor line")
    if endorsed.hardware_id is None or endorsed.hardware_id.hex() != chip:
        raise NotGenuineError(Reason.CHIP_MISMATCH, "it is another chip's certificate")
    if endorsed.tcb != unpack_tcb(bytes.fromhex(tcb), endorsed.product):
        raise NotGenuineError(Reason.TCB_MISMATCH, "it is for another TCB of this chip")
    return Validity(vcek.not_before, min(each.not_after for each in (vcek, ask, ark)))


def check_chain(of: tuple[str, ...], files: Files, roots: Collection[str], now: datetime) -> Validity:
    """Check that intermediate and root are of this product and kind of key, and the root one of `roots`."""
    product, key = of
    ask, ark = _authorities(product, key, files, roots, now)
    return Validity(ask.not_before, min(ask.not_after, ark.not_after))


def check_crl(of: tuple[str, ...], files: Files, roots: Collection[str], now: datetime) -> Validity:
    """Check that the list is current and the root's own.

    Whether it names the intermediate is not asked: a list that revokes is one that verification has to see.
    """
    product, key = of
    refuse_without((CRL_FILE,), files)
    _, ark = _authorities(product, key, files, roots, now)
    listing = read_revocation_list(files[CRL_FILE])
    check_listing(listing, ark, now)
    return Validity(listing.this_update, listing.next_update)


def _authorities(
    product: str, key: str, files: Files, roots: Collection[str], now: datetime
) -> tuple[Certificate, Certificate]:
    refuse_without((ASK_FILE, ARK_FILE), files)
    ask, ark = read_certificate(files[ASK_FILE]), read_certificate(files[ARK_FILE])
    check_authority(ask, ark, roots, now)
    if ask.common_name != AUTHORITY[key] + product:
        raise NotGenuineError(Reason.CHAIN_INVALID, "the intermediate is of another product or kind of key")
    return ask, ark
