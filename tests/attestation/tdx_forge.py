"""A lab TDX vendor that can be told one lie and signs it all the same, and dcap-qvl as the second judge."""

import struct
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import dcap_qvl
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from attestation import tdx
from attestation.claims import Genuine
from attestation.tdx.parse import (
    ECDSA_P256,
    INTEL_QE_VENDOR,
    SGX_REPORT,
    TD_REPORT,
    TD_REPORT_1_5,
    TD_REPORT_EXTENSION,
    TDX,
)
from lab.simulate import certificates
from lab.simulate.tdx import MODULE, QUOTING_ENCLAVE, XFAM, assemble, certification_data, point
from lab.simulate.tdx_issuer import (
    QE_ATTRIBUTES,
    QE_ISVPRODID,
    QE_ISVSVN,
    QE_MRSIGNER,
    SGX_COMPONENTS,
    TEE_TCB_SVN,
    TdxIssuer,
    make_root,
    qe_identity,
    sgx_extension,
    sign_p256,
    tcb_info,
)
from schemas.evidence import Endorsements

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PPID = bytes(range(16))
SEPT_VE_DISABLE = 1 << 28


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class TdFields:
    """The fields of a TD report 1.0 in their order."""

    tee_tcb_svn: bytes = TEE_TCB_SVN
    mrseam: bytes = MODULE
    mrsignerseam: bytes = bytes(48)
    seamattributes: bytes = bytes(8)
    attributes: int = SEPT_VE_DISABLE
    xfam: bytes = XFAM
    mrtd: bytes = b"\x01" * 48
    mrconfigid: bytes = b"\x02" * 48
    mrowner: bytes = b"\x03" * 48
    mrownerconfig: bytes = b"\x04" * 48
    rtmr0: bytes = b"\x10" * 48
    rtmr1: bytes = b"\x11" * 48
    rtmr2: bytes = b"\x12" * 48
    rtmr3: bytes = b"\x13" * 48
    report_data: bytes = b"\x2a" * 64


@dataclass
class QeFields:
    """The fields of the QE's report in their order, but for the REPORTDATA."""

    cpusvn: bytes = bytes(SGX_COMPONENTS)
    miscselect: bytes = bytes(4)
    attributes: bytes = QE_ATTRIBUTES
    mrenclave: bytes = QUOTING_ENCLAVE
    mrsigner: bytes = QE_MRSIGNER
    isvprodid: int = QE_ISVPRODID
    isvsvn: int = QE_ISVSVN


@dataclass
class Forge:
    """Everything a TDX verdict rests on, open to change, signed at the end by those who should."""

    issuer: TdxIssuer = field(default_factory=lambda: TdxIssuer.from_files(make_root(NOW)))
    pck_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    attestation_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    version: int = 4
    key_type: int = ECDSA_P256
    tee_type: int = TDX
    vendor: bytes = INTEL_QE_VENDOR
    td: TdFields = field(default_factory=TdFields)
    tee_tcb_svn_2: bytes = TEE_TCB_SVN
    mrservicetd: bytes = bytes(48)
    qe: QeFields = field(default_factory=QeFields)
    qe_report_data_end: bytes = bytes(32)
    authentication_data: bytes = b"\x0a" * 32
    tcb_info: dict[str, Any] = field(default_factory=lambda: tcb_info(NOW))
    qe_identity: dict[str, Any] = field(default_factory=lambda: qe_identity(NOW))
    pck_chain: bytes = b""
    replaced: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pck_chain = self.issue_pck(sgx_extension(PPID))

    def issue_pck(self, extension: bytes) -> bytes:
        return self.issuer.issue_pck(self.pck_key.public_key(), extension, now=NOW)

    @property
    def root_der(self) -> bytes:
        return certificates.der(self.issuer.root.certificate)

    @property
    def root(self) -> str:
        return sha256(self.root_der).hexdigest()

    @property
    def module_levels(self) -> list[dict[str, Any]]:
        levels: list[dict[str, Any]] = self.tcb_info["tdxModuleIdentities"][0]["tcbLevels"]
        return levels

    @property
    def platform_levels(self) -> list[dict[str, Any]]:
        levels: list[dict[str, Any]] = self.tcb_info["tcbLevels"]
        return levels

    def signed(self) -> bytes:
        head = struct.pack("<HHI4x", self.version, self.key_type, self.tee_type) + self.vendor + bytes(20)
        body = TD_REPORT.pack(*(getattr(self.td, each.name) for each in fields(self.td)))
        if self.version == 5:
            body += TD_REPORT_EXTENSION.pack(self.tee_tcb_svn_2, self.mrservicetd)
            body = struct.pack("<HI", TD_REPORT_1_5, len(body)) + body
        return head + body

    def qe_report(self) -> bytes:
        bound = sha256(point(self.attestation_key) + self.authentication_data).digest()
        parts = [getattr(self.qe, each.name) for each in fields(self.qe)]
        return SGX_REPORT.pack(*parts, bound + self.qe_report_data_end)

    def certification(self) -> bytes:
        report = self.qe_report()
        signature = sign_p256(self.pck_key, report)
        return certification_data(report, signature, self.authentication_data, self.pck_chain)

    def quote(self) -> bytes:
        return assemble(self.signed(), self.attestation_key, self.certification())

    def endorsements(self) -> dict[str, bytes]:
        return {
            **self.issuer.collateral(now=NOW),
            "tcb_info.json": self.issuer.sign("tcbInfo", self.tcb_info),
            "qe_identity.json": self.issuer.sign("enclaveIdentity", self.qe_identity),
            **self.replaced,
        }

    def verify(self, *, now: datetime = NOW) -> Genuine:
        return tdx.verify(self.quote(), self.endorsements(), now=now)


@dataclass(frozen=True)
class Judgement:
    """What dcap-qvl says: a status with advisories, or a refusal."""

    status: str
    advisories: tuple[str, ...]
    refusal: str = ""


def judge(quote: bytes, endorsements: Endorsements, root_der: bytes, *, now: datetime) -> Judgement:
    """Ask the independent verifier."""
    tcb, tcb_signature = _split(endorsements["tcb_info.json"], "tcbInfo")
    identity, identity_signature = _split(endorsements["qe_identity.json"], "enclaveIdentity")
    collateral = dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=endorsements["pck_crl_chain.pem"].decode("ascii"),
        root_ca_crl=endorsements["root_ca_crl.der"],
        pck_crl=endorsements["pck_crl.der"],
        tcb_info_issuer_chain=endorsements["tcb_info_chain.pem"].decode("ascii"),
        tcb_info=tcb,
        tcb_info_signature=tcb_signature,
        qe_identity_issuer_chain=endorsements["qe_identity_chain.pem"].decode("ascii"),
        qe_identity=identity,
        qe_identity_signature=identity_signature,
    )
    try:
        report = dcap_qvl.verify_with_root_ca(quote, collateral, root_der, int(now.timestamp()))
    except ValueError as error:
        return Judgement("", (), str(error) or "refused")
    return Judgement(report.status, tuple(report.advisory_ids))


def _split(document: bytes, name: str) -> tuple[str, bytes]:
    parts = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    return bytes(parts[name]).decode("utf-8"), bytes.fromhex(
        msgspec.json.decode(parts["signature"], type=str)
    )
