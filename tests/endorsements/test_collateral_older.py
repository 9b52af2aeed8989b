"""An older document takes no newer one's place: in no file, beside no evidence, in no bundle and no cache."""

import fcntl
import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from attestation.bundles.bundle import decode_file, encode_file, sign_bundle, unverified_bundle
from attestation.bundles.bundle import decode_signed as decode
from attestation.bundles.subjects import Subject
from attestation.endorsements.errors import WrongDocumentError
from attestation.endorsements.gather import merge, refuse_older
from attestation.endorsements.newer import choose
from console import cli, collateral_keep
from lab.simulate.tdx_issuer import tcb_info
from schemas.collateral import CollateralEntry, Entries
from sealing.documents import open_anchor
from sealing.keys import SigningKey
from tests.attestation.tdx_forge import NOW, Forge
from tests.endorsements.conftest import FMSPC
from tests.endorsements.world import Service

pytestmark = pytest.mark.usefixtures("surroundings")

DAY = timedelta(days=1)
PCK_CRL = Subject("pck-crl", ("platform",))
PCK_CRL_TARGET = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
TCB_INFO_TARGET = f"/tdx/certification/v4/tcb?fmspc={FMSPC}"


def serial_of(forge: Forge) -> int:
    return x509.load_pem_x509_certificates(forge.pck_chain.rstrip(b"\0"))[0].serial_number


@pytest.fixture
def listed(today: Forge, service: Service) -> bytes:
    """The list of today, which names the machine. What the service has otherwise is of yesterday."""
    now = datetime.now(UTC)
    for name, data in today.issuer.collateral(now=now - DAY).items():
        for answer in service.answers.values():
            if answer.body == today.endorsements().get(name):
                answer.body = data
    yesterday = today.issuer.revoke(today.issuer.pck_ca, [], now=now - DAY)
    service.answers[PCK_CRL_TARGET].body = yesterday
    return today.issuer.revoke(today.issuer.pck_ca, [serial_of(today)], now=now)


@pytest.fixture
def stale(fetching: list[str], listed: bytes, service: Service, tmp_path: Path) -> list[str]:
    """A fetch that got today's list before, from a service that has yesterday's again."""
    yesterday = service.answers[PCK_CRL_TARGET].body
    command = [*fetching, "--no-cache", "--beside", "--out", str(tmp_path / "collateral.cbor")]
    service.answers[PCK_CRL_TARGET].body = listed
    assert cli.run(command) == 0
    service.answers[PCK_CRL_TARGET].body = yesterday
    return command


def pck_crl_in(path: Path) -> bytes:
    (entry,) = [each for each in decode_file(path.read_bytes()) if each.subject == str(PCK_CRL)]
    return entry.files["pck_crl.der"]


# --- fetched ----------------------------------------------------------------------------------------


