"""TDX quotes of version 4 and 5 (Intel TDX DCAP Quoting Library API, appendix A) as typed fields.

Reads structure only and believes nothing: what is signed, by whom and what it is worth is for
`verify`. SGX quotes, in whatever version, are another platform's.
"""

import struct
from dataclasses import dataclass

from attestation.errors import EvidenceMalformedError, UnsupportedPlatformError
from schemas.errors import Reason
from schemas.evidence import MAX_EVIDENCE

ECDSA_P256 = 2
SGX, TDX = 0x00000000, 0x00000081
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
QE_REPORT_CERTIFICATION_DATA = 6
PCK_CHAIN_PEM = 5

# Body types of version 5. A version 4 quote has none: its TEE type decides.
SGX_BODY, TD_REPORT_1_0, TD_REPORT_1_5 = 1, 2, 3
BODY_SIZES = {TD_REPORT_1_0: 584, TD_REPORT_1_5: 648}

HEADER_SIZE = 48
SGX_REPORT_SIZE = 384
MAX_AUTHENTICATION_DATA = 1024  # 32 bytes in every genuine quote
MAX_CERTIFICATION_DATA = 24 * 1024  # three certificates in PEM are below 4 KiB

TD_REPORT = struct.Struct("<16s48s48s8sQ8s48s48s48s48s48s48s48s48s64s")
TD_REPORT_EXTENSION = struct.Struct("<16s48s")
SGX_REPORT = struct.Struct("<16s4s28x16s32s32x32s96xHH60x64s")


@dataclass(frozen=True, slots=True)
class TdReport:
    """A TD report 1.0 or 1.5 as the quote carries it."""

    tee_tcb_svn: bytes  # of the TDX module that launched the TD
    mrseam: bytes
    mrsignerseam: bytes
    seamattributes: bytes
    attributes: int
    xfam: bytes
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn_2: bytes  # of the module now running; report 1.0 knows no update of it
    mrservicetd: bytes | None  # zero unless a service TD is bound; report 1.0 has no word on it


@dataclass(frozen=True, slots=True)
class SgxReport:
    """The report of the Quoting Enclave."""

    cpusvn: bytes
    miscselect: bytes
    attributes: bytes
    mrenclave: bytes
    mrsigner: bytes
    isvprodid: int
    isvsvn: int
    report_data: bytes


@dataclass(frozen=True, slots=True)
class Quote:
    """A TDX quote that was read and not yet believed."""

    version: int
    signed: bytes  # header and body as received: what the attestation key signs
    report: TdReport
    signature: bytes
    attestation_key: bytes  # x then y, big-endian
    qe_report_signed: bytes  # what the PCK signs
    qe_report: SgxReport
    qe_report_signature: bytes
    qe_authentication_data: bytes
    pck_chain: bytes  # PEM: PCK, its CA, the root


