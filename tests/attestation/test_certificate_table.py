"""The certificate table of a SEV-SNP host: read when it is one, refused within its bounds when it is not."""

import base64
import os
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import EvidenceMalformedError
from attestation.sev_snp.table import MAX_CERTIFICATE, MAX_ENTRIES, MAX_TABLE, NAMES, read_table
from schemas.errors import Reason
from tests.attestation.tables import GUIDS, entry, table_of

VECTORS = Path(
    os.environ.get("SEALBUS_EVIDENCE", Path(__file__).resolve().parents[3] / "shared" / "evidence")
)
UNKNOWN = "ecae0c0f-9502-43b1-afa2-0ae2e0d565b6"
VCEK = GUIDS["vcek.der"]
END = bytes(24)


def pem(der: bytes, line: str = "\n") -> bytes:
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return line.join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]).encode()


def test_every_kind_of_certificate_gets_its_name() -> None:
    given_ = {name: name.encode() for name in NAMES.values()}
    assert read_table(table_of(given_)) == given_


def test_guids_are_in_the_order_in_which_they_are_written() -> None:
    assert table_of({"ark.der": b"x"}).hex().startswith("c0b406a4a803495297433fb6014cd0ae")


def test_a_real_table_in_pem_gives_certificates_in_der() -> None:
    folder = VECTORS / "sev-snp" / "genoa-v3-vcek-veraison-tsm-report"
    if not folder.exists():
        pytest.skip("no vectors of real evidence: name their folder in SEALBUS_EVIDENCE")
    found = read_table((folder / "auxblob.bin").read_bytes())
    assert found == {name: (folder / name).read_bytes() for name in ("ark.der", "ask.der", "vcek.der")}


@pytest.mark.parametrize("line", ["\n", "\r\n"])
@pytest.mark.parametrize("tail", [b"", b"\0", b"\n\0\0"])
def test_pem_is_taken_with_the_line_ends_and_padding_of_its_host(line: str, tail: bytes) -> None:
    der = bytes(range(200))
    assert read_table(table_of({"vcek.der": pem(der, line) + tail})) == {"vcek.der": der}


def test_no_table_and_an_empty_one_have_no_certificates() -> None:
    assert read_table(b"") == {}
    assert read_table(END) == {}
    assert read_table(END + bytes(4096)) == {}


def test_entries_of_other_kinds_are_skipped() -> None:
    table = table_of({"vcek.der": b"certificate"}, {UNKNOWN: b"\0" * 20_000})
    assert read_table(table) == {"vcek.der": b"certificate"}


def test_entries_may_stand_in_any_order_with_gaps() -> None:
    ask, ark = GUIDS["ask.der"], GUIDS["ark.der"]
    table = entry(ask, 90, 3) + entry(ark, 80, 4) + END + b"\xff" * 8 + b"root" + b"\xff" * 6 + b"ask"
    assert read_table(table) == {"ark.der": b"root", "ask.der": b"ask"}


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(b"\0", id="shorter than an entry"),
        pytest.param(entry(VCEK, 24, 1), id="without an end"),
        pytest.param(entry(VCEK, 24, 1) + b"\0" * 23, id="an end that is cut short"),
        pytest.param(entry(VCEK, 48, 5) + END + b"four", id="beyond the table"),
        pytest.param(entry(VCEK, 0xFFFFFFFF, 0xFFFFFFFF) + END, id="far beyond the table"),
        pytest.param(entry(VCEK, 49, 0xFFFFFFFF) + END + b"four", id="a length that would wrap"),
        pytest.param(entry(UUID(UNKNOWN), 48, 5) + END + b"four", id="unknown, beyond the table"),
        pytest.param(entry(VCEK, 0, 48) + END, id="over its own directory"),
        pytest.param(entry(VCEK, 47, 2) + END + b"four", id="over the end's last byte"),
        pytest.param(entry(VCEK, 48, 0) + END, id="empty"),
        pytest.param(entry(VCEK, 96, 1) + entry(VCEK, 97, 1) + END + bytes(64), id="one kind twice"),
        pytest.param(
            entry(VCEK, 72, 4) + entry(GUIDS["ark.der"], 75, 4) + END + b"overlaps", id="overlapping"
        ),
        pytest.param(table_of({"vcek.der": b"\x30" * (MAX_CERTIFICATE + 1)}), id="too large a certificate"),
        pytest.param(entry(UUID(UNKNOWN), 4000, 0) * (MAX_ENTRIES + 1) + END + bytes(4096), id="too many"),
        pytest.param(table_of({"vcek.der": b"-----BEGIN PRIVATE KEY-----\nAAAA\n"}), id="another PEM"),
        pytest.param(table_of({"vcek.der": pem(b"a") + pem(b"b")}), id="two certificates"),
        pytest.param(table_of({"vcek.der": pem(b"abc")[:-10]}), id="PEM that is cut short"),
        pytest.param(
            table_of({"vcek.der": b"-----BEGIN CERTIFICATE-----\nA===\n-----END CERTIFICATE-----\n"}),
            id="no base64",
        ),
    ],
)
def test_what_is_no_table_is_refused(table: bytes) -> None:
    with pytest.raises(EvidenceMalformedError) as refusal:
        read_table(table)
    assert refusal.value.reason is Reason.MALFORMED


def test_a_table_beyond_the_limit_is_not_read() -> None:
    with pytest.raises(EvidenceMalformedError) as refusal:
        read_table(bytes(MAX_TABLE + 1))
    assert refusal.value.reason is Reason.TOO_LARGE


ENTRIES = st.builds(entry, st.sampled_from([*NAMES, UUID(UNKNOWN)]), st.integers(0, 400), st.integers(0, 400))


@given(
    st.one_of(
        st.binary(max_size=400), st.builds(lambda e, b: b"".join(e) + END + b, st.lists(ENTRIES), st.binary())
    )
)
def test_any_bytes_are_a_table_or_are_refused(data: bytes) -> None:
    try:
        found = read_table(data)
    except EvidenceMalformedError:
        return
    assert set(found) <= set(NAMES.values())
    assert sum(map(len, found.values())) <= len(data)


@given(st.dictionaries(st.sampled_from(sorted(GUIDS)), st.binary(min_size=1, max_size=300)))
def test_what_was_laid_out_is_read_back(certificates: dict[str, bytes]) -> None:
    armoured = {name: pem(der) for name, der in certificates.items()}
    assert read_table(table_of(armoured)) == certificates