def test_a_service_with_last_weeks_list_brings_nobody_back(
    stale: list[str],
    listed: bytes,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (tmp_path / "collateral.cbor").read_bytes()
    capsys.readouterr()
    assert cli.run(stale) == 1
    assert (folder / "pck_crl.der").read_bytes() == listed
    assert pck_crl_in(tmp_path / "collateral.cbor") == listed
    said = " ".join(capsys.readouterr().err.split())
    assert "kept pck-crl/platform: what came was issued" in said
    assert "take them with --anyway" in said
    # Nor does what is not renewed say that it was.
    kept, was = (
        {each.subject: each for each in decode_file(data)}
        for data in ((tmp_path / "collateral.cbor").read_bytes(), before)
    )
    assert kept[str(PCK_CRL)] == was[str(PCK_CRL)]
    assert cli.run(["evidence", "verify", str(folder), "--root", str(tmp_path / "root.der")]) == 1


def test_json_says_what_was_not_taken(
    stale: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.run([*stale, "--json"]) == 1
    (machine,) = json.loads(capsys.readouterr().out)
    taken = {document["subject"]: document["taken"] for document in machine["documents"]}
    assert taken.pop("pck-crl/platform") is False
    assert set(taken.values()) == {True}


def test_what_is_older_is_taken_if_that_is_meant(
    stale: list[str], service: Service, folder: Path, tmp_path: Path
) -> None:
    assert cli.run([*stale, "--anyway"]) == 0
    older = service.answers[PCK_CRL_TARGET].body
    assert (folder / "pck_crl.der").read_bytes() == pck_crl_in(tmp_path / "collateral.cbor") == older


def test_the_cache_does_not_keep_what_is_meant_from_coming(
    fetching: list[str], listed: bytes, service: Service, folder: Path
) -> None:
    yesterday = service.answers[PCK_CRL_TARGET].body
    service.answers[PCK_CRL_TARGET].body = listed
    assert cli.run([*fetching, "--beside"]) == 0
    service.answers[PCK_CRL_TARGET].body = yesterday
    assert cli.run([*fetching, "--beside", "--anyway"]) == 0
    assert (folder / "pck_crl.der").read_bytes() == yesterday
    # And it still has the newer one.
    assert cli.run([*fetching, "--beside"]) == 0
    assert (folder / "pck_crl.der").read_bytes() == listed


def test_what_this_cache_has_may_be_older_than_a_file_that_somebody_else_renewed(
    fetching: list[str], listed: bytes, service: Service, folder: Path
) -> None:
    assert cli.run([*fetching, "--beside"]) == 0
    (folder / "pck_crl.der").write_bytes(listed)
    assert cli.run([*fetching, "--beside"]) == 0
    assert (folder / "pck_crl.der").read_bytes() == listed


def test_what_is_newer_is_taken_beside_what_stays(
    stale: list[str], today: Forge, service: Service, folder: Path, tmp_path: Path
) -> None:
    renewed = today.issuer.sign("tcbInfo", tcb_info(datetime.now(UTC) + timedelta(minutes=5)))
    service.answers[TCB_INFO_TARGET].body = renewed
    assert cli.run(stale) == 1
    assert (folder / "tcb_info.json").read_bytes() == renewed


def test_a_lower_evaluation_is_older_whatever_its_date(
    fetching: list[str],
    today: Forge,
    service: Service,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run([*fetching, "--beside", "--no-cache"]) == 0
    held = (folder / "tcb_info.json").read_bytes()
    lower = {**tcb_info(datetime.now(UTC) + timedelta(minutes=5)), "tcbEvaluationDataNumber": 17}
    service.answers[TCB_INFO_TARGET].body = today.issuer.sign("tcbInfo", lower)
    assert cli.run([*fetching, "--beside", "--no-cache"]) == 1
    assert (folder / "tcb_info.json").read_bytes() == held
    assert "evaluation 17" in capsys.readouterr().err


@pytest.mark.parametrize("cached", [True, False], ids=["beside the cache", "without one"])
def test_a_service_that_serves_older_ones_is_told_by_the_exit_code(
    cached: bool,
    fetching: list[str],
    today: Forge,
    service: Service,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = [] if cached else ["--no-cache"]
    assert cli.run([*fetching, "--beside", *more]) == 0
    old = tcb_info(datetime.now(UTC) - DAY)
    service.answers[TCB_INFO_TARGET].body = today.issuer.sign("tcbInfo", old)
    monkeypatch.setattr("attestation.endorsements.pcs.DAILY", timedelta(0))
    assert cli.run([*fetching, "--beside", *more]) == 1


# --- what is held is on nobody's word ---------------------------------------------------------------


def platform(forge: Forge, *, now: datetime = NOW) -> dict[str, bytes]:
    files = forge.issuer.collateral(now=now)
    return {name: files[name] for name in ("pck_crl.der", "pck_crl_chain.pem")}


def test_a_list_that_is_no_vendors_outranks_nothing(intel: Forge) -> None:
    came, forged = platform(intel), platform(Forge(), now=NOW + 365 * DAY)
    assert choose(PCK_CRL, came, forged, roots=(intel.root,)) == (came, None)
    assert choose(PCK_CRL, came, {"pck_crl.der": b"junk"}, roots=(intel.root,)) == (came, None)
    of_root = {**came, "pck_crl.der": intel.issuer.revoke(intel.issuer.root, [], now=NOW + DAY)}
    assert choose(PCK_CRL, came, of_root, roots=(intel.root,)) == (came, None)


def test_what_has_expired_still_shows_how_far_the_vendor_was(intel: Forge) -> None:
    # Newer by more than either lives: whatever time it is, one of them is not current.
    came, held = platform(intel), platform(intel, now=NOW + 60 * DAY)
    files, kept = choose(PCK_CRL, came, held, roots=(intel.root,))
    assert files == held
    assert kept is not None
    assert kept.held.issued - kept.came.issued == 60 * DAY


@pytest.mark.parametrize("chain", [b"", b"another's", None])
def test_a_newer_list_that_lost_its_chain_stays_with_the_one_that_came(
    chain: bytes | None, intel: Forge
) -> None:
    came, newer = platform(intel), platform(intel, now=NOW + DAY)
    held = {"pck_crl.der": newer["pck_crl.der"]} | ({} if chain is None else {"pck_crl_chain.pem": chain})
    files, kept = choose(PCK_CRL, came, held, roots=(intel.root,))
    assert files == {**came, "pck_crl.der": newer["pck_crl.der"]}
    assert kept is not None


def test_a_document_of_the_same_age_is_no_step_back(intel: Forge) -> None:
    came, held = platform(intel), platform(intel)
    assert came["pck_crl.der"] != held["pck_crl.der"]
    assert choose(PCK_CRL, came, held, roots=(intel.root,)) == (came, None)


def entry(files: dict[str, bytes]) -> CollateralEntry:
    return CollateralEntry(subject=str(PCK_CRL), files=files, fetched=0)


def test_an_entry_stays_or_goes_whole(intel: Forge) -> None:
    two = Forge()
    roots = (intel.root, two.root)
    newer, older = entry(platform(two, now=NOW + DAY)), entry(platform(intel))
    assert merge((newer,), (older,), roots=roots)[0] == (newer,)
    assert merge((older,), (newer,), roots=roots) == ((newer,), ())


# --- many at once -----------------------------------------------------------------------------------


def test_who_reads_before_and_writes_after_another_takes_nothing_back(today: Forge, tmp_path: Path) -> None:
    now, out = datetime.now(UTC), tmp_path / "out"
    older, newer = (entry(platform(today, now=when)) for when in (now - DAY, now))
    begun, threads = threading.Barrier(9), []

    def put(each: CollateralEntry) -> None:
        begun.wait()
        collateral_keep.put_into_file(out, [each], roots=(today.root,))

    for each in (older, newer, older, newer, older, newer, older, newer):
        threads.append(threading.Thread(target=put, args=(each,)))
        threads[-1].start()
    begun.wait()
    for thread in threads:
        thread.join()
    assert decode_file(out.read_bytes()) == (newer,)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_who_holds_the_folder_for_ever_is_not_waited_for_as_long(
    fetching: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(collateral_keep, "WAIT", 0.0)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert cli.run([*fetching, "--beside"]) == 2
    finally:
        os.close(descriptor)
    assert "another program holds" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["quote.bin"]


# --- signed -----------------------------------------------------------------------------------------


def sign(source: Path, out: Path, *more: object) -> int:
    named = [f"--key={source.parent / name}.key" for name in ("alice", "bob")]
    anchor = ["--anchor", str(source.parent / "anchor")]
    return cli.run(["collateral", "sign", str(source), *anchor, *named, "--out", str(out), *map(str, more)])


@pytest.fixture
def bundles(today: Forge, keys: dict[str, SigningKey], tmp_path: Path) -> tuple[Path, Path]:
    """Files of yesterday and of today, unsigned."""
    made = []
    for days in (1, 0):
        path = tmp_path / f"of-{days}"
        path.write_bytes(encode_file((entry(platform(today, now=datetime.now(UTC) - days * DAY)),)))
        made.append(path)
    return made[0], made[1]


def test_an_old_list_gets_no_fresh_date(
    bundles: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yesterdays, todays = bundles
    bundle, elsewhere = tmp_path / "bundle", tmp_path / "elsewhere"
    assert sign(todays, bundle) == 0
    before = bundle.read_bytes()
    assert sign(yesterdays, bundle) == 1
    assert "pck-crl/platform: what came was issued" in " ".join(capsys.readouterr().err.split())
    assert bundle.read_bytes() == before
    assert sign(yesterdays, elsewhere, "--previous", bundle) == 1
    assert not elsewhere.exists()
    assert sign(todays, bundle) == 0


def test_a_second_operator_sees_that_a_list_is_older_than_in_the_bundle_he_has(
    bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    yesterdays, todays = bundles
    in_use, proposed = tmp_path / "in-use", tmp_path / "proposed"
    assert sign(todays, in_use) == 0
    assert sign(yesterdays, proposed) == 0
    assert sign(proposed, tmp_path / "out", "--previous", in_use) == 1


def test_what_the_bundle_before_had_and_this_one_lacks_is_named_to_who_signs(
    bundles: tuple[Path, Path], today: Forge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: today.endorsements()[name] for name in ("qe_identity.json", "qe_identity_chain.pem")}
    other = CollateralEntry(subject="qe-identity", files=files, fetched=0)
    whole = tmp_path / "whole"
    whole.write_bytes(encode_file((*decode_file(bundles[0].read_bytes()), other)))
    assert sign(whole, tmp_path / "bundle") == 0
    assert "is not here" not in capsys.readouterr().out
    assert sign(bundles[1], tmp_path / "bundle") == 0
    assert "qe-identity: was there before, and is not here" in capsys.readouterr().out


def test_where_no_folder_can_be_held_it_is_written_all_the_same(
    bundles: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(descriptor: int, how: int) -> None:
        raise OSError(9, "Bad file descriptor")  # what NFS says of a folder

    monkeypatch.setattr("fcntl.flock", refused)
    assert sign(bundles[1], tmp_path / "bundle") == 0
    assert (tmp_path / "bundle").exists()


def test_a_bundle_before_that_is_none_is_told(
    bundles: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yesterdays, todays = bundles
    assert sign(yesterdays, tmp_path / "out", "--previous", todays) == 2
    assert "is signed by nobody" in capsys.readouterr().err
    # What lies at --out and is no bundle is replaced, as ever.
    (tmp_path / "out").write_bytes(b"junk")
    assert sign(yesterdays, tmp_path / "out") == 0


def test_a_bundle_that_nobody_would_use_is_not_made(
    bundles: tuple[Path, Path],
    keys: dict[str, SigningKey],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    council, _ = open_anchor((tmp_path / "anchor").read_bytes())
    ahead = time.time_ns() // 1_000_000 + 60_000
    entries: Entries = decode_file(bundles[0].read_bytes())
    out = tmp_path / "bundle"
    out.write_bytes(sign_bundle(council, tuple(keys.values()), entries, issued=ahead))
    assert sign(bundles[1], out) == 2
    assert "a clock is wrong" in " ".join(capsys.readouterr().err.split())
    assert unverified_bundle(decode(out.read_bytes())).issued == ahead


def test_a_forged_bundle_in_the_way_keeps_no_list_from_being_signed(intel: Forge) -> None:
    entries = (entry(platform(intel)),)
    refuse_older(entries, (entry(platform(Forge(), now=NOW + DAY)),), roots=(intel.root,))
    with pytest.raises(WrongDocumentError, match="1 older than in the bundle before"):
        refuse_older(entries, (entry(platform(intel, now=NOW + DAY)),), roots=(intel.root,))


# --- packed -----------------------------------------------------------------------------------------


def test_what_is_packed_says_what_the_file_had_newer(
    bundles: tuple[Path, Path], today: Forge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stick").mkdir()
    for name, data in platform(today, now=datetime.now(UTC) - DAY).items():
        (tmp_path / "stick" / name).write_bytes(data)
    (tmp_path / "root.der").write_bytes(today.root_der)
    before = bundles[1].read_bytes()
    root = str(tmp_path / "root.der")
    command = ["collateral", "pack", str(tmp_path / "stick"), "--root", root, "--out", str(bundles[1])]
    assert cli.run(command) == 0
    assert "kept pck-crl/platform: what came was issued" in " ".join(capsys.readouterr().err.split())
    assert bundles[1].read_bytes() == before
    assert cli.run([*command, "--json"]) == 0
    told = {each["subject"]: each["why"] for each in json.loads(capsys.readouterr().out)["kept"]}
    assert "what came was issued" in told["pck-crl/platform"]


# --- told -------------------------------------------------------------------------------------------


def status(path: Path, capsys: pytest.CaptureFixture[str], *more: object) -> tuple[int, str, dict[str, Any]]:
    capsys.readouterr()
    code = cli.run(["collateral", "status", str(path), *map(str, more)])
    shown = " ".join(capsys.readouterr().out.split())
    assert cli.run(["collateral", "status", str(path), "--json", *map(str, more)]) == code
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, shown, data


def test_status_says_what_is_older_than_before_and_what_is_missing(
    bundles: tuple[Path, Path], today: Forge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yesterdays, todays = bundles
    assert status(todays, capsys, "--previous", yesterdays)[0] == 0
    code, shown, data = status(yesterdays, capsys, "--previous", todays)
    assert code == 1
    assert "what is older than before is not signed" in shown
    assert {each["file"]: each["state"] for each in data["documents"]} == {
        "pck_crl.der": "older",
        "pck_crl_chain.pem": "current",
    }
    files = {name: today.endorsements()[name] for name in ("qe_identity.json", "qe_identity_chain.pem")}
    other = CollateralEntry(subject="qe-identity", files=files, fetched=0)
    before = tmp_path / "before"
    before.write_bytes(encode_file((*decode_file(yesterdays.read_bytes()), other)))
    code, shown, data = status(todays, capsys, "--previous", before)
    assert code == 0
    assert "qe-identity: was there before, and is not here" in shown
    assert data["missing"] == ["qe-identity"]


def test_status_says_what_was_kept_when_the_rest_was_renewed(
    stale: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "collateral.cbor"
    assert "not fetched since" not in status(out, capsys)[1]
    entries = decode_file(out.read_bytes())
    week = 7 * 86_400
    aged = tuple(
        CollateralEntry(subject=each.subject, files=each.files, fetched=each.fetched - week)
        for each in entries
    )
    out.write_bytes(encode_file(aged))
    assert cli.run(stale) == 1
    code, shown, data = status(out, capsys)
    assert code == 0
    assert "pck-crl/platform: not fetched since" in shown
    assert shown.count("not fetched since") == 1
    fetched = {each["entry"]: each["fetched"] for each in data["documents"]}
    assert fetched["pck-crl/platform"] < fetched["qe-identity"]


def test_a_time_of_fetching_that_is_none_does_not_end_status(
    bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (held,) = decode_file(bundles[1].read_bytes())
    far = CollateralEntry(subject=held.subject, files=held.files, fetched=2**40 - 1)
    bundles[1].write_bytes(encode_file((far,)))
    code, _, data = status(bundles[1], capsys)
    assert code == 0
    assert {each["fetched"] for each in data["documents"]} == {None}


@pytest.mark.parametrize("zone", ["+14:00", "-14:00"])
@pytest.mark.parametrize("year", ["0001-01-01T00:00:00", "9999-12-31T23:59:59"])
def test_a_date_at_the_end_of_time_ends_nothing(
    year: str, zone: str, today: Forge, fetching: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = {**tcb_info(datetime.now(UTC)), "issueDate": year + zone, "nextUpdate": year + zone}
    for name, data in today.endorsements().items():
        (folder / name).write_bytes(data)
    (folder / "tcb_info.json").write_bytes(today.issuer.sign("tcbInfo", of))
    assert status(folder, capsys)[0] == 1
    assert cli.run([*fetching, "--beside"]) in (0, 1)
