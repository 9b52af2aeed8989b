"""What Intel is to a TDX machine: root, PCK and TCB signing certificates, TCB info, QE identity, CRLs.

True to the formats (Intel SGX PCK Certificate and CRL Profile, PCS API version 4), under a root of the
lab's own that only a policy which names it trusts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from attestation import der
from attestation.tdx.pck import COMPONENTS, CPUSVN, FMSPC, PCE_ID, PCESVN, PPID, SGX_EXTENSION, TCB
from lab.simulate import certificates

ROOT, PCK_CA, TCB_SIGNER = "tdx-root", "tdx-pck-ca", "tdx-tcb-signing"
NAMES = {
    ROOT: "Lab SGX Root CA",
    PCK_CA: "Lab SGX PCK Platform CA",
    TCB_SIGNER: "Lab SGX TCB Signing",
}

YEAR = timedelta(days=365)
AUTHORITY_LIFE = 20 * YEAR  # the policy pins this root, and re-signing a policy takes people
PCK_LIFE = 7 * YEAR  # as Intel's
COLLATERAL_LIFE = timedelta(days=30)  # as Intel's
BACKDATED = timedelta(hours=1)  # verifiers' clocks may be behind the machine's

LAB_FMSPC = bytes.fromhex("1ab0c06f0000")
LAB_PCE_ID = bytes(2)
SGX_COMPONENTS = (3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0)
LAB_PCESVN = 13
TEE_TCB_SVN = bytes((11, 1, 4)) + bytes(13)  # TDX module 1.5, minor 11

QE_MRSIGNER = sha256(b"sealbus lab: signer of the TD quoting enclave").digest()
QE_ATTRIBUTES = bytes.fromhex("1100000000000000" + "0000000000000000")
QE_ATTRIBUTES_MASK = bytes.fromhex("fbffffffffffffff" + "0000000000000000")
QE_ISVPRODID = 2
QE_ISVSVN = 6

_BOOLEAN_TRUE = der.item(der.BOOLEAN, b"\xff")


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """A certificate and the key that goes with it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_root(now: datetime) -> dict[str, bytes]:
    """Make the lab's root, PCK CA and TCB signing certificate, as files of the lab's state directory."""
    root_key = _new_key()
    root = _issue(ROOT, root_key.public_key(), None, root_key, now, path_length=1)
    files = _files(ROOT, Authority(root, root_key))
    for name, path_length in ((PCK_CA, 0), (TCB_SIGNER, None)):
        key = _new_key()
        certificate = _issue(name, key.public_key(), root, root_key, now, path_length=path_length)
        files |= _files(name, Authority(certificate, key))
    return files


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _files(name: str, authority: Authority) -> dict[str, bytes]:
    return {
        f"{name}.pem": certificates.pem(authority.key),
        f"{name}.der": certificates.der(authority.certificate),
    }


def _issue(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    *,
    path_length: int | None,
) -> x509.Certificate:
    subject = certificates.distinguished_name(NAMES[name])
    builder = _builder(subject, key, subject if issuer is None else issuer.subject, issuer_key)
    builder = builder.not_valid_before(now - BACKDATED).not_valid_after(now + AUTHORITY_LIFE)
    is_ca = path_length is not None
    builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
    return builder.add_extension(certificates.key_usage(certificate_sign=is_ca), critical=True).sign(
        issuer_key, SHA256()
    )


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(authority_key, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def sgx_extension(ppid: bytes) -> bytes:
    """Encode the SGX extension of a PCK certificate for the lab's platform family."""
    tcb = [_pair(name, der.integer(svn)) for name, svn in zip(COMPONENTS, SGX_COMPONENTS, strict=True)]
    tcb.append(_pair(PCESVN, der.integer(LAB_PCESVN)))
    tcb.append(_pair(CPUSVN, der.item(der.OCTET_STRING, bytes(SGX_COMPONENTS))))
    configuration = [_pair(f"{SGX_EXTENSION}.7.{number}", _BOOLEAN_TRUE) for number in (1, 2, 3)]
    return der.item(
        der.SEQUENCE,
        _pair(PPID, der.item(der.OCTET_STRING, ppid)),
        _pair(TCB, der.item(der.SEQUENCE, *tcb)),
        _pair(PCE_ID, der.item(der.OCTET_STRING, LAB_PCE_ID)),
        _pair(FMSPC, der.item(der.OCTET_STRING, LAB_FMSPC)),
        _pair(f"{SGX_EXTENSION}.5", der.item(der.ENUMERATED, b"\x01")),
        _pair(f"{SGX_EXTENSION}.6", der.item(der.OCTET_STRING, sha256(ppid).digest()[:16])),
        _pair(f"{SGX_EXTENSION}.7", der.item(der.SEQUENCE, *configuration)),
    )


def _pair(name: str, value: bytes) -> bytes:
    return der.item(der.SEQUENCE, der.oid(name), value)


def tcb_info(now: datetime) -> dict[str, Any]:
    """Say at which level the lab's platforms stand: up to date; an older one is there to be missed."""
    components = [{"svn": svn} for svn in SGX_COMPONENTS]
    tdx_components = [{"svn": svn} for svn in (5, 0, *TEE_TCB_SVN[2:])]
    tcb = {"sgxtcbcomponents": components, "pcesvn": LAB_PCESVN, "tdxtcbcomponents": tdx_components}
    older = {**tcb, "pcesvn": 5}
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    module_levels = [_level({"isvsvn": 5}, "UpToDate"), _level({"isvsvn": 2}, "OutOfDate", "INTEL-SA-01036")]
    return {
        "id": "TDX",
        "version": 3,
        **_window(now),
        "fmspc": LAB_FMSPC.hex().upper(),
        "pceId": LAB_PCE_ID.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": 19,
        "tdxModule": module,
        "tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": module_levels}],
        "tcbLevels": [_level(tcb, "UpToDate"), _level(older, "OutOfDate", "INTEL-SA-00837")],
    }


