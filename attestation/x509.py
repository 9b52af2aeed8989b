"""X.509 certificates, chains and CRLs of the attestation vendors (RFC 5280, profiled down).

Knows the three signature algorithms that AMD, AWS and Intel use and nothing else, trusts no root by itself,
and never goes by a name where a signature can be had.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestation import der
from attestation.errors import EvidenceMalformedError, NotGenuineError
from attestation.memory import FORGETFUL, Remembers
from attestation.moments import at, rfc3339, span
from schemas.errors import Reason
from schemas.toml_place import printable

MAX_CERTIFICATE = 8 * 1024  # the largest genuine one is below 2 KiB
MAX_CRL = 64 * 1024  # AMD's list intermediates, a handful
MAX_EXTENSIONS = 32

COMMON_NAME = "2.5.4.3"
BASIC_CONSTRAINTS = "2.5.29.19"
KEY_USAGE = "2.5.29.15"
UNDERSTOOD = frozenset({BASIC_CONSTRAINTS, KEY_USAGE})

# KeyUsage bits of RFC 5280 section 4.2.1.3, counted from the top of the first octet.
DIGITAL_SIGNATURE, CERTIFICATE_SIGN, CRL_SIGN = 0x80, 0x04, 0x02

# AlgorithmIdentifiers are compared as bytes, so that no parameter of PSS is left to a default. AMD writes
# the PSS parameters with the default trailer field in its roots and without it in its leaf certificates.
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_PSS = (
    "a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130"
)
PSS_SHA384 = bytes.fromhex("304106092a864886f70d01010a3034" + _PSS)
PSS_SHA384_TRAILER = bytes.fromhex("304606092a864886f70d01010a3039" + _PSS + "a303020101")
PSS_PADDING = padding.PSS(mgf=padding.MGF1(SHA384()), salt_length=48)
RSA_BITS = 4096

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Extension:
    """One certificate extension, its value not looked into."""

    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that was read and not yet believed."""

    encoded: bytes
    signed: bytes  # TBSCertificate as received
    serial: int
    algorithm: bytes
    issuer: bytes  # names as DER: they are compared, never interpreted
    subject: bytes
    common_name: str
    not_before: datetime
    not_after: datetime
    key_info: bytes  # SubjectPublicKeyInfo
    extensions: dict[str, Extension]
    signature: bytes

    @property
    def fingerprint(self) -> str:
        """Name the certificate as a policy does: SHA-256 of its DER, in hexadecimal."""
        return sha256(self.encoded).hexdigest()


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A CRL that was read and not yet believed."""

    signed: bytes
    algorithm: bytes
    issuer: bytes
    this_update: datetime
    next_update: datetime
    entries: (
        bytes  # what was revoked, not looked into: it is most of the list, and anybody's until it is verified
    )
    signature: bytes


def read_certificate(data: bytes, memory: Remembers = FORGETFUL) -> Certificate:
    """Read one DER certificate of version 3, or raise `EvidenceMalformedError`."""
    if len(data) > MAX_CERTIFICATE:
        raise EvidenceMalformedError("certificate is too large", Reason.TOO_LARGE)
    return memory.recall("certificate", (data,), lambda: _read_certificate(data))


def _read_certificate(data: bytes) -> Certificate:
    outer = der.read_only(data, der.SEQUENCE)
    signed = outer.item(der.SEQUENCE)
    algorithm = outer.item(der.SEQUENCE)
    signature = der.read_bits(outer)
    outer.finish()

    body = der.read_only(signed, der.SEQUENCE)
    version = body.enter(der.context(0))
    if der.read_integer(version) != 2:
        raise EvidenceMalformedError("certificate is not of version 3")
    version.finish()
    serial = der.read_integer(body)
    # RFC 5280 section 4.1.1.2: what is signed names the algorithm of its signature.
    if body.item(der.SEQUENCE) != algorithm:
        raise EvidenceMalformedError("certificate names two signature algorithms")
    issuer = body.item(der.SEQUENCE)
    validity = body.enter(der.SEQUENCE)
    not_before, not_after = der.read_time(validity), der.read_time(validity)
    validity.finish()
    subject = body.item(der.SEQUENCE)
    key_info = body.item(der.SEQUENCE)
    extensions = {} if body.at_end() else _read_extensions(body.enter(der.context(3)))
    body.finish()
    return Certificate(
        encoded=data,
        signed=signed,
        serial=serial,
        algorithm=algorithm,
        issuer=issuer,
        subject=subject,
        common_name=_common_name(subject),
        not_before=not_before,
        not_after=not_after,
        key_info=key_info,
        extensions=extensions,
        signature=signature,
    )


def _read_extensions(wrapper: der.Reader) -> dict[str, Extension]:
    listed = wrapper.enter(der.SEQUENCE)
    wrapper.finish()
    extensions: dict[str, Extension] = {}
    while not listed.at_end():
        entry = listed.enter(der.SEQUENCE)
        name = der.read_oid(entry)
        critical = entry.next_is(der.BOOLEAN) and der.read_boolean(entry)
        value = entry.content(der.OCTET_STRING)
        entry.finish()
        if name in extensions or len(extensions) == MAX_EXTENSIONS:
            raise EvidenceMalformedError("certificate extensions are repeated or too many")
        extensions[name] = Extension(critical, value)
    return extensions


def _common_name(name: bytes) -> str:
    relative = der.read_only(name, der.SEQUENCE)
    found = ""
    while not relative.at_end():
        members = relative.enter(der.SET)
        while not members.at_end():
            pair = members.enter(der.SEQUENCE)
            kind = der.read_oid(pair)
            tag = der.UTF8_STRING if pair.next_is(der.UTF8_STRING) else der.PRINTABLE_STRING
            # IA5String occurs for domain components and the like, which nobody here asks for.
            tag = der.IA5_STRING if pair.next_is(der.IA5_STRING) else tag
            value = pair.content(tag)
            pair.finish()
            if kind == COMMON_NAME:
                # People are shown it before anybody has verified it: it moves no cursor of theirs.
                found = printable(value.decode("utf-8", errors="replace"))
    return found


def read_revocation_list(data: bytes, memory: Remembers = FORGETFUL) -> RevocationList:
    """Read one DER CRL of version 2 but for its entries, or raise `EvidenceMalformedError`."""
    if len(data) > MAX_CRL:
        raise EvidenceMalformedError("CRL is too large", Reason.TOO_LARGE)
    return memory.recall("revocation list", (data,), lambda: _read_revocation_list(data))


def _read_revocation_list(data: bytes) -> RevocationList:
    outer = der.read_only(data, der.SEQUENCE)
    signed = outer.item(der.SEQUENCE)
    algorithm = outer.item(der.SEQUENCE)
    signature = der.read_bits(outer)
    outer.finish()

    body = der.read_only(signed, der.SEQUENCE)
    if der.read_integer(body) != 1:
        raise EvidenceMalformedError("CRL is not of version 2")
    if body.item(der.SEQUENCE) != algorithm:
        raise EvidenceMalformedError("CRL names two signature algorithms")
    issuer = body.item(der.SEQUENCE)
    this_update, next_update = der.read_time(body), der.read_time(body)
    entries = body.content(der.SEQUENCE) if body.next_is(der.SEQUENCE) else b""
    if body.next_is(der.context(0)):
        # A critical one would say that the list is partial: a delta, or of one distribution point.
        _refuse_critical(_read_extensions(body.enter(der.context(0))))
    body.finish()
    return RevocationList(signed, algorithm, issuer, this_update, next_update, entries, signature)


def read_revoked(listing: RevocationList, memory: Remembers = FORGETFUL) -> frozenset[int]:
    """Read the serial numbers that a CRL names, or raise `EvidenceMalformedError`.

    64 KiB of entries take a tenth of a second: not to be spent on a list before its signature is verified.
    """
    return memory.recall("revoked", (listing.entries,), lambda: _read_revoked(listing.entries))


def _read_revoked(encoded: bytes) -> frozenset[int]:
    serials: set[int] = set()
    entries = der.Reader(encoded)
    while not entries.at_end():
        entry = entries.enter(der.SEQUENCE)
        serials.add(der.read_integer(entry))
        der.read_time(entry)
        if not entry.at_end():
            _refuse_critical(_read_extensions(entry))
    return frozenset(serials)


def _refuse_critical(extensions: dict[str, Extension]) -> None:
    if any(extension.critical for extension in extensions.values()):
        raise NotGenuineError(Reason.CHAIN_INVALID, "CRL has a critical extension that is not understood")


def verify_chain(chain: Sequence[Certificate], *, now: datetime, memory: Remembers = FORGETFUL) -> PublicKey:
    """Verify a chain, leaf first and self-signed root last, at `now`; return the leaf's key.

    RFC 5280 section 6.1, without policies and name constraints (their presence as critical refuses):
    1. every certificate is valid at `now`;
    2. each names its successor's subject as its issuer, the root itself;
    3. each is signed by its successor's key, the root by its own;
    4. each but the leaf is a CA, may sign certificates, and has as many CAs below it as it allows;
    5. no critical extension is left unread, and the leaf is no CA.
    The caller compares the root's fingerprint with what its policy names.
    """
    # 1.
    check_current(chain, now=now)
    # The rest does not depend on the time.
    encoded = tuple(certificate.encoded for certificate in chain)
    return memory.recall("chain", encoded, lambda: _verify_links(chain, memory))


def check_current(chain: Sequence[Certificate], *, now: datetime) -> None:
    """Check that every certificate of a chain is valid at `now`."""
    for depth, certificate in enumerate(chain):
        if not certificate.not_before <= now <= certificate.not_after:
            valid = span(certificate.not_before, certificate.not_after)
            early = now < certificate.not_before
            raise NotGenuineError(
                Reason.CERTIFICATE_NOT_YET_VALID if early else Reason.CERTIFICATE_EXPIRED,
                "certificate is not valid at this time",
                seen=f"the {_place(depth, chain)} certificate is {valid}",
                wanted=at(now),
            )


def _verify_links(chain: Sequence[Certificate], memory: Remembers) -> PublicKey:
    for depth, certificate in enumerate(chain):
        above = min(depth + 1, len(chain) - 1)
        # 2.
        if certificate.issuer != chain[above].subject:
            raise NotGenuineError(
                Reason.CHAIN_INVALID,
                "certificate names another issuer",
                seen=f"the {_place(depth, chain)} certificate names another issuer",
                wanted=f"the {_place(above, chain)} certificate",
            )
        # 3.
        if not is_signed_by(chain[above].key_info, certificate, memory):
            raise NotGenuineError(
                Reason.CHAIN_INVALID,
                "certificate is not signed by its issuer",
                seen=f"the {_place(depth, chain)} certificate is not signed by its issuer",
                wanted=f"signed by the {_place(above, chain)} certificate's key",
            )
        # 4. and 5.
        _check_constraints(certificate, depth, f"the {_place(depth, chain)} certificate")
    return load_public_key(chain[0].key_info, memory)


def _place(depth: int, chain: Sequence[Certificate]) -> str:
    # By its place, because a name in it is whatever a forger wrote.
    return "leaf" if depth == 0 else "root" if depth == len(chain) - 1 else "intermediate"


def _check_constraints(certificate: Certificate, depth: int, which: str) -> None:
    for name, extension in certificate.extensions.items():
        if extension.critical and name not in UNDERSTOOD:
            what = "certificate has a critical extension not understood"
            raise NotGenuineError(
                Reason.CHAIN_INVALID, what, seen=f"{which} has one that is critical: {name}"
            )
    is_ca, path_length = _basic_constraints(certificate)
    usage = key_usage(certificate)
    if depth == 0:
        if is_ca:
            raise NotGenuineError(Reason.CHAIN_INVALID, "the leaf certificate is a CA's")
        return
    if not is_ca or (path_length is not None and depth - 1 > path_length):
        what = "certificate may not issue at this depth"
        raise NotGenuineError(
            Reason.CHAIN_INVALID,
            what,
            seen=f"{which} is no authority's that may issue here",
            wanted=f"a CA's that allows {depth - 1} below it",
        )
    if usage is None or not usage & CERTIFICATE_SIGN:
        what = "certificate's key may not sign certificates"
        raise NotGenuineError(Reason.CHAIN_INVALID, what, seen=f"{which}'s key may not sign certificates")


def _basic_constraints(certificate: Certificate) -> tuple[bool, int | None]:
    extension = certificate.extensions.get(BASIC_CONSTRAINTS)
    if extension is None:
        return False, None
    body = der.read_only(extension.value, der.SEQUENCE)
    is_ca = body.next_is(der.BOOLEAN) and der.read_boolean(body)
    path_length = None if body.at_end() else der.read_integer(body)
    body.finish()
    return is_ca, path_length


def key_usage(certificate: Certificate) -> int | None:
    """Give the first octet of the certificate's key usage, None if it states none."""
    extension = certificate.extensions.get(KEY_USAGE)
    if extension is None:
        return None
    reader = der.Reader(extension.value)
    content = reader.content(der.BIT_STRING)
    reader.finish()
    if not 2 <= len(content) <= 3:
        raise EvidenceMalformedError("key usage has no bits")
    return content[1]


