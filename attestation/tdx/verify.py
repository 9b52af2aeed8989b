"""Genuine TDX quotes: from Intel's root to the TD's registers. Knows no policy and trusts no root."""

from datetime import datetime
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.claims import EVALUATION_NUMBER, Genuine
from attestation.errors import NotGenuineError
from attestation.memory import FORGETFUL, Remembers
from attestation.tdx.collateral import (
    Collateral,
    QeIdentity,
    TcbInfo,
    open_qe_identity,
    open_tcb_info,
    p256_key,
    read_chain,
    read_collateral,
    verify_p256,
)
from attestation.tdx.parse import Quote, TdReport, parse_quote
from attestation.tdx.pck import PckIdentity, read_pck
from attestation.tdx.tcb import TcbVerdict, check_qe_identity, evaluate
from attestation.x509 import Certificate, verify_chain, verify_not_revoked
from schemas.errors import Reason
from schemas.evidence import TDX, Endorsements

# TD attributes (Intel TDX Module ABI, "ATTRIBUTES"; names of bits 27, 29 and 62 since module 1.5).
DEBUG = 1 << 0
UNDER_DEBUG = 0xFF  # whichever of these is set, the TD is under debug; all but `DEBUG` have no name yet
LASS, SEPT_VE_DISABLE, MIGRATABLE, PKS, KEY_LOCKER = 1 << 27, 1 << 28, 1 << 29, 1 << 30, 1 << 31
# TPA marks a TDX Connect provisioning agent: Intel has both among what does not touch a TD's security.
TPA, PERFMON = 1 << 62, 1 << 63
KNOWN_ATTRIBUTES = DEBUG | LASS | SEPT_VE_DISABLE | MIGRATABLE | PKS | KEY_LOCKER | TPA | PERFMON

# What a policy can set floors for.
SGX_COMPONENTS = tuple(f"SGX_TCB_COMP_{number:02}" for number in range(1, 17))
TEE_COMPONENTS = tuple(f"TEE_TCB_SVN_{number:02}" for number in range(16))
PCESVN, QE_ISVSVN = "PCESVN", "QE_ISVSVN"
COMPONENTS = (*SGX_COMPONENTS, *TEE_COMPONENTS, PCESVN, QE_ISVSVN, EVALUATION_NUMBER)


def verify(
    value: bytes, endorsements: Endorsements, *, now: datetime, memory: Remembers = FORGETFUL
) -> Genuine:
    """Verify a TDX quote with Intel's collateral at `now`, or raise `AttestationError`.

    Intel SGX/TDX DCAP: quote and collateral verification. What the caller must still check: that policy
    names `root`; that nothing is `missing`, because a check whose collateral is absent is not made;
    report_data, measurements, chip, debug, migratable, service_td, sept_ve_disable, unknown_attributes,
    status and tcb.

    1. The quote is well-formed, and the PCK chain within it.
    2. The quote's PCK certificate leads to a self-signed root. Only then is the collateral read.
    3. Neither root, PCK CA nor PCK is revoked, by both lists, current and of those very issuers.
    4. The PCK signed the QE's report.
    5. The QE's report binds the attestation key.
    6. The attestation key signed the quote.
    7. TCB info and QE identity are signed under the same root, and current.
    8. They are of this platform: FMSPC and PCE id of the PCK.
    9. The QE is the one of the QE identity, or at least Intel's.
    10. TDX module and platform stand at a published TCB level.
    """
    # 1.
    quote = parse_quote(value)
    pck_chain = read_chain(quote.pck_chain, 3, memory)
    # 2.
    verify_chain(pck_chain, now=now, memory=memory)
    collateral = read_collateral(endorsements, memory)
    pck_certificate, _, root = pck_chain
    pck_key = p256_key(pck_certificate, memory)
    pck = memory.recall("PCK", (pck_certificate.encoded,), lambda: read_pck(pck_certificate))
    # 3.
    _verify_none_revoked(pck_chain, collateral, now=now, memory=memory)
    # 4. and 5. depend on the platform alone: a QE makes one attestation key and quotes with it for long.
    memory.recall("QE", _qe_inputs(quote, pck_certificate), lambda: _verify_qe(quote, pck_key))
    # 6.
    verify_p256(_attestation_key(quote.attestation_key), quote.signature, quote.signed, "quote")
    # 7.
    tcb_info = open_tcb_info(collateral, root, now=now, memory=memory)
    qe_identity = open_qe_identity(collateral, root, now=now, memory=memory)
    # 8. Servers differ in the case of the digits.
    if tcb_info is not None and (tcb_info.fmspc.lower(), tcb_info.pce_id.lower()) != (
        pck.fmspc.hex(),
        pck.pce_id.hex(),
    ):
        raise NotGenuineError(
            Reason.COLLATERAL_MISMATCH,
            "TCB info is of another platform",
            seen=f"TCB info of FMSPC {tcb_info.fmspc.lower()}, PCE {tcb_info.pce_id.lower()}",
            wanted=f"FMSPC {pck.fmspc.hex()}, PCE {pck.pce_id.hex()}, as the PCK certificate has",
        )
    # 9.
    qe_level = check_qe_identity(qe_identity, quote.qe_report)
    # 10.
    verdict = None if tcb_info is None else evaluate(tcb_info, pck, quote.report, qe_level)
    return _claims(quote, root, pck, collateral, (tcb_info, qe_identity), verdict)


