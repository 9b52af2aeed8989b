"""TDX quotes as bytes: read exactly, or refused with a type and a reason."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import AttestationError, EvidenceMalformedError
from attestation.tdx.parse import BODY_SIZES, HEADER_SIZE, TD_REPORT_1_0, parse_quote
from schemas.errors import Reason
from schemas.evidence import MAX_EVIDENCE
from tests.attestation.tdx_forge import Forge

V4_BODY = HEADER_SIZE + BODY_SIZES[TD_REPORT_1_0]  # where the signature section's length stands

FORGE = Forge()
V4 = FORGE.quote()
V5 = Forge(issuer=FORGE.issuer, version=5).quote()


def patched(quote: bytes, at: int, value: bytes) -> bytes:
    return quote[:at] + value + quote[at + len(value) :]


def test_fields_are_where_the_layout_says() -> None:
    quote = parse_quote(V4)
    assert quote.version == 4
    assert quote.signed == V4[:V4_BODY]
    assert quote.report.mrtd == V4[48 + 0x88 : 48 + 0xB8] == b"\x01" * 48
    assert quote.report.mrconfigid == V4[48 + 0xB8 : 48 + 0xE8] == b"\x02" * 48
    assert quote.report.rtmrs == tuple(bytes([0x10 + n]) * 48 for n in range(4))
    assert quote.report.report_data == V4[48 + 0x208 : 48 + 0x248] == b"\x2a" * 64
    assert quote.report.attributes == 1 << 28
    assert (quote.qe_report.isvprodid, quote.qe_report.isvsvn) == (2, 6)
    assert quote.pck_chain.count(b"-----BEGIN CERTIFICATE-----") == 3


def test_version_5_differs_by_its_type_and_size_words_which_are_signed() -> None:
    quote = parse_quote(V5)
    assert quote.version == 5
    assert quote.signed == V5[: 48 + 6 + 648]
    assert quote.report.mrtd == b"\x01" * 48
    assert quote.report.mrservicetd == bytes(48)
    # Report 1.0 has no such field, which is not the same as one that is zero.
    assert parse_quote(V4).report.mrservicetd is None


def test_padding_after_the_quote_is_ignored() -> None:
    assert parse_quote(V4 + bytes(3000)) == parse_quote(V4)
    assert parse_quote(V4 + b"appended by a wrapper") == parse_quote(V4)


def test_every_truncation_is_malformed() -> None:
    for size in range(len(V4)):
        with pytest.raises(EvidenceMalformedError) as refusal:
            parse_quote(V4[:size])
        assert refusal.value.reason == Reason.MALFORMED


SECTION = V4_BODY + 4
AUTHENTICATION = SECTION + 0x246
INNER_TYPE = AUTHENTICATION + 2 + 32

CHANGES: dict[str, tuple[Callable[[], bytes], Reason]] = {
    "sgx version 3": (lambda: patched(V4, 0, b"\x03\x00"), Reason.UNSUPPORTED_PLATFORM),
    "sgx in version 4": (lambda: patched(V4, 4, bytes(4)), Reason.UNSUPPORTED_PLATFORM),
    "sgx body in version 5": (
        lambda: patched(V5, 48, struct.pack("<HI", 1, 384)),
        Reason.UNSUPPORTED_PLATFORM,
    ),
    "unknown tee": (lambda: patched(V4, 4, b"\x82"), Reason.UNSUPPORTED_PLATFORM),
    "version 6": (lambda: patched(V4, 0, b"\x06\x00"), Reason.UNSUPPORTED_VERSION),
    "key of P-384": (lambda: patched(V4, 2, b"\x03\x00"), Reason.UNSUPPORTED_VERSION),
    "another quoting enclave": (lambda: patched(V4, 12, bytes(16)), Reason.UNSUPPORTED_VERSION),
    "body type 4": (lambda: patched(V5, 48, b"\x04\x00"), Reason.UNSUPPORTED_VERSION),
    "body of another size": (lambda: patched(V5, 50, struct.pack("<I", 647)), Reason.MALFORMED),
    "type 5 outside": (lambda: patched(V4, SECTION + 0x80, b"\x05\x00"), Reason.UNSUPPORTED_VERSION),
    "PCK named by PPID": (lambda: patched(V4, INNER_TYPE, b"\x03\x00"), Reason.UNSUPPORTED_VERSION),
    "authentication data too large": (
        lambda: patched(V4, AUTHENTICATION, struct.pack("<H", 1025)),
        Reason.TOO_LARGE,
    ),
    "certificates too large": (
        lambda: patched(V4, INNER_TYPE + 2, struct.pack("<I", 1 << 31)),
        Reason.TOO_LARGE,
    ),
    "a gap after the chain": (
        lambda: patched(V4, INNER_TYPE + 2, struct.pack("<I", len(V4) - INNER_TYPE - 7)),
        Reason.MALFORMED,
    ),
    "a gap after the section": (
        lambda: patched(V4, V4_BODY, struct.pack("<I", len(V4) - SECTION + 1)) + b"\x00",
        Reason.MALFORMED,
    ),
    "section beyond the end": (lambda: patched(V4, V4_BODY, b"\xff\xff\xff\xff"), Reason.MALFORMED),
    "empty": (lambda: b"", Reason.MALFORMED),
    "10 MB": (lambda: bytes(10_000_000), Reason.TOO_LARGE),
    "10 MB after a quote": (lambda: V4 + bytes(10_000_000), Reason.TOO_LARGE),
    "one byte too many": (lambda: V4 + bytes(MAX_EVIDENCE + 1 - len(V4)), Reason.TOO_LARGE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_change_is_one_reason(change: str) -> None:
    make, reason = CHANGES[change]
    with pytest.raises(EvidenceMalformedError) as refusal:
        parse_quote(make())
    assert refusal.value.reason == reason
    if reason is Reason.UNSUPPORTED_VERSION and change != "another quoting enclave":
        assert refusal.value.seen
        assert refusal.value.wanted


@given(st.binary(max_size=6000))
def test_no_random_bytes_are_a_quote(data: bytes) -> None:
    with pytest.raises(EvidenceMalformedError):
        parse_quote(data)


@given(
    quote=st.sampled_from([V4, V5]),
    at=st.integers(0, len(V5)),
    removed=st.integers(0, 64),
    inserted=st.binary(max_size=64),
)
def test_any_splice_of_a_quote_is_read_or_refused(
    quote: bytes, at: int, removed: int, inserted: bytes
) -> None:
    spliced = quote[:at] + inserted + quote[at + removed :]
    try:
        parsed = parse_quote(spliced)
    except AttestationError:
        return
    assert spliced.startswith(parsed.signed)
