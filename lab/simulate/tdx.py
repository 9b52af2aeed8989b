"""A simulated TDX machine: quotes of version 4 and their collateral in the true formats.

Its evidence verifies by the same code as Intel's and only under the lab's root. It protects nothing.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256, sha384

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.tdx import MEDIA_TYPE
from attestation.tdx.parse import (
    ECDSA_P256,
    INTEL_QE_VENDOR,
    PCK_CHAIN_PEM,
    QE_REPORT_CERTIFICATION_DATA,
    SGX_REPORT,
    TD_REPORT,
    TDX,
)
from lab.simulate.tdx_issuer import (
    QE_ATTRIBUTES,
    QE_ISVPRODID,
    QE_ISVSVN,
    QE_MRSIGNER,
    SGX_COMPONENTS,
    TEE_TCB_SVN,
    TdxIssuer,
    make_root,
    sgx_extension,
    sign_p256,
)
from schemas.errors import UsageError
from schemas.evidence import Endorsements, Evidence

__all__ = ["TdxPlatform", "make_root"]

MEASURED = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid")
MODULE = sha384(b"sealbus lab: TDX module").digest()
QUOTING_ENCLAVE = sha256(b"sealbus lab: TD quoting enclave").digest()

DEBUG, SEPT_VE_DISABLE = 1 << 0, 1 << 28
XFAM = bytes.fromhex("e702060000000000")

# Half of the collateral's life, so that what is handed out has days to go.
COLLATERAL_KEPT = timedelta(days=15)


@dataclass(frozen=True, slots=True)
class _Start:
    """What a machine obtains once and uses for many quotes."""

    at: datetime
    certification: bytes  # everything in a quote after its two signatures' key
    collateral: dict[str, bytes]


class TdxPlatform:
    """A TDX host of the lab; `serial` makes it the same machine again after a restart."""

    def __init__(self, issuer: TdxIssuer, *, serial: int) -> None:
        self._issuer = issuer
        self._ppid = sha256(b"sealbus lab: TDX platform %d" % serial).digest()[:16]
        self._pck_key = ec.generate_private_key(ec.SECP256R1())
        self._attestation_key = ec.generate_private_key(ec.SECP256R1())
        self._start: _Start | None = None

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], *, serial: int) -> "TdxPlatform":
        """Start a machine under the root that `make_root` made."""
        return cls(TdxIssuer.from_files(files), serial=serial)

    @property
    def root(self) -> str:
        """Name the root as a policy does."""
        return self._issuer.root.certificate.fingerprint(SHA256()).hex()

    def evidence(
        self,
        measurements: dict[str, bytes],
        key_binding: bytes,
        challenge: bytes,
        *,
        now: datetime,
        debug: bool = False,
    ) -> tuple[Evidence, Endorsements]:
        """Quote a TD of these measurements; REPORTDATA is `key_binding`, which covers `challenge`."""
        attributes = SEPT_VE_DISABLE | (DEBUG if debug else 0)
        quote = self.quote(header(self._ppid) + td_report(measurements, key_binding, attributes), now=now)
        return Evidence(type=MEDIA_TYPE, value=quote), dict(
            self._started(now.replace(microsecond=0)).collateral
        )

    def quote(self, signed: bytes, *, now: datetime) -> bytes:
        """Sign any bytes as header and body of a quote."""
        start = self._started(now.replace(microsecond=0))
        return assemble(signed, self._attestation_key, start.certification)

    def _started(self, now: datetime) -> _Start:
        start = self._start
        if start is None or not start.at <= now < start.at + COLLATERAL_KEPT:
            pck_chain = self._issuer.issue_pck(self._pck_key.public_key(), sgx_extension(self._ppid), now=now)
            certification = certify(self._attestation_key, self._pck_key, pck_chain)
            start = self._start = _Start(now, certification, self._issuer.collateral(now=now))
        return start


def header(ppid: bytes) -> bytes:
    """Encode the header of a version 4 TDX quote."""
    return struct.pack("<HHI4x", 4, ECDSA_P256, TDX) + INTEL_QE_VENDOR + ppid + bytes(4)


def td_report(measurements: Mapping[str, bytes], report_data: bytes, attributes: int) -> bytes:
    """Encode a TD report 1.0."""
    if set(measurements) != set(MEASURED) or any(len(value) != 48 for value in measurements.values()):
        raise UsageError(f"a TD is measured by {', '.join(MEASURED)}, each of 48 bytes")
    if len(report_data) != 64:
        raise UsageError("REPORTDATA is 64 bytes: hand in a SHA-512 key binding")
    zero = bytes(48)
    return TD_REPORT.pack(
        TEE_TCB_SVN,
        MODULE,
        zero,
        bytes(8),
        attributes,
        XFAM,
        measurements["mrtd"],
        measurements["mrconfigid"],
        zero,
        zero,
        *(measurements[f"rtmr{number}"] for number in range(4)),
        report_data,
    )


def certify(
    attestation_key: ec.EllipticCurvePrivateKey, pck_key: ec.EllipticCurvePrivateKey, pck_chain: bytes
) -> bytes:
    """Have the QE vouch for its attestation key and the PCK for the QE: the certification data of a quote."""
    authentication_data = os.urandom(32)
    bound = sha256(point(attestation_key) + authentication_data).digest() + bytes(32)
    report = SGX_REPORT.pack(
        bytes(SGX_COMPONENTS),
        bytes(4),
        QE_ATTRIBUTES,
        QUOTING_ENCLAVE,
        QE_MRSIGNER,
        QE_ISVPRODID,
        QE_ISVSVN,
        bound,
    )
    return certification_data(report, sign_p256(pck_key, report), authentication_data, pck_chain)


def certification_data(report: bytes, signature: bytes, authentication_data: bytes, chain: bytes) -> bytes:
    """Encode the QE report certification data with the PCK chain inside."""
    inner = (
        report
        + signature
        + struct.pack("<H", len(authentication_data))
        + authentication_data
        + struct.pack("<HI", PCK_CHAIN_PEM, len(chain))
        + chain
    )
    return struct.pack("<HI", QE_REPORT_CERTIFICATION_DATA, len(inner)) + inner


def assemble(signed: bytes, attestation_key: ec.EllipticCurvePrivateKey, certification: bytes) -> bytes:
    """Sign header and body, and put the quote together."""
    section = sign_p256(attestation_key, signed) + point(attestation_key) + certification
    return signed + struct.pack("<I", len(section)) + section


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Give the public key as x then y, big-endian."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