def verify_not_revoked(
    certificate: Certificate,
    issuer: Certificate,
    listing: RevocationList,
    *,
    now: datetime,
    memory: Remembers = FORGETFUL,
) -> None:
    """Check that `issuer`'s own list, current at `now`, leaves out `certificate` (RFC 5280 section 6.3)."""
    verify_list(listing, issuer, now=now, memory=memory)
    if certificate.issuer != issuer.subject:
        raise NotGenuineError(Reason.COLLATERAL_MISMATCH, "CRL is of another issuer")
    # 4. It does not name the certificate.
    if certificate.serial in read_revoked(listing, memory):
        below = "intermediate" if _basic_constraints(certificate)[0] else "leaf"
        which = "root" if certificate.subject == issuer.subject else below
        raise NotGenuineError(
            Reason.CERTIFICATE_REVOKED,
            "a certificate of the chain is revoked",
            seen=f"the {which} certificate, serial number {certificate.serial:x}, is in the "
            f"{_whose(issuer)} revocation list of {rfc3339(listing.this_update)}",
            wanted="one that is not in it",
        )


def verify_list(
    listing: RevocationList, issuer: Certificate, *, now: datetime, memory: Remembers = FORGETFUL
) -> None:
    """Check that a list is `issuer`'s own and current at `now`, whomever it names."""
    # 1. The list is of the issuer whose serial numbers it names, and that issuer may sign lists.
    if listing.issuer != issuer.subject:
        raise NotGenuineError(Reason.COLLATERAL_MISMATCH, "CRL is of another issuer")
    usage = key_usage(issuer)
    if usage is None or not usage & CRL_SIGN:
        raise NotGenuineError(Reason.CHAIN_INVALID, "issuer's key may not sign CRLs")
    # 2. It is signed by it.
    if not is_signed_by(issuer.key_info, listing, memory):
        raise NotGenuineError(Reason.SIGNATURE_INVALID, "CRL is not signed by its issuer")
    # 3. It is current: an old list would hide what was revoked since.
    if not listing.this_update <= now <= listing.next_update:
        raise NotGenuineError(
            Reason.COLLATERAL_EXPIRED,
            "CRL is not current at this time",
            seen=f"the {_whose(issuer)} revocation list is {span(listing.this_update, listing.next_update)}",
            wanted=at(now),
        )