class _Cursor:
    """Take fields off the front; running out of bytes is the peer's fault."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at(self) -> int:
        return self._at

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise EvidenceMalformedError("quote is cut short")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def finish(self) -> None:
        if self._at != len(self._data):
            raise EvidenceMalformedError("quote has bytes between its parts")


def parse_quote(data: bytes) -> Quote:
    """Read a TDX quote of version 4 or 5, or raise `EvidenceMalformedError`.

    Bytes after the signature section are padding (Google pads to 8000 bytes) and are ignored.
    """
    if len(data) > MAX_EVIDENCE:
        raise EvidenceMalformedError("quote is too large", Reason.TOO_LARGE)
    cursor = _Cursor(data)
    version = _read_header(cursor)
    body_type, size = TD_REPORT_1_0, BODY_SIZES[TD_REPORT_1_0]
    if version == 5:
        body_type, size = cursor.number(2), cursor.number(4)
        _check_body_type(body_type, size)
    report = _read_td_report(cursor.take(size), body_type)
    signed = data[: cursor.at]
    section = _Cursor(cursor.take(cursor.number(4)))
    signature, attestation_key = section.take(64), section.take(64)
    certification = _Cursor(_read_certification_data(section, QE_REPORT_CERTIFICATION_DATA))
    section.finish()

    qe_report_signed, qe_report_signature = certification.take(SGX_REPORT_SIZE), certification.take(64)
    authentication_data = _read_bounded(certification, 2, MAX_AUTHENTICATION_DATA)
    pck_chain = _read_certification_data(certification, PCK_CHAIN_PEM)
    certification.finish()
    return Quote(
        version=version,
        signed=signed,
        report=report,
        signature=signature,
        attestation_key=attestation_key,
        qe_report_signed=qe_report_signed,
        qe_report=_read_sgx_report(qe_report_signed),
        qe_report_signature=qe_report_signature,
        qe_authentication_data=authentication_data,
        pck_chain=pck_chain,
    )


def _read_header(cursor: _Cursor) -> int:
    header = cursor.take(HEADER_SIZE)
    version, key_type, tee_type = struct.unpack_from("<HHI", header)
    if version == 3 or (version in (4, 5) and tee_type == SGX):
        raise UnsupportedPlatformError("an SGX quote, not a TDX one", "sgx")
    if version not in (4, 5):
        raise EvidenceMalformedError(
            "quote version is not known",
            Reason.UNSUPPORTED_VERSION,
            seen=f"quote version {version}",
            wanted="4 or 5",
        )
    if tee_type != TDX:
        raise UnsupportedPlatformError("quote of an unknown TEE")
    if key_type != ECDSA_P256:
        raise EvidenceMalformedError(
            "attestation key type is not known",
            Reason.UNSUPPORTED_VERSION,
            seen=f"attestation key type {key_type}",
            wanted=f"{ECDSA_P256}, ECDSA P-256",
        )
    if header[12:28] != INTEL_QE_VENDOR:
        raise EvidenceMalformedError("quoting enclave is not of Intel's format", Reason.UNSUPPORTED_VERSION)
    return int(version)


def _check_body_type(body_type: int, size: int) -> None:
    if body_type == SGX_BODY:
        raise UnsupportedPlatformError("an SGX quote, not a TDX one", "sgx")
    if body_type not in BODY_SIZES:
        raise EvidenceMalformedError(
            "quote body type is not known",
            Reason.UNSUPPORTED_VERSION,
            seen=f"quote body type {body_type}",
            wanted=f"one of {', '.join(map(str, BODY_SIZES))}",
        )
    if size != BODY_SIZES[body_type]:
        raise EvidenceMalformedError("quote body is not of its type's size")


def _read_td_report(body: bytes, body_type: int) -> TdReport:
    (
        tee_tcb_svn,
        mrseam,
        mrsignerseam,
        seamattributes,
        attributes,
        xfam,
        mrtd,
        mrconfigid,
        mrowner,
        mrownerconfig,
        *rtmrs,
        report_data,
    ) = TD_REPORT.unpack_from(body)
    tee_tcb_svn_2, mrservicetd = tee_tcb_svn, None
    if body_type == TD_REPORT_1_5:
        tee_tcb_svn_2, mrservicetd = TD_REPORT_EXTENSION.unpack_from(body, TD_REPORT.size)
    return TdReport(
        tee_tcb_svn=tee_tcb_svn,
        mrseam=mrseam,
        mrsignerseam=mrsignerseam,
        seamattributes=seamattributes,
        attributes=attributes,
        xfam=xfam,
        mrtd=mrtd,
        mrconfigid=mrconfigid,
        mrowner=mrowner,
        mrownerconfig=mrownerconfig,
        rtmrs=(rtmrs[0], rtmrs[1], rtmrs[2], rtmrs[3]),
        report_data=report_data,
        tee_tcb_svn_2=tee_tcb_svn_2,
        mrservicetd=mrservicetd,
    )


def _read_sgx_report(body: bytes) -> SgxReport:
    return SgxReport(*SGX_REPORT.unpack(body))


def _read_certification_data(cursor: _Cursor, expected: int) -> bytes:
    if (kind := cursor.number(2)) != expected:
        # Types 1 to 4 name a PCK by an encrypted PPID and would need Intel's service to be looked up.
        raise EvidenceMalformedError(
            "certification data type is not known",
            Reason.UNSUPPORTED_VERSION,
            seen=f"certification data of type {kind}",
            wanted=f"{expected}",
        )
    return _read_bounded(cursor, 4, MAX_CERTIFICATION_DATA)


def _read_bounded(cursor: _Cursor, width: int, limit: int) -> bytes:
    size = cursor.number(width)
    if size > limit:
        raise EvidenceMalformedError("a part of the quote is too large", Reason.TOO_LARGE)
    return cursor.take(size)
