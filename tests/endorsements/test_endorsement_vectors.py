"""Genuine evidence: what it needs is named rightly, and what came with it is just that, at its time."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from attestation.assess import assess
from attestation.bundles.bundle import completed
from attestation.bundles.subjects import CRL, VCEK, Subject
from attestation.endorsements import WrongDocumentError, needs_of
from attestation.endorsements.checks import NAMES, check
from attestation.endorsements.sort import Unfit, sort
from attestation.needs import Needs, SnpNeeds
from attestation.vendors import VENDOR_ROOTS
from console.evidence_files import Found, read
from schemas.collateral import CollateralEntry
from schemas.evidence import SEV_SNP, TDX

EVIDENCE = Path(os.environ.get("SEALBUS_EVIDENCE") or Path(__file__).parents[3] / "shared" / "evidence")
GENUINE = sorted(
    folder
    for platform in ("sev-snp", "tdx", "nitro")
    for folder in (EVIDENCE / platform).glob("*")
    if not folder.name.startswith("neg-") and "sigonly" not in folder.name
) or [EVIDENCE / "absent"]
ROOTS = VENDOR_ROOTS[SEV_SNP] + VENDOR_ROOTS[TDX]

every_genuine = pytest.mark.parametrize("folder", GENUINE, ids=lambda folder: folder.name)


@pytest.fixture(autouse=True)
def evidence() -> None:
    if not EVIDENCE.is_dir():
        absent = f"no evidence under {EVIDENCE}: point SEALBUS_EVIDENCE at the vectors"
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)


def valid_at(folder: Path) -> datetime:
    meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=dict[str, msgspec.Raw])
    return msgspec.json.decode(meta["valid_at"], type=datetime)


def named_by(needs: Needs) -> tuple[Subject, ...]:
    if needs is None:
        return ()
    if isinstance(needs, SnpNeeds):
        # No public repository ships one of AMD's lists.
        return tuple(each for each in needs.subjects(needs.products[0]) if each.kind != CRL)
    return needs.subjects()


def files_of(subject: Subject, found: Found) -> dict[str, bytes]:
    return {name: data for name, data in found.endorsements.items() if name in NAMES[subject.kind]}


@every_genuine
def test_what_came_with_evidence_is_what_the_evidence_asks_for(folder: Path) -> None:
    found = read(folder)
    needs = needs_of(found.evidence, found.endorsements)
    for subject in named_by(needs):
        validity = check(subject, files_of(subject, found), roots=ROOTS, now=valid_at(folder))
        assert validity.issued <= valid_at(folder) <= validity.expires
        late = validity.expires + timedelta(seconds=1)
        with pytest.raises(WrongDocumentError):
            check(subject, files_of(subject, found), roots=ROOTS, now=late)


@every_genuine
def test_no_other_chip_takes_its_certificate(folder: Path) -> None:
    found = read(folder)
    for subject in named_by(needs_of(found.evidence, found.endorsements)):
        if subject.kind == VCEK:
            product, chip, tcb = subject.of
            other = Subject(VCEK, (product, "00" + chip[2:], tcb))
            with pytest.raises(WrongDocumentError, match="another chip"):
                check(other, files_of(other, found), roots=ROOTS, now=valid_at(folder))


@every_genuine
def test_raw_evidence_is_told_by_its_frame(folder: Path) -> None:
    whole = read(folder)
    for name in ("report.bin", "quote.bin", "attestation.cbor"):
        if (folder / name).is_file():
            assert read(folder / name) == whole


@every_genuine
def test_what_is_packed_from_a_folder_completes_its_evidence_alone(folder: Path) -> None:
    found, at = read(folder), valid_at(folder)
    packed = [each for each in sort(found.endorsements, roots=ROOTS, now=at) if not isinstance(each, Unfit)]
    entries = tuple(
        CollateralEntry(subject=str(subject), files=files, fetched=0) for subject, files in packed
    )
    whole = completed(found.evidence, {}, entries)
    assert whole.items() <= found.endorsements.items()
    assert assess(found.evidence, whole, now=at) == assess(found.evidence, found.endorsements, now=at)
