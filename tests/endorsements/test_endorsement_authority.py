"""Who may have issued what is fetched: one change to a good authority or list, one refusal."""

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384

from attestation.endorsements.authority import check_authority, check_listing
from attestation.errors import NotGenuineError
from attestation.x509 import Certificate, read_certificate, read_revocation_list
from lab.simulate import certificates
from schemas.errors import Reason
from tests.endorsements.world import NOW

YEAR = timedelta(days=365)
ROOT_KEY, KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
ROOT = certificates.make_ca("Root", ROOT_KEY, serial=1, not_before=NOW, lifetime=YEAR)
TRUSTED = read_certificate(certificates.der(ROOT))
ROOTS = (TRUSTED.fingerprint,)


def authority(
    issuer_key: ec.EllipticCurvePrivateKey = ROOT_KEY, *, issuer: x509.Certificate = ROOT, days: int = 30
) -> Certificate:
    made = certificates.make_ca(
        "Authority",
        KEY,
        serial=2,
        not_before=NOW,
        lifetime=timedelta(days=days),
        issuer=(issuer, issuer_key),
    )
    return read_certificate(certificates.der(made))


def test_a_name_that_moves_the_cursor_is_read_as_escapes() -> None:
    named = certificates.make_ca(
        "\x1b[2J\r\u202eName", KEY, serial=2, not_before=NOW, lifetime=timedelta(days=1)
    )
    assert read_certificate(certificates.der(named)).common_name == "\\x1b[2J\\r\\u202eName"


def leaf_of_root() -> Certificate:
    builder = (
        x509.CertificateBuilder(ROOT.subject, certificates.distinguished_name("Leaf"), KEY.public_key(), 3)
        .not_valid_before(NOW)
        .not_valid_after(NOW + YEAR)
        .add_extension(certificates.key_usage(certificate_sign=False), critical=True)
    )
    return read_certificate(certificates.der(builder.sign(ROOT_KEY, SHA384())))


def refused(
    certificate: Certificate, *, root: Certificate = TRUSTED, now: datetime = NOW
) -> tuple[Reason, str]:
    with pytest.raises(NotGenuineError) as caught:
        check_authority(certificate, root, ROOTS, now)
    return caught.value.reason, caught.value.detail


def test_an_authority_that_a_trusted_root_certified_may_issue() -> None:
    check_authority(authority(), TRUSTED, ROOTS, NOW)


def test_a_name_under_the_trusted_root_is_not_its_signature() -> None:
    assert refused(authority(OTHER_KEY))[0] is Reason.CHAIN_INVALID


def test_an_authority_of_another_name_above_it_is_refused() -> None:
    other = certificates.make_ca("Other root", ROOT_KEY, serial=1, not_before=NOW, lifetime=YEAR)
    reason, detail = refused(authority(issuer=other))
    assert (reason, "not signed by the root" in detail) == (Reason.CHAIN_INVALID, True)


def test_a_root_of_the_same_name_and_another_key_is_refused() -> None:
    made = certificates.make_ca("Root", OTHER_KEY, serial=1, not_before=NOW, lifetime=YEAR)
    other = read_certificate(certificates.der(made))
    reason, detail = refused(authority(OTHER_KEY, issuer=made), root=other)
    assert (reason, "another root" in detail) == (Reason.CHAIN_INVALID, True)


def test_a_certificate_that_may_not_sign_certificates_is_no_authority() -> None:
    assert "may not sign certificates" in refused(leaf_of_root())[1]


def test_an_authority_is_of_its_time() -> None:
    assert refused(authority(), now=NOW - timedelta(days=1))[0] is Reason.CERTIFICATE_NOT_YET_VALID
    assert refused(authority(), now=NOW + timedelta(days=31))[0] is Reason.CERTIFICATE_EXPIRED


def listing(issuer: x509.Certificate = ROOT, key: ec.EllipticCurvePrivateKey = ROOT_KEY) -> bytes:
    return certificates.make_crl(issuer, key, this_update=NOW, lifetime=timedelta(days=20))


def test_a_roots_own_current_list_is_taken() -> None:
    check_listing(read_revocation_list(listing()), TRUSTED, NOW)


def test_a_list_in_another_name_is_refused_though_the_key_is_the_same() -> None:
    other = certificates.make_ca("Other root", ROOT_KEY, serial=1, not_before=NOW, lifetime=YEAR)
    with pytest.raises(NotGenuineError) as caught:
        check_listing(read_revocation_list(listing(other)), TRUSTED, NOW)
    assert caught.value.reason is Reason.COLLATERAL_MISMATCH


def test_a_list_in_the_roots_name_and_by_another_key_is_refused() -> None:
    with pytest.raises(NotGenuineError) as caught:
        check_listing(read_revocation_list(listing(key=OTHER_KEY)), TRUSTED, NOW)
    assert caught.value.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("days", [-1, 21], ids=["too early", "too late"])
def test_a_list_is_of_its_time(days: int) -> None:
    with pytest.raises(NotGenuineError) as caught:
        check_listing(read_revocation_list(listing()), TRUSTED, NOW + timedelta(days=days))
    assert caught.value.reason is Reason.COLLATERAL_EXPIRED
