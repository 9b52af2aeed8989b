"""The TDX verifier: one change, signed again by whoever can sign it, is one exact reason."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import der, tdx
from attestation.claims import Genuine
from attestation.errors import AttestationError
from attestation.tdx.collateral import NAMES, read_chain
from attestation.tdx.pck import FMSPC, SGX_EXTENSION, read_pck
from attestation.tdx.pck import PPID as PPID_OID
from attestation.tdx.tcb import INTEL_QE_SIGNER
from attestation.x509 import Extension
from lab.simulate import certificates
from lab.simulate.tdx import assemble, certification_data, point
from lab.simulate.tdx_issuer import Authority, TdxIssuer, make_root, sgx_extension, sign_p256
from schemas.errors import Reason
from tests.attestation.tdx_forge import NOW, PPID, SEPT_VE_DISABLE, Forge, judge, new_key

ISSUER = TdxIssuer.from_files(make_root(NOW))
STRANGER = TdxIssuer.from_files(make_root(NOW))
DAY = timedelta(days=1)


@pytest.fixture
def forge() -> Forge:
    return Forge(issuer=ISSUER)


def refusal(forge: Forge, **changes: Any) -> AttestationError:
    with pytest.raises(AttestationError) as caught:
        forge.verify(**changes)
    return caught.value


def pem(*chain: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def certify(
    issuer: Authority,
    common_name: str,
    key: ec.EllipticCurvePublicKey,
    *,
    usage: bool = True,
    since: datetime = NOW - DAY,
) -> x509.Certificate:
    builder = x509.CertificateBuilder(
        issuer.certificate.subject, certificates.distinguished_name(common_name), key, 77
    )
    builder = builder.not_valid_before(since).not_valid_after(since + 2 * DAY)
    if usage:
        builder = builder.add_extension(certificates.key_usage(certificate_sign=False), critical=True)
    return builder.sign(issuer.key, SHA256())


def signed_by(signer: ec.EllipticCurvePrivateKey, name: str, document: dict[str, Any]) -> bytes:
    inner = msgspec.json.encode(document)
    return msgspec.json.encode({name: msgspec.Raw(inner), "signature": sign_p256(signer, inner).hex()})


def test_unchanged_forge_is_genuine_and_says_so(forge: Forge) -> None:
    genuine = forge.verify()
    assert genuine == Genuine(
        platform="tdx",
        root=forge.root,
        report_data=b"\x2a" * 64,
        measurements=genuine.measurements,
        tcb=genuine.tcb,
        chip=PPID.hex(),
        service_td=None,
        unstated=genuine.unstated,
        status="UpToDate",
        collateral_time=genuine.collateral_time,
    )
    assert genuine.measurements["rtmr3"] == "13" * 48
    assert genuine.measurements["mrowner"] == "03" * 48
    assert genuine.tcb["TCB_EVALUATION_DATA_NUMBER"] == 19
    assert genuine.collateral_time == datetime.fromisoformat(forge.tcb_info["issueDate"])


# --- the quote ---------------------------------------------------------------------------------


def attestation_key_not_vouched_for(forge: Forge) -> bytes:
    certification = forge.certification()
    return assemble(forge.signed(), new_key(), certification)


def quote_signed_by_another_key(forge: Forge) -> bytes:
    section = sign_p256(new_key(), forge.signed()) + point(forge.attestation_key) + forge.certification()
    return forge.signed() + len(section).to_bytes(4, "little") + section


def body_changed_after_signing(forge: Forge) -> bytes:
    return forge.quote().replace(b"\x01" * 48, b"\x01" * 47 + b"\x03")


def header_changed_after_signing(forge: Forge) -> bytes:
    quote = forge.quote()
    return quote[:30] + b"\x01" + quote[31:]


def qe_report_signed_by_another_pck(forge: Forge) -> bytes:
    signature = sign_p256(new_key(), forge.qe_report())
    certification = certification_data(
        forge.qe_report(), signature, forge.authentication_data, forge.pck_chain
    )
    return assemble(forge.signed(), forge.attestation_key, certification)


def authentication_data_changed(forge: Forge) -> bytes:
    signature = sign_p256(forge.pck_key, forge.qe_report())
    certification = certification_data(forge.qe_report(), signature, b"\x0b" * 32, forge.pck_chain)
    return assemble(forge.signed(), forge.attestation_key, certification)


@pytest.mark.parametrize(
    "change",
    [
        attestation_key_not_vouched_for,
        quote_signed_by_another_key,
        body_changed_after_signing,
        header_changed_after_signing,
        qe_report_signed_by_another_pck,
        authentication_data_changed,
    ],
)
def test_broken_link_between_pck_and_body_is_an_invalid_signature(
    forge: Forge, change: Callable[[Forge], bytes]
) -> None:
    with pytest.raises(AttestationError) as caught:
        tdx.verify(change(forge), forge.endorsements(), now=NOW)
    assert caught.value.reason == Reason.SIGNATURE_INVALID


def test_qe_report_data_must_be_zero_after_the_digest(forge: Forge) -> None:
    forge.qe_report_data_end = bytes(31) + b"\x01"
    assert refusal(forge).reason == Reason.SIGNATURE_INVALID


def test_attestation_key_off_the_curve_is_refused_though_vouched_for(forge: Forge) -> None:
    key = bytes(64)
    bound = sha256(key + forge.authentication_data).digest() + bytes(32)
    report = forge.qe_report()[:-64] + bound
    section = (
        sign_p256(forge.attestation_key, forge.signed())
        + key
        + certification_data(
            report, sign_p256(forge.pck_key, report), forge.authentication_data, forge.pck_chain
        )
    )
    quote = forge.signed() + len(section).to_bytes(4, "little") + section
    with pytest.raises(AttestationError, match="is not a key") as caught:
        tdx.verify(quote, forge.endorsements(), now=NOW)
    assert caught.value.reason == Reason.SIGNATURE_INVALID


# --- the PCK chain -----------------------------------------------------------------------------


def test_root_of_a_stranger_is_returned_for_the_policy_to_refuse(forge: Forge) -> None:
    assert Forge(issuer=STRANGER).verify().root != forge.verify().root


def test_pck_of_a_stranger_does_not_match_our_collateral(forge: Forge) -> None:
    forge.pck_chain = Forge(issuer=STRANGER, pck_key=forge.pck_key).pck_chain
    # The CRL that says it is of this root's name was signed by our root.
    assert refusal(forge).reason == Reason.SIGNATURE_INVALID
    for name in ("root_ca_crl.der", "pck_crl.der", "pck_crl_chain.pem"):
        forge.replaced[name] = STRANGER.collateral(now=NOW)[name]
    assert refusal(forge).reason == Reason.CHAIN_INVALID


def test_pck_without_sgx_extension_is_refused(forge: Forge) -> None:
    leaf = certify(ISSUER.pck_ca, "Lab SGX PCK Certificate", forge.pck_key.public_key())
    forge.pck_chain = pem(leaf, ISSUER.pck_ca.certificate, ISSUER.root.certificate)
    assert refusal(forge).reason == Reason.CHAIN_INVALID


def test_pck_issued_by_something_that_is_no_ca_is_refused(forge: Forge) -> None:
    impostor = replace(ISSUER, pck_ca=ISSUER.tcb_signer)
    forge.pck_chain = Forge(issuer=impostor, pck_key=forge.pck_key).pck_chain
    assert refusal(forge).reason == Reason.CHAIN_INVALID


def test_pck_of_another_curve_is_refused(forge: Forge) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    forge.pck_chain = ISSUER.issue_pck(key.public_key(), sgx_extension(PPID), now=NOW)
    assert refusal(forge).reason == Reason.CHAIN_INVALID


def test_pck_signed_by_another_key_is_refused(forge: Forge) -> None:
    impostor = replace(ISSUER, pck_ca=Authority(ISSUER.pck_ca.certificate, new_key()))
    forge.pck_chain = Forge(issuer=impostor, pck_key=forge.pck_key).pck_chain
    assert refusal(forge).reason == Reason.CHAIN_INVALID


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        (timedelta(days=8 * 365), Reason.CERTIFICATE_EXPIRED),
        (timedelta(days=-2), Reason.CERTIFICATE_NOT_YET_VALID),
    ],
)
def test_pck_outside_its_validity_is_refused(forge: Forge, later: timedelta, reason: Reason) -> None:
    assert refusal(forge, now=NOW + later).reason == reason


@pytest.mark.parametrize("count", [1, 2, 4])
def test_pck_chain_of_another_length_is_malformed(forge: Forge, count: int) -> None:
    leaf, issuer, root = x509.load_pem_x509_certificates(forge.pck_chain)
    forge.pck_chain = pem(*[leaf, issuer, root, root][:count])
    assert refusal(forge).reason == Reason.MALFORMED


@pytest.mark.parametrize(
    "chain",
    [b"", b"\x00", b"no certificate", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"],
)
def test_pck_chain_that_is_no_pem_is_malformed(forge: Forge, chain: bytes) -> None:
    forge.pck_chain = chain
    assert refusal(forge).reason == Reason.MALFORMED


def test_pck_chain_may_end_as_a_c_string(forge: Forge) -> None:
    forge.pck_chain += b"\x00"
    assert forge.verify().status == "UpToDate"


@pytest.mark.parametrize(
    "extension",
    [
        b"",
        b"\x30\x00",
        b"\x05\x00",
        sgx_extension(PPID)[:-1],
        sgx_extension(PPID) + b"\x00",
        sgx_extension(PPID[:15]),
    ],
)
def test_pck_with_a_broken_sgx_extension_is_malformed(forge: Forge, extension: bytes) -> None:
    forge.pck_chain = forge.issue_pck(extension)
    assert refusal(forge).reason == Reason.MALFORMED


def test_pck_that_says_something_twice_is_malformed(forge: Forge) -> None:
    ppid = der.item(der.SEQUENCE, der.oid(PPID_OID), der.item(der.OCTET_STRING, PPID))
    items = der.Reader(sgx_extension(PPID)).content(der.SEQUENCE)
    assert items.startswith(ppid)
    forge.pck_chain = forge.issue_pck(der.item(der.SEQUENCE, items, ppid))
    assert refusal(forge).reason == Reason.MALFORMED


def test_pck_without_its_fmspc_is_malformed(forge: Forge) -> None:
    extension = sgx_extension(PPID)
    forge.pck_chain = forge.issue_pck(extension.replace(der.oid(FMSPC), der.oid(f"{FMSPC[:-1]}8")))
    assert refusal(forge).reason == Reason.MALFORMED


def test_pck_with_an_svn_out_of_range_is_malformed(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.simulate.tdx_issuer.LAB_PCESVN", 0xFFFF)
    forge.pck_chain = forge.issue_pck(sgx_extension(PPID))
    assert forge.verify().tcb["PCESVN"] == 0xFFFF
    monkeypatch.setattr("lab.simulate.tdx_issuer.LAB_PCESVN", 0x10000)
    forge.pck_chain = forge.issue_pck(sgx_extension(PPID))
    assert refusal(forge).reason == Reason.MALFORMED


@given(st.binary(max_size=200) | st.integers(0, 900).map(lambda cut: sgx_extension(PPID)[cut:]))
def test_any_bytes_as_sgx_extension_are_read_or_refused(value: bytes) -> None:
    leaf = read_chain(FLIPPED.pck_chain, 3)[0]
    try:
        pck = read_pck(replace(leaf, extensions={SGX_EXTENSION: Extension(critical=False, value=value)}))
    except AttestationError:
        return
    assert pck.ppid == PPID


def test_masked_ppid_names_no_chip(forge: Forge) -> None:
    forge.pck_chain = forge.issue_pck(sgx_extension(bytes(16)))
    assert forge.verify().chip == ""


# --- revocation --------------------------------------------------------------------------------


def sign_by_intels_enclave(forge: Forge) -> None:
    forge.qe.mrsigner = INTEL_QE_SIGNER
    forge.qe_identity["mrsigner"] = INTEL_QE_SIGNER.hex()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("absent", [True, False], ids=["absent", "empty"])
def test_every_endorsement_that_is_absent_is_told(forge: Forge, name: str, absent: bool) -> None:
    sign_by_intels_enclave(forge)
    endorsements = forge.endorsements()
    if absent:
        del endorsements[name]
    else:
        endorsements[name] = b""
    assert tdx.verify(forge.quote(), endorsements, now=NOW).missing == (name,)


def test_without_any_endorsement_all_are_told_and_nothing_is_said_of_the_tcb(forge: Forge) -> None:
    sign_by_intels_enclave(forge)
    genuine = tdx.verify(forge.quote(), {}, now=NOW)
    assert (genuine.missing, genuine.status, genuine.collateral_time) == (NAMES, "", None)
    assert "TCB_EVALUATION_DATA_NUMBER" not in genuine.tcb


def test_without_a_qe_identity_only_intels_enclave_may_quote(forge: Forge) -> None:
    endorsements = forge.endorsements()
    del endorsements["qe_identity.json"]
    with pytest.raises(AttestationError) as caught:
        tdx.verify(forge.quote(), endorsements, now=NOW)
    assert caught.value.reason == Reason.TCB_MISMATCH
    sign_by_intels_enclave(forge)
    assert tdx.verify(forge.quote(), endorsements, now=NOW).missing == ("qe_identity.json",)


@pytest.mark.parametrize("name", NAMES)
def test_endorsement_of_10_megabytes_is_refused_unread(forge: Forge, name: str) -> None:
    forge.replaced[name] = bytes(10_000_000)
    assert refusal(forge).reason == Reason.TOO_LARGE


def test_revoked_pck_is_refused(forge: Forge) -> None:
    serial = x509.load_pem_x509_certificates(forge.pck_chain)[0].serial_number
    forge.replaced["pck_crl.der"] = ISSUER.revoke(ISSUER.pck_ca, [1, serial], now=NOW)
    assert refusal(forge).reason == Reason.CERTIFICATE_REVOKED


@pytest.mark.parametrize("authority", [ISSUER.root, ISSUER.pck_ca, ISSUER.tcb_signer])
def test_revoked_authority_is_refused(forge: Forge, authority: Authority) -> None:
    serial = authority.certificate.serial_number
    forge.replaced["root_ca_crl.der"] = ISSUER.revoke(ISSUER.root, [serial], now=NOW)
    assert refusal(forge).reason == Reason.CERTIFICATE_REVOKED


def test_other_revocations_do_not_matter(forge: Forge) -> None:
    forge.replaced["pck_crl.der"] = ISSUER.revoke(ISSUER.pck_ca, [1, 2, 3], now=NOW)
    assert forge.verify().missing == ()


@pytest.mark.parametrize("name", ["pck_crl.der", "root_ca_crl.der"])
@pytest.mark.parametrize("days", [-31, 1])
def test_crl_that_is_not_current_is_refused(forge: Forge, name: str, days: int) -> None:
    issuer = ISSUER.pck_ca if name == "pck_crl.der" else ISSUER.root
    forge.replaced[name] = ISSUER.revoke(issuer, [], now=NOW + days * DAY)
    assert refusal(forge).reason == Reason.COLLATERAL_EXPIRED


@pytest.mark.parametrize("name", ["pck_crl.der", "root_ca_crl.der"])
def test_crl_signed_by_another_key_is_refused(forge: Forge, name: str) -> None:
    issuer = ISSUER.pck_ca if name == "pck_crl.der" else ISSUER.root
    forge.replaced[name] = ISSUER.revoke(Authority(issuer.certificate, new_key()), [], now=NOW)
    assert refusal(forge).reason == Reason.SIGNATURE_INVALID


def test_crls_cannot_stand_for_each_other(forge: Forge) -> None:
    forge.replaced["pck_crl.der"] = forge.endorsements()["root_ca_crl.der"]
    assert refusal(forge).reason == Reason.COLLATERAL_MISMATCH


def test_crl_chain_must_be_of_the_ca_that_issued_the_pck(forge: Forge) -> None:
    other = certify(ISSUER.root, "Lab SGX PCK Processor CA", new_key().public_key())
    forge.replaced["pck_crl_chain.pem"] = pem(other, ISSUER.root.certificate)
    assert refusal(forge).reason == Reason.COLLATERAL_MISMATCH


def test_crl_chain_of_another_root_is_refused(forge: Forge) -> None:
    forge.replaced["pck_crl_chain.pem"] = STRANGER.collateral(now=NOW)["pck_crl_chain.pem"]
    assert refusal(forge).reason == Reason.CHAIN_INVALID


# --- TCB info and QE identity ------------------------------------------------------------------

DOCUMENTS = {"tcb_info": "tcbInfo", "qe_identity": "enclaveIdentity"}
documents = pytest.mark.parametrize("document", DOCUMENTS)


@documents
@pytest.mark.parametrize(
    ("field", "value"),
    [("nextUpdate", "2026-11-23T11:59:59Z"), ("issueDate", "2026-11-23T12:00:01Z")],
)
def test_document_that_is_not_current_is_refused(forge: Forge, document: str, field: str, value: str) -> None:
    getattr(forge, document)[field] = value
    assert refusal(forge).reason == Reason.COLLATERAL_EXPIRED


@documents
@pytest.mark.parametrize(
    ("zone", "year"), [("-05:00", "9999-12-31T23:59:59"), ("+14:00", "0001-01-01T00:00:00")]
)
def test_dates_at_the_end_of_time_are_told_and_end_nothing(
    forge: Forge, document: str, zone: str, year: str
) -> None:
    # Anybody signs them, under a root of their own, and sends them to whoever judges.
    getattr(forge, document)["issueDate"] = "9999-12-31T00:00:00Z"
    getattr(forge, document)["nextUpdate"] = year + zone
    found = refusal(forge)
    assert found.reason == Reason.COLLATERAL_EXPIRED
    assert found.seen.endswith(f"to {year}{zone}")


@documents
def test_signature_covers_the_bytes_as_served(forge: Forge, document: str) -> None:
    served = forge.endorsements()[f"{document}.json"]
    forge.replaced[f"{document}.json"] = served.replace(b'":', b'": ')
    assert refusal(forge).reason == Reason.SIGNATURE_INVALID


@documents
def test_whitespace_around_the_signed_bytes_is_not_signed(forge: Forge, document: str) -> None:
    served = forge.endorsements()[f"{document}.json"]
    forge.replaced[f"{document}.json"] = served.replace(b',"signature":', b' ,\n "signature" : ') + b"\n"
    assert forge.verify().status == "UpToDate"


@documents
def test_one_changed_digit_is_an_invalid_signature(forge: Forge, document: str) -> None:
    served = forge.endorsements()[f"{document}.json"]
    forge.replaced[f"{document}.json"] = served.replace(
        b'"tcbEvaluationDataNumber":19', b'"tcbEvaluationDataNumber":20'
    )
    assert refusal(forge).reason == Reason.SIGNATURE_INVALID


@documents
def test_document_of_another_root_is_refused(forge: Forge, document: str) -> None:
    name = DOCUMENTS[document]
    forge.replaced[f"{document}.json"] = STRANGER.sign(name, getattr(forge, document))
    forge.replaced[f"{document}_chain.pem"] = STRANGER.collateral(now=NOW)[f"{document}_chain.pem"]
    assert refusal(forge).reason == Reason.CHAIN_INVALID


@documents
def test_pck_ca_may_not_sign_documents(forge: Forge, document: str) -> None:
    signer = ISSUER.pck_ca
    forge.replaced[f"{document}.json"] = signed_by(signer.key, DOCUMENTS[document], getattr(forge, document))
    forge.replaced[f"{document}_chain.pem"] = pem(signer.certificate, ISSUER.root.certificate)
    assert refusal(forge).reason == Reason.CHAIN_INVALID


@documents
@pytest.mark.parametrize(("name", "usage"), [("Lab SGX Something", True), ("Lab SGX TCB Signing", False)])
def test_other_certificates_of_the_root_may_not_sign_documents(
    forge: Forge, document: str, name: str, usage: bool
) -> None:
    key = new_key()
    certificate = certify(ISSUER.root, name, key.public_key(), usage=usage)
    forge.replaced[f"{document}.json"] = signed_by(key, DOCUMENTS[document], getattr(forge, document))
    forge.replaced[f"{document}_chain.pem"] = pem(certificate, ISSUER.root.certificate)
    assert refusal(forge).reason == Reason.CHAIN_INVALID


@documents
def test_signer_that_only_names_the_root_as_its_issuer_may_not_sign_documents(
    forge: Forge, document: str
) -> None:
    key = new_key()
    impostor = Authority(ISSUER.root.certificate, new_key())
    certificate = certify(impostor, "Lab SGX TCB Signing", key.public_key())
    forge.replaced[f"{document}.json"] = signed_by(key, DOCUMENTS[document], getattr(forge, document))
    forge.replaced[f"{document}_chain.pem"] = pem(certificate, ISSUER.root.certificate)
    assert refusal(forge).reason == Reason.CHAIN_INVALID


@documents
def test_signer_whose_certificate_expired_may_not_sign_documents(forge: Forge, document: str) -> None:
    key = new_key()
    certificate = certify(ISSUER.root, "Lab SGX TCB Signing", key.public_key(), since=NOW - 3 * DAY)
    forge.replaced[f"{document}.json"] = signed_by(key, DOCUMENTS[document], getattr(forge, document))
    forge.replaced[f"{document}_chain.pem"] = pem(certificate, ISSUER.root.certificate)
    assert refusal(forge).reason == Reason.CERTIFICATE_EXPIRED


@documents
def test_pck_may_not_sign_documents(forge: Forge, document: str) -> None:
    # Every platform's owner has a PCK below the root: it must not speak for TCBs.
    leaf, issuer, _ = x509.load_pem_x509_certificates(forge.pck_chain)
    forge.replaced[f"{document}.json"] = signed_by(
        forge.pck_key, DOCUMENTS[document], getattr(forge, document)
    )
    forge.replaced[f"{document}_chain.pem"] = pem(leaf, issuer)
    assert refusal(forge).reason == Reason.CHAIN_INVALID


@documents
@pytest.mark.parametrize(
    "served",
    [
        b"{",
        b"[]",
        b'{"tcbInfo":{},"enclaveIdentity":{},"signature":""}',
        b'{"tcbInfo":' + b"[" * 50_000,
        b'{"tcbInfo":{},"signature":"\xff"}',
    ],
)
def test_document_that_is_not_its_json_is_malformed(forge: Forge, document: str, served: bytes) -> None:
    forge.replaced[f"{document}.json"] = served
    assert refusal(forge).reason == Reason.MALFORMED


@documents
def test_unsigned_additions_are_malformed(forge: Forge, document: str) -> None:
    forge.replaced[f"{document}.json"] = forge.endorsements()[f"{document}.json"][:-1] + b',"more":1}'
    assert refusal(forge).reason == Reason.MALFORMED


@documents
def test_signed_additions_are_the_vendors_business(forge: Forge, document: str) -> None:
    getattr(forge, document)["introducedLater"] = {"by": "the vendor"}
    assert forge.verify().status == "UpToDate"


@documents
@pytest.mark.parametrize("lost", ["issueDate", "nextUpdate", "tcbLevels", "tcbEvaluationDataNumber"])
def test_signed_document_without_a_field_is_malformed(forge: Forge, document: str, lost: str) -> None:
    del getattr(forge, document)[lost]
    assert refusal(forge).reason == Reason.MALFORMED


@pytest.mark.parametrize(
    ("document", "field", "value"),
    [
        ("tcb_info", "id", "SGX"),
        ("tcb_info", "version", 2),
        ("tcb_info", "tcbType", 1),
        ("tcb_info", "fmspc", "1AB0C06F0001"),
        ("tcb_info", "pceId", "0001"),
        ("qe_identity", "id", "QE"),
        ("qe_identity", "version", 3),
    ],
)
def test_document_of_something_else_is_a_mismatch(
    forge: Forge, document: str, field: str, value: object
) -> None:
    getattr(forge, document)[field] = value
    assert refusal(forge).reason == Reason.COLLATERAL_MISMATCH


def test_fmspc_is_compared_without_regard_to_case(forge: Forge) -> None:
    forge.tcb_info["fmspc"] = forge.tcb_info["fmspc"].lower()
    assert forge.verify().status == "UpToDate"


# --- the TD ------------------------------------------------------------------------------------


def test_debug_is_claimed(forge: Forge) -> None:
    forge.td.attributes |= 1
    assert forge.verify().debug


@pytest.mark.parametrize("bit", range(1, 8))
def test_other_debug_attributes_are_claimed_as_debug_and_as_unknown(forge: Forge, bit: int) -> None:
    forge.td.attributes |= 1 << bit
    # The second refuses them also where a policy lets a workload be debugged.
    assert (forge.verify().debug, forge.verify().unknown_attributes) == (True, True)


def test_migratable_attribute_is_claimed(forge: Forge) -> None:
    forge.td.attributes |= 1 << 29
    assert forge.verify().migratable


def test_service_td_is_claimed(forge: Forge) -> None:
    forge.version = 5
    assert (forge.verify().service_td, forge.verify().unstated) == (False, ())
    forge.mrservicetd = bytes(47) + b"\x01"
    assert forge.verify().service_td


def test_a_quote_that_has_no_field_for_service_tds_says_nothing_of_them(forge: Forge) -> None:
    genuine = forge.verify()
    assert genuine.service_td is None
    assert genuine.unstated == ("service TD (quote v4, TD 1.0 body)",)


def test_enabled_virtualization_exceptions_are_claimed(forge: Forge) -> None:
    assert forge.verify().sept_ve_disable
    forge.td.attributes ^= SEPT_VE_DISABLE
    assert not forge.verify().sept_ve_disable


@pytest.mark.parametrize("bit", [27, 30, 31, 62, 63])
def test_attributes_of_known_harmless_meaning_are_known(forge: Forge, bit: int) -> None:
    forge.td.attributes |= 1 << bit
    assert not forge.verify().unknown_attributes


@pytest.mark.parametrize("bit", [8, 26, 32, 61])
def test_attributes_of_unknown_meaning_are_claimed(forge: Forge, bit: int) -> None:
    forge.td.attributes |= 1 << bit
    assert forge.verify().unknown_attributes


def test_age_of_collateral_counts_the_list_of_pcks_and_not_that_of_the_root(forge: Forge) -> None:
    issued = forge.verify().collateral_time
    assert issued is not None
    # Intel renews its root's list once a year: the newest there is may be that old.
    forge.replaced["root_ca_crl.der"] = ISSUER.revoke(ISSUER.root, [], now=NOW - 20 * DAY)
    assert forge.verify().collateral_time == issued
    forge.replaced["pck_crl.der"] = ISSUER.revoke(ISSUER.pck_ca, [], now=NOW - 20 * DAY)
    older = forge.verify().collateral_time
    assert older is not None
    assert older <= NOW - 20 * DAY < issued


def test_age_of_collateral_is_that_of_the_older_of_the_two_documents(forge: Forge) -> None:
    older = "2026-11-01T00:00:00Z"
    for document in (forge.tcb_info, forge.qe_identity):
        kept, document["issueDate"] = document["issueDate"], older
        assert forge.verify().collateral_time == datetime.fromisoformat(older)
        document["issueDate"] = kept


# --- nothing else escapes, nothing else passes --------------------------------------------------


FLIPPED = Forge(issuer=ISSUER)
QUOTE, ENDORSEMENTS = FLIPPED.quote(), FLIPPED.endorsements()
GENUINE = FLIPPED.verify()


def flip(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def refused_or_the_same(quote: bytes, endorsements: dict[str, bytes]) -> None:
    # Some bits carry nothing: line ends of PEM, the case of hex digits.
    try:
        claims = tdx.verify(quote, endorsements, now=NOW)
    except AttestationError:
        return
    assert claims == GENUINE


def test_every_bit_of_what_is_signed_counts() -> None:
    for position in range(0, len(FLIPPED.signed()) + 4 + 128 + 6 + 384 + 64, 3):
        with pytest.raises(AttestationError):
            tdx.verify(flip(QUOTE, position, position % 8), ENDORSEMENTS, now=NOW)


@settings(max_examples=300)
@given(position=st.integers(0, len(QUOTE) - 1), bit=st.integers(0, 7))
def test_flipped_bit_of_a_quote_changes_no_claim(position: int, bit: int) -> None:
    refused_or_the_same(flip(QUOTE, position, bit), ENDORSEMENTS)


@settings(max_examples=400)
@given(name=st.sampled_from(NAMES), position=st.integers(0, 5000), bit=st.integers(0, 7))
def test_flipped_bit_of_an_endorsement_changes_no_claim(name: str, position: int, bit: int) -> None:
    value = ENDORSEMENTS[name]
    refused_or_the_same(QUOTE, {**ENDORSEMENTS, name: flip(value, position % len(value), bit)})


@given(name=st.sampled_from(NAMES), value=st.binary(min_size=1, max_size=600))
def test_any_bytes_as_endorsement_are_refused(name: str, value: bytes) -> None:
    with pytest.raises(AttestationError):
        tdx.verify(QUOTE, {**ENDORSEMENTS, name: value}, now=NOW)


def test_independent_verifier_agrees_on_the_unchanged_forge(forge: Forge) -> None:
    judgement = judge(forge.quote(), forge.endorsements(), forge.root_der, now=NOW)
    assert (judgement.status, judgement.refusal) == ("UpToDate", "")