def _qe_inputs(quote: Quote, pck_certificate: Certificate) -> tuple[bytes, ...]:
    return (
        pck_certificate.key_info,
        quote.qe_report_signed,
        quote.qe_report_signature,
        quote.attestation_key,
        quote.qe_authentication_data,
    )


def _verify_qe(quote: Quote, pck_key: ec.EllipticCurvePublicKey) -> None:
    # 4.
    verify_p256(pck_key, quote.qe_report_signature, quote.qe_report_signed, "QE report")
    # 5.
    bound = sha256(quote.attestation_key + quote.qe_authentication_data).digest() + bytes(32)
    if quote.qe_report.report_data != bound:
        raise NotGenuineError(Reason.SIGNATURE_INVALID, "the QE does not vouch for the attestation key")


def _verify_none_revoked(
    chain: tuple[Certificate, ...], collateral: Collateral, *, now: datetime, memory: Remembers
) -> None:
    pck, issuer, root = chain
    if collateral.root_ca_crl is not None:
        verify_not_revoked(root, root, collateral.root_ca_crl, now=now, memory=memory)
        verify_not_revoked(issuer, root, collateral.root_ca_crl, now=now, memory=memory)
    if collateral.pck_crl is not None:
        listing, (crl_issuer, crl_root) = collateral.pck_crl
        if crl_root.encoded != root.encoded:
            raise NotGenuineError(Reason.CHAIN_INVALID, "CRL and quote end in different roots")
        # The CA of the CRL's chain must be the one verified above (Intel has two): its copy adds nothing.
        if (crl_issuer.subject, crl_issuer.key_info) != (issuer.subject, issuer.key_info):
            raise NotGenuineError(Reason.COLLATERAL_MISMATCH, "the PCK CRL is of another CA")
        verify_not_revoked(pck, issuer, listing, now=now, memory=memory)


def _attestation_key(point: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)
    except ValueError as error:
        raise NotGenuineError(Reason.SIGNATURE_INVALID, "the attestation key is not a key") from error


def _claims(
    quote: Quote,
    root: Certificate,
    pck: PckIdentity,
    collateral: Collateral,
    documents: tuple[TcbInfo | None, QeIdentity | None],
    verdict: TcbVerdict | None,
) -> Genuine:
    report = quote.report
    issued = [each.issue_date for each in documents if each is not None]
    # Not the root's list: Intel renews it once a year, so the newest would be too old for any useful limit.
    issued += [] if collateral.pck_crl is None else [collateral.pck_crl[0].this_update]
    return Genuine(
        platform=TDX,
        root=root.fingerprint,
        report_data=report.report_data,
        measurements=_measurements(report),
        tcb=_tcb(quote, pck, documents),
        missing=collateral.missing,
        chip=pck.ppid.hex() if any(pck.ppid) else "",
        debug=bool(report.attributes & UNDER_DEBUG),
        migratable=bool(report.attributes & MIGRATABLE),
        service_td=None if report.mrservicetd is None else any(report.mrservicetd),
        unstated=unstated(quote),
        sept_ve_disable=bool(report.attributes & SEPT_VE_DISABLE),
        unknown_attributes=bool(report.attributes & ~KNOWN_ATTRIBUTES),
        status="" if verdict is None else verdict.status,
        advisories=() if verdict is None else verdict.advisories,
        collateral_time=min(issued, default=None),
    )


def unstated(quote: Quote) -> tuple[str, ...]:
    """Name what this kind of quote has no field for, with its kind: nothing is known of it."""
    if quote.report.mrservicetd is not None:
        return ()
    return (f"service TD (quote v{quote.version}, TD 1.0 body)",)


def _measurements(report: TdReport) -> dict[str, str]:
    registers = {
        "mrtd": report.mrtd,
        "mrconfigid": report.mrconfigid,
        "mrowner": report.mrowner,
        "mrownerconfig": report.mrownerconfig,
        "mrseam": report.mrseam,
        "mrsignerseam": report.mrsignerseam,
        **{f"rtmr{number}": value for number, value in enumerate(report.rtmrs)},
    }
    return {name: value.hex() for name, value in registers.items()}


def _tcb(
    quote: Quote, pck: PckIdentity, documents: tuple[TcbInfo | None, QeIdentity | None]
) -> dict[str, int]:
    """Name what a policy can set a floor for."""
    # Intel may publish the two under different numbers for a time: the older one counts.
    numbers = [each.tcb_evaluation_data_number for each in documents if each is not None]
    report = quote.report
    # Of the module at launch and the one running now, the lower counts.
    tee_tcb_svn = [min(pair) for pair in zip(report.tee_tcb_svn, report.tee_tcb_svn_2, strict=True)]
    return {
        **dict(zip(SGX_COMPONENTS, pck.components, strict=True)),
        **dict(zip(TEE_COMPONENTS, tee_tcb_svn, strict=True)),
        PCESVN: pck.pcesvn,
        QE_ISVSVN: quote.qe_report.isvsvn,
        **({EVALUATION_NUMBER: min(numbers)} if numbers else {}),
    }
