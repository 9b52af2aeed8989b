"""Is this an authority under the manufacturer's root, and is this revocation list its own? Pure."""

from collections.abc import Collection
from datetime import datetime

from attestation.errors import NotGenuineError
from attestation.hints import Hint
from attestation.moments import at, span
from attestation.x509 import (
    CERTIFICATE_SIGN,
    CRL_SIGN,
    Certificate,
    RevocationList,
    is_signed_by,
    key_usage,
)
from schemas.errors import Reason


def check_listing(listing: RevocationList, issuer: Certificate, now: datetime) -> None:
    """Check that `issuer` made this list and that it is current, or raise `NotGenuineError`."""
    usage = key_usage(issuer)
    if listing.issuer != issuer.subject or usage is None or not usage & CRL_SIGN:
        raise NotGenuineError(Reason.COLLATERAL_MISMATCH, "CRL is of another issuer")
    if not is_signed_by(issuer.key_info, listing):
        raise NotGenuineError(Reason.SIGNATURE_INVALID, "CRL is not signed by its issuer")
    if not listing.this_update <= now <= listing.next_update:
        raise NotGenuineError(
            Reason.COLLATERAL_EXPIRED,
            "CRL is not current at this time",
            seen=f"the revocation list is {span(listing.this_update, listing.next_update)}, not {at(now)}",
        )


def check_root(root: Certificate, roots: Collection[str]) -> None:
    """Check that `root` is one of `roots`, the manufacturers' or those that were named in their place."""
    if root.fingerprint not in roots:
        which = f"it ends in another root ({root.fingerprint[:16]}…) than those to go by"
        error = NotGenuineError(Reason.CHAIN_INVALID, which)
        error.hint = Hint.ROOT_NOT_GIVEN
        raise error


def check_authority(authority: Certificate, root: Certificate, roots: Collection[str], now: datetime) -> None:
    """Check that `root` is one of `roots` and certified `authority`, both valid at `now`."""
    check_root(root, roots)
    for certificate in (authority, root):
        if certificate.issuer != root.subject or not is_signed_by(root.key_info, certificate):
            raise NotGenuineError(Reason.CHAIN_INVALID, "certificate is not signed by the root it comes with")
        usage = key_usage(certificate)
        if usage is None or not usage & CERTIFICATE_SIGN:
            raise NotGenuineError(Reason.CHAIN_INVALID, "certificate's key may not sign certificates")
        if not certificate.not_before <= now <= certificate.not_after:
            early = now < certificate.not_before
            raise NotGenuineError(
                Reason.CERTIFICATE_NOT_YET_VALID if early else Reason.CERTIFICATE_EXPIRED,
                "certificate is not valid at this time",
                seen=f"a certificate is {span(certificate.not_before, certificate.not_after)}, not {at(now)}",
            )