def qe_identity(now: datetime) -> dict[str, Any]:
    """Say which enclave quotes on the lab's platforms."""
    return {
        "id": "TD_QE",
        "version": 2,
        **_window(now),
        "tcbEvaluationDataNumber": 19,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": QE_ATTRIBUTES.hex().upper(),
        "attributesMask": QE_ATTRIBUTES_MASK.hex().upper(),
        "mrsigner": QE_MRSIGNER.hex().upper(),
        "isvprodid": QE_ISVPRODID,
        "tcbLevels": [_level({"isvsvn": 4}, "UpToDate")],
    }


def _window(now: datetime) -> dict[str, str]:
    issued = now - BACKDATED
    return {"issueDate": _time(issued), "nextUpdate": _time(issued + COLLATERAL_LIFE)}


def _time(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


def _level(tcb: Mapping[str, Any], status: str, *advisories: str) -> dict[str, Any]:
    level = {"tcb": tcb, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": status}
    return level | {"advisoryIDs": list(advisories)} if advisories else level


@dataclass(frozen=True, slots=True, repr=False)
class TdxIssuer:
    """Issues PCK certificates and collateral with the keys of the lab's state directory."""

    root: Authority
    pck_ca: Authority
    tcb_signer: Authority

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "TdxIssuer":
        """Load what `make_root` made."""
        return cls(*(_load(files, name) for name in (ROOT, PCK_CA, TCB_SIGNER)))

    def issue_pck(self, key: ec.EllipticCurvePublicKey, extension: bytes, *, now: datetime) -> bytes:
        """Certify a platform's PCK; give the chain in PEM as a quote carries it."""
        issuer = self.pck_ca
        builder = _builder(
            certificates.distinguished_name("Lab SGX PCK Certificate"),
            key,
            issuer.certificate.subject,
            issuer.key,
        )
        certificate = (
            builder.not_valid_before(now - BACKDATED)
            .not_valid_after(now + PCK_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(certificates.key_usage(certificate_sign=False), critical=True)
            .add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX_EXTENSION), extension), critical=False
            )
            .sign(issuer.key, SHA256())
        )
        return _pem(certificate, issuer.certificate, self.root.certificate)

    def collateral(self, *, now: datetime) -> dict[str, bytes]:
        """Issue everything that a verifier needs besides the quote, current for 30 days."""
        signer_chain = _pem(self.tcb_signer.certificate, self.root.certificate)
        return {
            "tcb_info.json": self.sign("tcbInfo", tcb_info(now)),
            "tcb_info_chain.pem": signer_chain,
            "qe_identity.json": self.sign("enclaveIdentity", qe_identity(now)),
            "qe_identity_chain.pem": signer_chain,
            "pck_crl.der": self.revoke(self.pck_ca, [], now=now),
            "pck_crl_chain.pem": _pem(self.pck_ca.certificate, self.root.certificate),
            "root_ca_crl.der": self.revoke(self.root, [], now=now),
        }

    def sign(self, name: str, document: Mapping[str, Any]) -> bytes:
        """Sign a collateral document as Intel's service answers it: the signature is over the inner bytes."""
        inner = msgspec.json.encode(document)
        signature = sign_p256(self.tcb_signer.key, inner).hex()
        return msgspec.json.encode({name: msgspec.Raw(inner), "signature": signature})

    def revoke(self, issuer: Authority, serials: list[int], *, now: datetime) -> bytes:
        """Issue the CRL of `issuer` in DER, current for 30 days."""
        issued = now - BACKDATED
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.certificate.subject)
            .last_update(issued)
            .next_update(issued + COLLATERAL_LIFE)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
            )
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(issued)
            revoked = revoked.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(issuer.key, SHA256()).public_bytes(Encoding.DER)


def sign_p256(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Sign with ECDSA and SHA-256, as bare r || s: the form of quotes and collateral."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def _pem(*chain: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def _load(files: Mapping[str, bytes], name: str) -> Authority:
    certificate = certificates.load_certificate(files, f"{name}.der")
    return Authority(certificate, certificates.load_ec_key(files, f"{name}.pem"))