def _whose(issuer: Certificate) -> str:
    # By their places, as above.
    return "root's" if issuer.issuer == issuer.subject else "intermediate's"


def load_public_key(key_info: bytes, memory: Remembers = FORGETFUL) -> PublicKey:
    """Load an RSA-4096, P-384 or P-256 key; the vendors here use no other."""
    return memory.recall("public key", (key_info,), lambda: _load_public_key(key_info))


def _load_public_key(key_info: bytes) -> PublicKey:
    try:
        key = load_der_public_key(key_info)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EvidenceMalformedError("certificate's public key is not a key") from error
    if isinstance(key, rsa.RSAPublicKey) and key.key_size == RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1 | ec.SECP256R1):
        return key
    raise NotGenuineError(Reason.CHAIN_INVALID, "certificate's public key is of a kind no vendor uses")


def verify_p384(key: PublicKey, r: int, s: int, signed: bytes) -> None:
    """Verify that evidence, whose format splits its signature into two numbers, is signed by `key`."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise NotGenuineError(Reason.CHAIN_INVALID, "the endorsed key is not of the kind that signs evidence")
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA384()))
    except InvalidSignature as error:
        raise NotGenuineError(
            Reason.SIGNATURE_INVALID, "evidence is not signed by the endorsed key"
        ) from error


def is_signed_by(
    key_info: bytes, document: Certificate | RevocationList, memory: Remembers = FORGETFUL
) -> bool:
    """Say whether a certificate or CRL is signed by this key, under exactly the algorithm that it names."""
    key = load_public_key(key_info, memory)
    try:
        return memory.recall(
            "signature",
            (key_info, document.algorithm, document.signature, document.signed),
            lambda: _verify(key, document),
        )
    except InvalidSignature:
        return False


def _verify(key: PublicKey, document: Certificate | RevocationList) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        if document.algorithm not in (PSS_SHA384, PSS_SHA384_TRAILER):
            raise InvalidSignature
        key.verify(document.signature, document.signed, PSS_PADDING, SHA384())
        return True
    expected, digest = (ECDSA_SHA256, SHA256()) if key.key_size == 256 else (ECDSA_SHA384, SHA384())
    if document.algorithm != expected:
        raise InvalidSignature
    key.verify(document.signature, document.signed, ec.ECDSA(digest))
    return True
