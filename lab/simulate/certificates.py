"""What the simulated vendors' certificate authorities share: names, CA certificates, CRLs, key files."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from attestation.x509 import PSS_PADDING
from schemas.errors import UsageError

ORGANIZATION = "sealbus lab simulator"

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def distinguished_name(common_name: str) -> x509.Name:
    """Make a name that says whose it is: nobody should take it for a vendor's."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def make_ca(
    common_name: str,
    key: Key,
    *,
    serial: int,
    not_before: datetime,
    lifetime: timedelta,
    path_length: int | None = None,
    issuer: tuple[x509.Certificate, Key] | None = None,
) -> x509.Certificate:
    """Make the certificate of an authority, self-signed unless an issuer is given."""
    subject = distinguished_name(common_name)
    issuer_name, issuer_key = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    builder = (
        x509.CertificateBuilder(issuer_name, subject, key.public_key(), serial)
        .not_valid_before(not_before)
        .not_valid_after(not_before + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(certificate_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(issuer_key, SHA384(), rsa_padding=pss_for(issuer_key))


def key_usage(*, certificate_sign: bool) -> x509.KeyUsage:
    """Give the usage of an authority's key, or else of one that signs evidence."""
    return x509.KeyUsage(
        digital_signature=not certificate_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_sign,
        crl_sign=certificate_sign,
        encipher_only=False,
        decipher_only=False,
    )


def make_crl(
    issuer: x509.Certificate,
    key: Key,
    *,
    revoked: Iterable[int] = (),
    this_update: datetime,
    lifetime: timedelta,
) -> bytes:
    """Make a revocation list in DER that names `revoked` serial numbers."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(this_update)
        .next_update(this_update + lifetime)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(this_update)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, SHA384(), rsa_padding=pss_for(key)).public_bytes(Encoding.DER)


def pss_for(key: Key) -> padding.PSS | None:
    """Give the padding that AMD signs with; an elliptic curve has none."""
    if isinstance(key, rsa.RSAPrivateKey):
        return PSS_PADDING
    return None


def der(certificate: x509.Certificate) -> bytes:
    """Encode a certificate."""
    return certificate.public_bytes(Encoding.DER)


def pem(key: Key) -> bytes:
    """Encode a private key for the lab's state directory."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_rsa_key(files: Mapping[str, bytes], name: str) -> rsa.RSAPrivateKey:
    """Load an RSA key of the lab's state directory."""
    key = _load_key(files, name)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise UsageError(f"{name} is a key of another kind: make the lab anew with `sealbus lab init`")
    return key


def load_ec_key(files: Mapping[str, bytes], name: str) -> ec.EllipticCurvePrivateKey:
    """Load an elliptic curve key of the lab's state directory."""
    key = _load_key(files, name)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{name} is a key of another kind: make the lab anew with `sealbus lab init`")
    return key


def _load_key(files: Mapping[str, bytes], name: str) -> PrivateKeyTypes:
    try:
        # Our own file: to prove its primes again costs a quarter of a second, at each start and signature.
        return load_pem_private_key(
            load_file(files, name), password=None, unsafe_skip_rsa_key_validation=True
        )
    except ValueError as error:
        raise UsageError(f"{name} is not a private key: make the lab anew with `sealbus lab init`") from error


def load_certificate(files: Mapping[str, bytes], name: str) -> x509.Certificate:
    """Load a certificate of the lab's state directory."""
    try:
        return x509.load_der_x509_certificate(load_file(files, name))
    except ValueError as error:
        raise UsageError(f"{name} is not a certificate: make the lab anew with `sealbus lab init`") from error


def load_file(files: Mapping[str, bytes], name: str) -> bytes:
    """Take one file out of the lab's state directory."""
    if name not in files:
        raise UsageError(f"{name} is missing: make the lab anew with `sealbus lab init`")
    return files[name]
