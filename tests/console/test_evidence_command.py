"""`sealbus evidence`: every vector is judged as its collectors recorded, and bad input is told apart."""

import ast
import base64
import json
import os
import re
import subprocess
import sys
import time
from base64 import encodebytes, urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from shutil import copytree
from typing import Any

import cbor2
import pytest

import attestation
from attestation.bundles.bundle import encode_file
from attestation.errors import NotGenuineError
from attestation.explain import explain_failure, explain_finding
from attestation.missing import CODES
from attestation.tdx.collateral import NAMES
from attestation.tdx.tcb import FOREIGN_MODULE, FOREIGN_QE, NOT_OF_INTEL, UNKNOWN_MODULE, UNKNOWN_STATUS
from attestation.trust import Claim, Finding
from attestation.vendors import AMD_ROOTS
from console.cli import run
from console.evidence_files import read_bounded, read_endorsements
from lab.simulate import nitro, sev_snp
from lab.simulate.nitro import NitroCard
from schemas.errors import Reason, UsageError
from schemas.evidence import MAX_EVIDENCE, MEASURED, NITRO, PLATFORMS, SEV_SNP, TDX
from schemas.vendor_roots import VENDOR_ROOTS
from tests.amd import amd_root
from tests.attestation.clouds import CLOUD, SIGNED_BY_VLEK, cloud_chain
from tests.attestation.vectors import EVIDENCE, FILES, folders, load, parameters, present

Verify = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """Run `sealbus evidence verify --json` and give its exit code and what it printed."""

    def run_it(path: Path, *options: str) -> tuple[int, dict[str, Any]]:
        code = run(["evidence", "verify", str(path), *options, "--json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}

    return run_it


def at(folder: Path) -> tuple[str, str]:
    return "--at", json.loads((folder / "meta.json").read_text())["valid_at"]


def one_of(platform: str, name: str) -> Path:
    folder = EVIDENCE / platform / name
    return present(folder if folder.exists() else None)


def copy_of(folder: Path, to: Path) -> Path:
    made = Path(copytree(folder, to / folder.name))
    for file in (made, *made.iterdir()):
        file.chmod(0o700)
    return made


# --- the vectors --------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", parameters(folders(*PLATFORMS)))
def test_vector_is_judged_as_recorded(folder: Path | None, verify: Verify) -> None:
    folder = present(folder)
    meta = load(folder).meta
    code, result = verify(folder, *at(folder))
    assert result["genuine"] == (meta["expect"] == "ok")
    accepted = meta["production_policy"]["verdict"] == "accept"
    # What is altered so that nothing can be read is refused by being unreadable.
    unreadable = result["reasons"] == ["malformed"]
    assert code == (0 if accepted else 2 if unreadable else 1)
    assert unreadable <= folder.name.startswith("neg-")
    assert (result["status"] == "contraindicated") == (not accepted)
    assert result["platform"] == folder.parent.name
    if meta["expect"] == "ok":
        recorded = meta["measurement"]
        for name in result["measurements"].keys() & recorded.keys():
            assert result["measurements"][name] == recorded[name]
        assert result["debug"] == bool(
            meta.get("debug") or "td-debug" in meta["production_policy"]["reasons"]
        )
        assert result["tcb_status"] == meta["tcb_status"]
        assert result["missing"] == [each for each in NAMES if not (folder / each).exists()] or (
            folder.parent.name != TDX
        )


PLANNED: dict[str, tuple[int, bool, str | None, str | None]] = {
    # name: exit code, genuine, TCB status, first reason of a refusal
    "confneeded": (1, True, "ConfigurationNeeded", "tcb-status-not-accepted"),
    "confswhardening": (1, True, "ConfigurationAndSWHardeningNeeded", "tcb-status-not-accepted"),
    "debug": (1, True, "UpToDate", "debug-enabled"),
    "outofdate": (1, True, "OutOfDate", "tcb-status-not-accepted"),
    "outofdateconf": (1, True, "OutOfDateConfigurationNeeded", "tcb-status-not-accepted"),
    "pck-revoked": (1, False, None, "certificate-revoked"),
    "revoked": (1, True, "Revoked", "tcb-revoked"),
    "swhardening": (0, True, "SWHardeningNeeded", None),
    "uptodate": (0, True, "UpToDate", None),
    "v5-uptodate": (0, True, "UpToDate", None),
}


@pytest.mark.parametrize("name", PLANNED)
def test_synthetic_vector_has_its_planned_status_under_its_own_root(name: str, verify: Verify) -> None:
    folder = one_of(TDX, f"neg-derived-testroot-{name}")
    planned = load(folder).meta["with_test_root"]
    code, genuine, status, reason = PLANNED[name]
    exit_code, result = verify(folder, *at(folder), "--root", str(folder / planned["root"]))
    assert (exit_code, result["genuine"], result["tcb_status"]) == (code, genuine, status)
    assert status == planned["mine"]["tcb_status"]
    assert reason is None or result["reasons"][0] == reason
    # The root that lies in the folder is never the one to go by.
    assert verify(folder, *at(folder))[0] == 1


def test_every_synthetic_vector_is_planned() -> None:
    present(folders(TDX)[0] if folders(TDX) else None)
    assert {
        each.name.removeprefix("neg-derived-testroot-") for each in folders(TDX) if "testroot" in each.name
    } == set(PLANNED)


def test_genuine_evidence_is_not_genuine_under_another_root(verify: Verify) -> None:
    folder = one_of(TDX, "v4-uptodate-b0c06f-phala")
    root = one_of(TDX, "neg-derived-testroot-uptodate") / "test_root.der"
    code, result = verify(folder, *at(folder), "--root", str(root))
    assert (code, result["genuine"], result["reasons"][0]) == (1, False, "root-not-in-policy")


@pytest.mark.parametrize("folder", parameters(folders("sgx")))
def test_sgx_is_a_platform_that_is_not_judged(folder: Path | None, verify: Verify) -> None:
    folder = present(folder)
    code, result = verify(folder, *at(folder))
    assert (code, result["reasons"], result["genuine"]) == (1, ["unsupported-platform"], False)
    assert result["platform"] == folder.parent.name
    assert result["failure"]["explanation"] == (
        "This is evidence of a platform that sealbus does not judge: an SGX quote, not a TDX one; "
        "use SEV-SNP, TDX or Nitro Enclaves evidence. [unsupported-platform]"
    )


SIDES = {
    # vector: what was seen and what was wanted, as far as it tells the two apart
    "sev-snp/neg-derived-expired-vcek": (
        "the leaf certificate is valid from 2023-01-24T17:58:26Z to 2030-01-24T17:58:26Z",
        "valid at 2035-01-01T00:00:00Z",
    ),
    "sev-snp/neg-v2-altered-vcek-legacy-trustee": (
        "the leaf certificate is not signed by its issuer",
        "signed by the intermediate certificate's key",
    ),
    "sev-snp/neg-derived-forged-chain": ("the intermediate certificate is no authority's", "a CA's"),
    "tdx/neg-derived-v4-expired-collateral": (
        "the intermediate's revocation list is valid from 2025-06-19T10:00:35Z to 2025-07-19T10:00:35Z",
        "valid at 2025-09-01T00:00:00Z",
    ),
    "tdx/neg-derived-v4-foreign-fmspc": ("FMSPC 90c06f000000", "FMSPC b0c06f000000"),
    "tdx/neg-v4-notcblevel-b0c06f-tappd": ("SGX_TCB_COMP_08 3", "at least SGX_TCB_COMP_08 5"),
    "nitro/neg-derived-expired": ("to 2024-02-26T09:59:36Z", "valid at 2024-02-26T19:00:00Z"),
}


@pytest.mark.parametrize("vector", SIDES)
def test_what_is_not_genuine_says_what_was_seen_and_what_was_wanted(vector: str, verify: Verify) -> None:
    folder = one_of(*vector.split("/"))
    _, result = verify(folder, *at(folder))
    failure, (seen, wanted) = result["failure"], SIDES[vector]
    assert seen in failure["seen"]
    assert wanted in failure["wanted"]
    assert f": {failure['seen']} (wanted: {failure['wanted']}); " in failure["explanation"]


def test_the_result_says_by_what_it_was_judged(verify: Verify, capsys: pytest.CaptureFixture[str]) -> None:
    folder = one_of(TDX, "neg-derived-testroot-uptodate")
    root = folder / "test_root.der"
    _, result = verify(folder, *at(folder), "--root", str(root))
    given = sha256(root.read_bytes()).hexdigest()
    assert result["judged"] == {
        "at": at(folder)[1],
        "policy": None,
        "policy_sha256": None,
        "root": given,
        "nonce": None,
        "collateral": [],
    }
    run(["evidence", "verify", str(folder), *at(folder), "--root", str(root)])
    text = " ".join(capsys.readouterr().out.split())
    assert f"judged at: {at(folder)[1]} root given: {given}, in place of the manufacturer's" in text
    assert f"root: {given}, not a manufacturer's" in text


def test_the_ear_names_verifier_time_and_policy(verify: Verify, tmp_path: Path) -> None:
    folder = one_of(NITRO, "base-2024-11")
    _, result = verify(folder, *at(folder))
    ear = result["ear"]
    assert set(ear) == {"eat_profile", "iat", "ear.verifier-id", "submods"}
    assert set(ear["ear.verifier-id"]) == {"developer", "build"}
    assert abs(ear["iat"] - time.time()) < 600
    appraisal = ear["submods"][NITRO]
    assert appraisal["ear.status"] == result["status"]
    assert set(appraisal["ear.trustworthiness-vector"]) == {each.value for each in Claim}
    assert appraisal["ear.appraisal-policy-id"] == "sealbus:built-in"
    file = tmp_path / "policy.toml"
    file.write_text(policy_text(folder))
    _, result = verify(folder, *at(folder), "--policy", str(file))
    digest = sha256(file.read_bytes()).hexdigest()
    assert result["judged"]["policy_sha256"] == digest
    assert result["ear"]["submods"][NITRO]["ear.appraisal-policy-id"] == f"sha-256:{digest}"


def test_a_manufacturers_own_root_is_not_taken_for_a_simulators(verify: Verify) -> None:
    folder = one_of(SEV_SNP, "genoa-v5-vcek-lunal")
    milan = one_of(SEV_SNP, "milan-v3-vcek-oak-cb") / "ark.der"
    code, result = verify(folder, *at(folder), "--root", str(milan))
    (said,) = [each for each in result["findings"] if each["reason"] == "root-not-in-policy"]
    assert code == 1
    assert "it is no simulator's: leave --root out. [" in said["explanation"]


def test_advice_about_a_root_is_of_the_options_that_were_given(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(SEV_SNP, "milan-v2-vcek-virtee")
    genoa = one_of(SEV_SNP, "genoa-v5-vcek-lunal")
    file = tmp_path / "policy.toml"
    file.write_text(policy_text(genoa).replace(AMD_ROOTS["Milan"], AMD_ROOTS["Genoa"]))
    result = verify(folder, *at(folder), "--policy", str(file))[1]
    (said,) = [each["explanation"] for each in result["findings"] if each["reason"] == "root-not-in-policy"]
    assert "it is no simulator's: name it under roots in the policy. [" in said
    forged = one_of(TDX, "neg-derived-testroot-uptodate")
    result = verify(forged, *at(forged))[1]
    (said,) = [each["explanation"] for each in result["findings"] if each["reason"] == "root-not-in-policy"]
    assert "name that root with --root" in said
    file.write_text(policy_text(one_of(TDX, "v4-uptodate-b0c06f-phala")))
    result = verify(forged, *at(forged), "--policy", str(file))[1]
    (said,) = [each["explanation"] for each in result["findings"] if each["reason"] == "root-not-in-policy"]
    assert "name that root under lab_roots" in said
    assert "--root" not in said


def test_a_strangers_words_choose_no_advice(tmp_path: Path, verify: Verify) -> None:
    wrapped = tmp_path / "evidence.cmw"
    wrapped.write_bytes(as_json("application/vlek.der", b"junk"))
    code, result = verify(wrapped)
    assert (code, result["reasons"]) == (1, ["unsupported-platform"])
    assert "use SEV-SNP, TDX or Nitro Enclaves evidence" in result["failure"]["explanation"]


def test_what_milans_leaked_keys_mean_is_said_where_they_are_let_pass(verify: Verify) -> None:
    folder = one_of(SEV_SNP, "milan-v2-vcek-virtee")
    result = verify(folder, *at(folder))[1]
    (said,) = [each["explanation"] for each in result["findings"] if each["reason"] == "advisory-tolerated"]
    assert "can be forged: name chips, or run on another line (decision 0020" in said


@pytest.mark.parametrize("folder", parameters(folders(*PLATFORMS, "sgx")))
def test_raw_evidence_is_judged_as_the_folder_that_it_lies_in(folder: Path | None, verify: Verify) -> None:
    folder = present(folder)
    raw = folder / FILES.get(folder.parent.name, FILES[TDX])[0]
    code, result = verify(folder, *at(folder))
    code_of_raw, raw_result = verify(raw, *at(folder))
    assert code_of_raw == code
    assert (raw_result["reasons"], raw_result["measurements"]) == (result["reasons"], result["measurements"])


@pytest.mark.parametrize("folder", parameters(folders(*PLATFORMS, "sgx")))
def test_what_people_read_fits_80_columns(
    folder: Path | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folder = present(folder)
    run(["evidence", "verify", str(folder), *at(folder)])
    run(["evidence", "show", str(folder)])
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


# --- endorsements -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES])
def test_tdx_without_one_piece_of_collateral_is_genuine_and_refused_with_its_code(
    name: str, tmp_path: Path, verify: Verify
) -> None:
    folder = one_of(TDX, "v4-uptodate-b0c06f-phala")
    copy = copy_of(folder, tmp_path)
    assert verify(copy, *at(folder))[0] == 0
    (copy / name).unlink()
    code, result = verify(copy, *at(folder))
    assert (code, result["genuine"], result["status"]) == (1, True, "contraindicated")
    assert result["reasons"] == ["no-collateral", CODES[name].value, "not-stated"]
    assert result["missing"] == [name]


@pytest.mark.parametrize("name", ["vcek.der", "ask.der", "ark.der"])
def test_snp_without_a_certificate_is_not_genuine_and_refused_with_its_code(
    name: str, tmp_path: Path, verify: Verify
) -> None:
    folder = one_of(SEV_SNP, "genoa-v5-vcek-lunal")
    copy = copy_of(folder, tmp_path)
    assert verify(copy, *at(folder))[0] == 0
    (copy / name).unlink()
    code, result = verify(copy, *at(folder))
    assert (code, result["genuine"]) == (1, False)
    assert result["reasons"] == ["no-collateral", CODES[name].value]


def test_certificates_may_be_pem(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(SEV_SNP, "genoa-v5-vcek-lunal")
    copy = copy_of(folder, tmp_path)
    for name in ("vcek.der", "ask.der", "ark.der"):
        text = encodebytes((copy / name).read_bytes())
        (copy / name).write_bytes(b"\n-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n")
    assert verify(copy, *at(folder))[0] == 0


# --- bad input ----------------------------------------------------------------------------------

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "truncated": lambda data: data[: len(data) // 2],
    "10 MB": lambda data: data.ljust(10_000_000, b"\0"),
    "10 MB of junk": lambda data: b"\xa5" * 10_000_000,
    "as much as is read": lambda data: b"\xa5" * MAX_EVIDENCE,
    "text": lambda data: b"no evidence",
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize(
    "name", ["sev-snp/genoa-v5-vcek-lunal", "tdx/v4-uptodate-b0c06f-phala", "nitro/base-2024-11"]
)
def test_what_is_no_evidence_is_unreadable(name: str, how: str, tmp_path: Path, verify: Verify) -> None:
    folder = one_of(*name.split("/"))
    copy = copy_of(folder, tmp_path)
    file = copy / FILES[folder.parent.name][0]
    file.write_bytes(DAMAGE[how](file.read_bytes()))
    assert verify(copy, *at(folder))[0] == 2
    wrapped = tmp_path / "file.cmw"
    wrapped.write_bytes(file.read_bytes())
    assert verify(wrapped)[0] == 2
    assert run(["evidence", "show", str(copy)]) == 2
    assert run(["evidence", "show", str(wrapped)]) == 2


def test_why_evidence_can_not_be_read_is_the_same_reason_everywhere(
    tmp_path: Path, verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copy_of(one_of(SEV_SNP, "genoa-v5-vcek-lunal"), tmp_path)
    (copy / "report.bin").write_bytes((copy / "report.bin").read_bytes()[:800])
    assert verify(copy)[1]["reason"] == "malformed"
    assert run(["evidence", "show", str(copy), "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["reason"] == "malformed"
    assert "800 bytes (wanted: 1184 bytes); fetch them again" in said["detail"]
    large, junk = tmp_path / "large.bin", tmp_path / "junk"
    large.write_bytes(bytes(2 * MAX_EVIDENCE + 1))
    assert verify(large)[1]["reason"] == "too-large"
    (copy / "report.bin").write_bytes(bytes(MAX_EVIDENCE + 1))
    assert verify(copy)[1]["reason"] == "too-large"
    junk.write_bytes(b"junk")
    assert verify(junk)[1]["reason"] == "malformed"
    assert verify(tmp_path / "nowhere")[1]["reason"] == "usage"


@pytest.mark.parametrize("name", ["sev-snp/genoa-v5-vcek-lunal", "tdx/v4-uptodate-b0c06f-phala"])
def test_whoever_named_collateral_that_has_nothing_for_this_is_not_told_to_name_some(
    name: str, tmp_path: Path, verify: Verify
) -> None:
    folder, bare, other = one_of(*name.split("/")), tmp_path / "bare", tmp_path / "other.cbor"
    bare.mkdir()
    file = FILES[folder.parent.name][0]
    (bare / file).write_bytes((folder / file).read_bytes())
    other.write_bytes(encode_file(()))
    for more, advice in (
        ((), "or name what you have with --collateral. [no-collateral]"),
        (("--collateral", str(other)), "what --collateral names has none of them for this machine: get them"),
    ):
        code, result = verify(bare, *at(folder), *more)
        told = [result["failure"] or {}, *result["findings"]]
        (said,) = [each["explanation"] for each in told if each.get("reason") == "no-collateral"]
        assert (code, advice in said) == (1, True), said


def test_evidence_that_was_written_as_text_is_told_to_be(tmp_path: Path, verify: Verify) -> None:
    data = (one_of(SEV_SNP, "genoa-v5-vcek-lunal") / "report.bin").read_bytes()
    file = tmp_path / "report"
    for form, text in (("hexadecimal", data.hex(" ").encode()), ("base64", base64.encodebytes(data))):
        file.write_bytes(text)
        code, said = verify(file)
        assert (code, said["reason"]) == (2, "malformed")
        assert f"is evidence written as {form}: decode it first" in said["detail"]


def test_extended_report_is_unreadable(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(SEV_SNP, "genoa-v5-vcek-lunal")
    copy = copy_of(folder, tmp_path)
    (copy / "report.bin").write_bytes((copy / "report.bin").read_bytes() + b"\0")
    assert verify(copy, *at(folder))[0] == 2


def test_endorsement_that_is_too_large_or_damaged_is_unreadable(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(TDX, "v4-uptodate-b0c06f-phala")
    for name in NAMES:
        for data in (bytes(10_000_000), b"junk"):
            copy = copy_of(folder, tmp_path / name / str(len(data)))
            (copy / name).write_bytes(data)
            assert verify(copy, *at(folder))[0] == 2


def as_fifo(file: Path) -> None:
    os.mkfifo(file)


UNREADABLE: dict[str, Callable[[Path], None]] = {
    "a pipe": as_fifo,
    "a folder": Path.mkdir,
    "a dangling link": lambda file: file.symlink_to("nowhere"),
    "a link to a device": lambda file: file.symlink_to("/dev/null"),
    "a link to too long a name": lambda file: file.symlink_to("x" * 300),
    "a link to itself": lambda file: file.symlink_to(file.name),
    "empty": Path.touch,
}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        *(("crl.der", what) for what in UNREADABLE),
        # Empty is how configfs-tsm gives it where the host has no certificates.
        *(("auxblob.bin", what) for what in UNREADABLE if what != "empty"),
    ],
)
def test_an_endorsement_that_is_there_and_can_not_be_read_does_not_count_as_absent(
    name: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.bin").write_bytes(bytes(1184))
    UNREADABLE[what](tmp_path / name)
    assert run(["evidence", "verify", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert (said.out, str(tmp_path / name) in said.err) == ("", True)
    assert "or take it away to do without" in said.err
    assert "/dev/stdin" not in said.err
    assert run(["collateral", "status", str(tmp_path)]) == 2
    assert "or take it away to do without" in capsys.readouterr().err


def test_evidence_that_is_there_and_can_not_be_read_is_told_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "report.bin")
    assert run(["evidence", "verify", str(tmp_path)]) == 2
    assert "report.bin: it is a pipe with a name" in capsys.readouterr().err


def test_folder_holds_one_piece_of_evidence(tmp_path: Path, verify: Verify) -> None:
    assert verify(tmp_path)[0] == 2
    (tmp_path / "report.bin").write_bytes(b"")
    (tmp_path / "quote.bin").write_bytes(b"")
    assert verify(tmp_path)[0] == 2
    assert verify(tmp_path / "absent")[0] == 2


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--at", "yesterday", "is no time: write it as"),
        ("--at", "2026-11-23T12:00:00", "names no time zone: end it with Z"),
        ("--at", "2024-W09-1T12:00:00Z", "is no time: write it as"),
        ("--at", "20240226T120000Z", "is no time: write it as"),
        ("--at", "2024-02-26T12:00:00+0100", "is no time: write it as"),
        ("--at", "2024-02-26T12:00Z", "is no time: write it as"),
        ("--at", "2024-02-26 12:00:00Z", "is no time: write it as"),
        ("--at", "2024-02-30T12:00:00Z", "is no time: write it as"),
        ("--at", "9999-12-31T23:59:59-05:00", "is no time: write it as"),
        ("--at", "0001-01-01T00:00:00+14:00", "is no time: write it as"),
        ("--nonce", "xyz", "is not hexadecimal"),
        ("--nonce", "abc", "has 3 digits, and a byte has two"),
        ("--nonce", "0xabcd", "leave the 0x out"),
        ("--nonce", "", "there is no byte in it"),
        ("--nonce", " ", "there is no byte in it"),
        ("--nonce", "00", "it is zeros only"),
        ("--nonce", "00" * 64, "it is zeros only"),
        ("--root", attestation.__file__, "is no certificate"),
        ("--root", attestation.__file__, "name the file of the root that ends the chain"),
        ("--root", "/nonexistent", "does not exist"),
        ("--policy", "/nonexistent", "does not exist"),
    ],
)
def test_option_that_makes_no_sense_is_a_usage_error(
    option: str, value: str, said: str, sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Evidence that can be read, so that nothing but the option is amiss.
    assert run(["evidence", "verify", str(sound), option, value]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "at_time", ["2026-11-23T12:00:00Z", "2026-11-23t12:00:00.5z", "2026-11-23T13:00:00+01:00"]
)
def test_times_of_rfc_3339_are_taken(at_time: str, sound: Path, verify: Verify) -> None:
    code, result = verify(sound, "--at", at_time)
    assert (code, result["reasons"][0]) == (1, "root-not-in-policy")
    assert result["judged"]["at"].startswith("2026-11-23T12:00:00")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A document of a simulated machine: good to read, and of a root that is no manufacturer's."""
    measured = dict.fromkeys(("pcr0", "pcr1", "pcr2"), b"\1" * 48)
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    card = NitroCard.from_files(nitro.make_root(now), serial=1)
    document, _ = card.evidence(measured, bytes(64), bytes(32), now=now)
    (tmp_path / "attestation.cbor").write_bytes(document.value)
    return tmp_path


def test_evidence_is_read_without_loading_what_fetches_endorsements() -> None:
    code = "import sys, console.evidence; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- nonce, root and policy ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["sev-snp/genoa-v5-vcek-lunal", "tdx/v4-uptodate-b0c06f-phala", "nitro/marlin-2024-02"]
)
def test_nonce_is_compared_where_it_is_given(name: str, verify: Verify) -> None:
    folder = one_of(*name.split("/"))
    meta = load(folder).meta
    nonce = meta.get("nonce") if folder.parent.name == NITRO else meta["report_data"]
    right = nonce or ""
    if right:  # a Nitro document may carry none
        code, result = verify(folder, *at(folder), "--nonce", right)
        assert (code, result["reasons"]) == (0, verify(folder, *at(folder))[1]["reasons"])
    other = "01" + right[2:]
    code, result = verify(folder, *at(folder), "--nonce", other)
    assert (code, result["genuine"], result["reasons"][0]) == (1, True, "challenge-unknown")
    assert result["judged"]["nonce"] == other
    (finding,) = [each for each in result["findings"] if each["reason"] == "challenge-unknown"]
    assert finding["wanted"] == other
    assert finding["seen"].endswith(right or "no nonce")


@pytest.mark.parametrize(
    ("name", "room"), [("sev-snp/genoa-v5-vcek-lunal", 64), ("tdx/v4-uptodate-b0c06f-phala", 64)]
)
def test_a_nonce_that_evidence_has_no_room_for_is_a_usage_error(name: str, room: int, verify: Verify) -> None:
    folder = one_of(*name.split("/"))
    assert verify(folder, *at(folder), "--nonce", "01" * room)[0] == 1
    assert verify(folder, *at(folder), "--nonce", "01" * (room + 1))[0] == 2


def test_a_nonce_that_is_answered_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    folder = one_of(TDX, "v4-uptodate-b0c06f-phala")
    nonce = load(folder).meta["report_data"]
    assert run(["evidence", "verify", str(folder), *at(folder), "--nonce", nonce]) == 0
    assert f"answersthenonce:{nonce}" in "".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "name",
    ["nitro/neg-derived-forged-root", "tdx/neg-derived-testroot-uptodate", "tdx/neg-derived-testroot-debug"],
)
def test_what_ends_in_nobodys_root_affirms_nothing(name: str, verify: Verify) -> None:
    folder = one_of(*name.split("/"))
    code, result = verify(folder, *at(folder))
    assert (code, result["genuine"], result["status"]) == (1, False, "contraindicated")
    vector = result["ear"]["submods"][folder.parent.name]["ear.trustworthiness-vector"]
    assert set(vector.values()) == {99}
    assert "otherwise treat it as forged" in result["findings"][0]["explanation"]


@pytest.mark.parametrize("name", ["nitro/neg-derived-forged-root", "tdx/neg-derived-testroot-uptodate"])
def test_what_ends_in_nobodys_root_answers_proves_and_names_nothing(
    name: str, tmp_path: Path, verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one_of(*name.split("/"))
    _, result = verify(folder, *at(folder))
    nonce = (
        result["report_data"] or "01"
    )  # of a Nitro document the nonce is another field, and this one has none
    platform = folder.parent.name
    pinned = ", ".join(f'{key} = "{result["measurements"][key]}"' for key in MEASURED[platform])
    file = tmp_path / "policy.toml"
    file.write_text(
        f"[platforms.{platform}]\nroots = {json.dumps(VENDOR_ROOTS[platform])}\n"
        f"[workloads.vector]\non.{platform}.measurements = {{ {pinned} }}\n"
    )
    for options in ((), ("--policy", str(file))):
        code, result = verify(folder, *at(folder), "--nonce", nonce, *options)
        assert (code, result["genuine"], result["reasons"][0]) == (1, False, "root-not-in-policy")
        assert ("challenge-unknown" in result["reasons"]) == (platform == NITRO)
        assert (result["workload"], result["chip_proven"]) == (None, False)
        run(["evidence", "verify", str(folder), *at(folder), "--nonce", nonce, *options])
        said = " ".join(capsys.readouterr().out.split())
        assert "nothing of what follows is proven" in said
        assert "by its own word" in said
        assert not re.search("answers the nonce|workload: ", said)


def test_a_td_that_measures_nothing_it_booted_is_warned_of(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(TDX, "v4-uptodate-90c06f-azure-ak")
    file = tmp_path / "policy.toml"
    file.write_text(policy_text(folder))
    for options in ((), ("--policy", str(file))):
        code, result = verify(folder, *at(folder), *options)
        assert (code, result["status"]) == (0, "warning")
        assert "runtime-unmeasured" in result["reasons"]
        vector = result["ear"]["submods"][TDX]["ear.trustworthiness-vector"]
        assert vector["executables"] == 33
    sound = one_of(TDX, "v4-uptodate-b0c06f-phala")
    assert "runtime-unmeasured" not in verify(sound, *at(sound))[1]["reasons"]


def test_which_certificate_is_revoked_is_told_and_by_whom(verify: Verify) -> None:
    folder = one_of(TDX, "neg-derived-testroot-pck-revoked")
    failure = verify(folder, *at(folder))[1]["failure"]
    assert failure["reason"] == "certificate-revoked"
    assert failure["seen"].startswith("the leaf certificate, serial number ")
    assert "is in the intermediate's revocation list of " in failure["seen"]


def test_debug_of_a_nitro_document_is_laid_to_its_pcrs(verify: Verify) -> None:
    folder = one_of(NITRO, "evervault-debug-2023-09")
    (finding,) = [e for e in verify(folder, *at(folder))[1]["findings"] if e["reason"] == "debug-enabled"]
    assert finding["seen"] == "PCR0, PCR1, PCR2 of zeros"


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, verify: Verify) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert verify(tmp_path / "pipe")[0] == 2
    (tmp_path / "report.bin").write_bytes(bytes(1184))
    assert verify(tmp_path, "--policy", str(tmp_path / "pipe"))[0] == 2
    assert verify(tmp_path, "--root", str(tmp_path / "pipe"))[0] == 2


def given(data: bytes, closing: list[int]) -> Path:
    """Return a pipe as a shell's process substitution hands it over, with `data` in it."""
    out, into = os.pipe()
    closing.append(out)
    os.write(into, data)
    os.close(into)
    return Path(f"/dev/fd/{out}")


@pytest.fixture
def closing() -> Iterator[list[int]]:
    descriptors: list[int] = []
    yield descriptors
    for each in descriptors:
        os.close(each)


def test_a_pipe_that_was_handed_over_is_read(verify: Verify, closing: list[int]) -> None:
    folder = one_of(NITRO, "base-2024-11")
    file, media_type = FILES[NITRO]
    wrapped = as_json(media_type, (folder / file).read_bytes())
    code, result = verify(given(wrapped, closing), *at(folder))
    assert (code, result["genuine"]) == (0, True)
    policy = given(policy_text(folder).encode(), closing)
    code, result = verify(folder, *at(folder), "--policy", str(policy))
    assert (code, result["workload"]) == (0, "vector")
    assert run(["evidence", "show", str(given(wrapped, closing))]) == 0


def test_standard_input_is_read() -> None:
    folder = one_of(NITRO, "base-2024-11")
    file, media_type = FILES[NITRO]
    wrapped = as_json(media_type, (folder / file).read_bytes())
    start = "from console.entry import main; main()"
    command = [sys.executable, "-c", start, "evidence", "verify", "/dev/stdin", *at(folder)]
    done = subprocess.run(command, input=wrapped, capture_output=True, check=False)
    assert (done.returncode, done.stdout[:8]) == (0, b"accepted")


def test_a_pipe_is_read_no_further_than_a_file(closing: list[int]) -> None:
    with pytest.raises(UsageError, match="over 10 bytes"):
        read_bounded(given(bytes(11), closing), 10)


def test_what_is_not_read_is_called_by_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"a pipe with a name.* give a regular file or /dev/stdin"):
        read_bounded(tmp_path / "pipe", 10)
    with pytest.raises(UsageError, match="it is no file; give a regular file"):
        read_bounded(Path("/dev/zero"), 10)


def test_a_pipe_that_takes_a_files_place_after_it_was_looked_at_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def swapped(path: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return opened(path, flags)

    for name in ("report.bin", "ask.der"):
        (tmp_path / name).write_bytes(bytes(10))
    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(UsageError, match="a pipe with a name"):
        read_bounded(tmp_path / "report.bin", 10)
    with pytest.raises(UsageError, match="is no regular file"):
        read_endorsements(tmp_path)


@pytest.mark.parametrize(
    ("path", "said"), [("", "it is empty: name a folder or file"), ("-", "name /dev/stdin")]
)
@pytest.mark.parametrize("command", ["show", "verify"])
def test_what_a_shell_makes_of_a_missing_name_is_no_folder_of_evidence(
    command: str,
    path: str,
    said: str,
    sound: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(sound)  # it lies here, and nobody asked for it
    assert run(["evidence", command, path]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_may_not_be_entered_is_not_said_to_hold_nothing(
    sound: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entered = os.access
    # As for a user whom the folder's mode lets list its names and no more; root may do it all.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.X_OK and entered(path, mode))
    for words in (("evidence", "verify"), ("evidence", "show"), ("collateral", "status")):
        assert run([*words, str(sound)]) == 2
        assert f"cannot look into {sound}: give this user the right to enter it" in capsys.readouterr().err


def test_a_file_that_nobody_may_read_is_a_usage_error(
    tmp_path: Path, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "report.bin").write_bytes(bytes(1184))
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UsageError, match="Permission denied"):
        read_bounded(tmp_path / "report.bin", 2000)


def test_root_and_policy_together_are_a_usage_error(tmp_path: Path, verify: Verify) -> None:
    (tmp_path / "report.bin").write_bytes(bytes(1184))
    given = tmp_path / "given"
    given.write_text("")
    assert verify(tmp_path, "--root", str(given), "--policy", str(given))[0] == 2


def policy_text(folder: Path, **changes: str) -> str:
    vector = load(folder)
    pinned = {
        name: vector.meta["measurement"][name]
        for name in MEASURED[vector.platform]
        if name in vector.meta["measurement"]
    }
    root = vector.policy({}).platforms[vector.platform].anchors
    lines = {
        "roots": json.dumps(list(root)),
        "measurements": "{"
        + ", ".join(f'{key} = "{value}"' for key, value in (pinned | changes).items())
        + "}",
    }
    return (
        f"[platforms.{vector.platform}]\nroots = {lines['roots']}\n"
        + ("max_evidence_seconds = 86400\n" if vector.platform == NITRO else "")
        + f"[workloads.vector]\non.{vector.platform}.measurements = {lines['measurements']}\n"
    )


@pytest.mark.parametrize(
    "name", ["sev-snp/genoa-v5-vcek-lunal", "nitro/base-2024-11", "tdx/v4-uptodate-b0c06f-phala"]
)
def test_policy_judges_measurements_too(name: str, tmp_path: Path, verify: Verify) -> None:
    folder = one_of(*name.split("/"))
    file = tmp_path / "policy.toml"
    file.write_text(policy_text(folder))
    code, result = verify(folder, *at(folder), "--policy", str(file))
    assert (code, result["workload"], result["genuine"]) == (0, "vector", True)
    first = MEASURED[folder.parent.name][0]
    file.write_text(policy_text(folder, **{first: "00" * 48}))
    code, result = verify(folder, *at(folder), "--policy", str(file))
    assert (code, result["workload"], result["genuine"]) == (1, None, True)
    assert result["reasons"][0] == "measurement-not-in-policy"


def test_milan_is_refused_by_a_policy_that_names_no_chips(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(SEV_SNP, "milan-v3-vcek-oak-cb")
    file = tmp_path / "policy.toml"
    file.write_text(policy_text(folder))
    code, result = verify(folder, *at(folder), "--policy", str(file))
    assert (code, result["reasons"][0]) == (1, "chip-not-in-policy")
    assert result["advisories"] == ["milan-vcek-extractable"]
    chip = load(folder).meta["chip_id"]
    file.write_text(policy_text(folder) + f'on.sev-snp.chips = ["{chip}"]\n')
    assert verify(folder, *at(folder), "--policy", str(file))[0] == 0


@pytest.mark.parametrize("text", ["[platforms", "", "mesh = 1", "x = 1"])
def test_policy_that_is_none_is_a_usage_error(text: str, tmp_path: Path, verify: Verify) -> None:
    (tmp_path / "report.bin").write_bytes(bytes(1184))
    (tmp_path / "policy.toml").write_text(text)
    assert verify(tmp_path, "--policy", str(tmp_path / "policy.toml"))[0] == 2
    (tmp_path / "policy.toml").write_bytes(b"\xff\xfe")
    assert verify(tmp_path, "--policy", str(tmp_path / "policy.toml"))[0] == 2


def test_policy_that_leaves_the_platform_out_refuses(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(NITRO, "base-2024-11")
    file = tmp_path / "policy.toml"
    file.write_text('[platforms.tdx]\nlab_roots = ["' + "00" * 32 + '"]\n')
    code, result = verify(folder, *at(folder), "--policy", str(file))
    assert (code, result["genuine"], result["reasons"]) == (1, True, ["platform-not-in-policy"])
    # Nobody judged the rest, so nothing is said of it.
    vector = result["ear"]["submods"][NITRO]["ear.trustworthiness-vector"]
    assert vector.pop("instance-identity") == 97
    assert set(vector.values()) == {0}


def test_policy_that_pins_no_workload_says_that_it_accepts_nothing(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(NITRO, "base-2024-11")
    file = tmp_path / "policy.toml"
    file.write_text(policy_text(folder).partition("[workloads")[0])
    code, result = verify(folder, *at(folder), "--policy", str(file))
    assert (code, result["reasons"]) == (1, ["measurement-not-in-policy"])
    (finding,) = result["findings"]
    assert finding["explanation"].startswith("The policy pins no workload on this platform")


def test_an_evaluation_number_below_its_floor_is_mended_by_collateral(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(TDX, "v4-uptodate-b0c06f-phala")
    file = tmp_path / "policy.toml"
    floor = "minimum_tcb = { TCB_EVALUATION_DATA_NUMBER = 999 }\n[workloads"
    file.write_text(policy_text(folder).replace("[workloads", floor))
    code, result = verify(folder, *at(folder), "--policy", str(file))
    assert (code, result["reasons"][0]) == (1, "tcb-not-accepted")
    (finding,) = [each for each in result["findings"] if each["reason"] == "tcb-not-accepted"]
    assert "`sealbus collateral fetch`" in finding["explanation"]


# --- for people ---------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", parameters(folders(*PLATFORMS)))
def test_show_prints_what_evidence_says_of_itself(
    folder: Path | None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = present(folder)
    if "corrupt" in folder.name:
        assert run(["evidence", "show", str(folder)]) == 2
        return
    assert run(["evidence", "show", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["platform"] == folder.parent.name
    assert isinstance(shown["fields"]["debug"], bool)
    # Bytes are hexadecimal whatever is in them, and times are RFC 3339.
    digest = {SEV_SNP: "host data", TDX: "MRCONFIGID", NITRO: "PCR0"}[folder.parent.name]
    assert len(bytes.fromhex(shown["fields"][digest])) == (32 if folder.parent.name == SEV_SNP else 48)
    assert shown["fields"].get("time", "Z").endswith("Z")
    assert shown["endorsements"] == sorted(each for each in CODES if (folder / each).exists())
    assert run(["evidence", "show", str(folder)]) == 0
    text = "".join(capsys.readouterr().out.split())
    assert all("".join(name.split()) in text for name in shown["fields"])


@pytest.mark.parametrize(
    ("vector", "field", "named"),
    [
        ("sev-snp/genoa-v5-vcek-lunal", "reported TCB", "boot_loader 10, tee 0, snp 27, microcode 27"),
        ("sev-snp/turin-v5-vcek-oak-oc", "reported TCB", "fmc 0, boot_loader 1, tee 0, snp 2, microcode 71"),
        (
            "tdx/v4-uptodate-b0c06f-phala",
            "TEE TCB SVN",
            "TEE_TCB_SVN_00 6, TEE_TCB_SVN_01 1, TEE_TCB_SVN_02 3",
        ),
    ],
)
def test_security_versions_are_named(
    vector: str, field: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one_of(*vector.split("/"))
    run(["evidence", "show", str(folder)])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"{field} {named}" in text
    run(["evidence", "show", str(folder), "--json"])
    numbers = json.loads(capsys.readouterr().out)["fields"][field]
    for each in named.split(", "):
        component, svn = each.split()
        assert numbers[component] == int(svn)


def test_verdict_says_why_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    folder = one_of(TDX, "v4-debug-outofdate-50806f-trustee")
    assert run(["evidence", "verify", str(folder), *at(folder)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "refused: tdx evidence, genuine, contraindicated by the built-in policy" in text
    assert "the host can read all secrets" in text
    assert "OutOfDate (wanted: one of UpToDate, SWHardeningNeeded); update the platform" in text
    folder = one_of(NITRO, "base-2024-11")
    assert run(["evidence", "verify", str(folder), *at(folder)]) == 0
    assert "accepted: nitro evidence, genuine" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("folder", parameters(folders("sgx")))
def test_people_are_told_which_platform_is_not_judged(
    folder: Path | None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = present(folder)
    assert run(["evidence", "verify", str(folder), *at(folder)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "refused: evidence of a platform that sealbus does not judge (sgx)" in text
    assert "tdx evidence" not in text
    # What is readable and refused is so by both commands.
    assert run(["evidence", "show", str(folder)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("sealbus: unsupported-platform: ")
    assert "an SGX quote, not a TDX one" in said


def test_evidence_of_an_unnamed_platform_is_said_to_be_of_one(tmp_path: Path, verify: Verify) -> None:
    quote = bytearray(bytes(48))
    quote[0], quote[4] = 4, 0x82  # no TEE has this type
    (tmp_path / "quote.bin").write_bytes(quote)
    code, result = verify(tmp_path)
    assert (code, result["platform"], result["reasons"]) == (1, "unknown", ["unsupported-platform"])
    assert "quote of an unknown TEE" in result["failure"]["explanation"]


def test_json_explains_each_finding_as_the_text_does(
    verify: Verify, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = one_of(TDX, "v4-debug-outofdate-50806f-trustee")
    _, result = verify(folder, *at(folder))
    assert result["failure"] is None
    tiers = [each["tier"] for each in result["findings"]]
    assert tiers == sorted(tiers, key=lambda tier: tier != "contraindicated")
    run(["evidence", "verify", str(folder), *at(folder)])
    text = " ".join(capsys.readouterr().out.split())
    for finding in result["findings"]:
        # Of advisories a person is told in one sentence, a program of each.
        told = finding["seen"] if finding["reason"] == "advisory-tolerated" else f"- {finding['explanation']}"
        assert told in text
        assert finding["seen"] in finding["explanation"]
        assert finding["wanted"] in finding["explanation"]
        assert finding["explanation"].endswith(f"[{finding['reason']}]")
    # Of endorsements that are absent a person is told in one line, a program of each.
    copy = copy_of(folder, tmp_path)
    (copy / "pck_crl.der").unlink()
    _, result = verify(copy, *at(folder))
    said = {each["reason"]: each["explanation"] for each in result["findings"]}
    assert said["no-pck-crl"] == (
        "An endorsement did not come with the evidence: no pck_crl.der (wanted: one that is current); "
        "get it with `sealbus collateral fetch`. [no-pck-crl]"
    )


def test_a_quote_that_cannot_speak_of_service_tds_is_said_not_to(
    verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one_of(TDX, "v4-uptodate-b0c06f-phala")
    said = "service TD (quote v4, TD 1.0 body)"
    _, result = verify(folder, *at(folder))
    assert (result["service_td"], result["unstated"]) == (None, [said])
    run(["evidence", "verify", str(folder), *at(folder)])
    assert f"not stated: {said}\n" in capsys.readouterr().out
    run(["evidence", "show", str(folder), "--json"])
    fields = json.loads(capsys.readouterr().out)["fields"]
    assert fields["MRSERVICETD"] == fields["TEE TCB SVN now"] == "not stated (quote v4, TD 1.0 body)"
    folder = one_of(TDX, "v5-outofdate-90c06f-alibaba-servicetd")
    _, result = verify(folder, *at(folder))
    assert (result["service_td"], result["unstated"]) == (True, [])


def test_json_explains_why_evidence_is_not_genuine(verify: Verify) -> None:
    folder = one_of(TDX, "neg-derived-v4-mrtd-flipped")
    code, result = verify(folder, *at(folder))
    assert (code, result["findings"], result["failure"]["reason"]) == (1, [], "signature-invalid")
    assert result["failure"]["explanation"].startswith("A signature does not hold: ")


# --- CMW ----------------------------------------------------------------------------------------


def as_json(media_type: str, value: bytes, *more: object) -> bytes:
    return json.dumps([media_type, urlsafe_b64encode(value).rstrip(b"=").decode(), *more]).encode()


def as_cbor(media_type: str, value: bytes, *more: object) -> bytes:
    return cbor2.dumps([media_type, value, *more], canonical=True)


@pytest.mark.parametrize("wrap", [as_json, as_cbor])
@pytest.mark.parametrize("more", [(), (4,)], ids=["without indicator", "with indicator"])
@pytest.mark.parametrize(
    "name", ["sev-snp/genoa-v5-vcek-lunal", "tdx/v4-uptodate-b0c06f-phala", "nitro/base-2024-11"]
)
def test_wrapped_evidence_is_judged_as_bare_with_what_lies_beside_it(
    name: str, wrap: Callable[..., bytes], more: tuple[int, ...], tmp_path: Path, verify: Verify
) -> None:
    folder = one_of(*name.split("/"))
    copy = copy_of(folder, tmp_path)
    file, media_type = FILES[folder.parent.name]
    (copy / "evidence.cmw").write_bytes(wrap(media_type, (copy / file).read_bytes(), *more))
    (copy / file).unlink()
    code, result = verify(copy / "evidence.cmw", *at(folder))
    bare = verify(folder, *at(folder))[1]
    assert abs(result["ear"].pop("iat") - bare["ear"].pop("iat")) < 60
    assert (code, result) == (0, bare)
    assert run(["evidence", "show", str(copy / "evidence.cmw")]) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"[1, 2]",
        b'["application/vnd.sealbus.tdx-quote"]',
        b'["application/vnd.sealbus.tdx-quote", "\xc3\xa4"]',
        b'["application/vnd.sealbus.tdx-quote", "AAAA", "more"]',
        b'["application/vnd.sealbus.tdx-quote", "AAAA", 4, 4]',
        b'["application/vnd.sealbus.tdx-quote", "!!!!"]',
        b"[" * 100_000,
        cbor2.dumps({"a": 1}),
        cbor2.dumps([-1, b"x"]),
        cbor2.dumps([1 << 16, b"x"]),
        cbor2.dumps({"__cmwc_t": "tag:x"}),
        b'[true, "eA"]',
        b'{"a":' * 9 + b'["application/vnd.sealbus.tdx-quote", "AAAA"]' + b"}" * 9,
        as_cbor("application/vnd.sealbus.tdx-quote", b"x", "more"),
    ],
)
def test_wrapper_of_something_else_is_unreadable(data: bytes, tmp_path: Path, verify: Verify) -> None:
    file = tmp_path / "evidence.cmw"
    file.write_bytes(data)
    assert verify(file)[0] == 2


@pytest.mark.parametrize("wrap", [as_json, as_cbor])
def test_wrapper_of_another_media_type_is_of_a_platform_that_is_not_judged(
    wrap: Callable[..., bytes], tmp_path: Path, verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evidence.cmw"
    file.write_bytes(wrap("application/vnd.other-quote", b"x"))
    code, result = verify(file)
    assert (code, result["platform"], result["reasons"]) == (1, "unknown", ["unsupported-platform"])
    assert run(["evidence", "show", str(file)]) == 1
    assert "a platform that sealbus does not read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data", [cbor2.dumps([60, b"x"]), b'[60, "eA"]', bytes.fromhex("da63740141") + b"\x41x"]
)
def test_wrapper_of_a_content_format_is_of_a_platform_that_is_not_judged(
    data: bytes, tmp_path: Path, verify: Verify
) -> None:
    (tmp_path / "evidence.cmw").write_bytes(data)
    code, result = verify(tmp_path / "evidence.cmw")
    assert (code, result["reasons"]) == (1, ["unsupported-platform"])
    assert result["failure"]["seen"] in ("CoAP content format 60", "CoAP content format 64")
    assert "sealbus.tdx-quote" in result["failure"]["wanted"]


def test_the_one_piece_of_evidence_in_a_collection_is_judged(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(NITRO, "base-2024-11")
    document = (folder / "attestation.cbor").read_bytes()
    kind = "application/vnd.sealbus.nitro-attestation"
    record = as_cbor(kind, document)
    tunnel = ["#cmw-c2j-tunnel", urlsafe_b64encode(record).rstrip(b"=").decode()]
    other = ["application/eat+jwt", "eA"]
    file = tmp_path / "evidence.cmw"
    for members in ({"a": json.loads(as_json(kind, document))}, {"a": tunnel}, {"a": {"b": tunnel}}):
        file.write_text(json.dumps({"__cmwc_t": "tag:x", "other": other, **members}))
        assert verify(file, *at(folder))[0] == 0
    file.write_bytes(cbor2.dumps({1: [kind, document]}, canonical=True))
    assert verify(file, *at(folder))[0] == 0
    file.write_text(json.dumps({"a": tunnel, "b": tunnel}))
    assert verify(file, *at(folder))[0] == 2


@pytest.mark.parametrize("again", ["a", "\\u0061"])
def test_a_collection_that_names_a_label_twice_is_unreadable(
    again: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one_of(NITRO, "base-2024-11")
    record = as_json("application/vnd.sealbus.nitro-attestation", (folder / "attestation.cbor").read_bytes())
    file = tmp_path / "evidence.cmw"
    for text, code in (
        ('{"a": %s}', 0),
        ('{"a": ["a/b", "eA"], "AGAIN": %s}', 2),
        ('{"x": {"a": ["a/b", "eA"], "AGAIN": %s}}', 2),
    ):
        file.write_text(text.replace("AGAIN", again) % record.decode())
        assert run(["evidence", "verify", str(file), *at(folder)]) == code
    assert "is no evidence" in capsys.readouterr().err


@pytest.mark.parametrize(("indicator", "code"), [(8, 0), (True, 2), (-1, 2)])
def test_an_indicator_is_a_number(indicator: object, code: int, tmp_path: Path, verify: Verify) -> None:
    folder = one_of(NITRO, "base-2024-11")
    document = (folder / "attestation.cbor").read_bytes()
    for wrap in (as_json, as_cbor):
        (tmp_path / "evidence.cmw").write_bytes(
            wrap("application/vnd.sealbus.nitro-attestation", document, indicator)
        )
        assert verify(tmp_path / "evidence.cmw", *at(folder))[0] == code


def test_a_report_that_was_cut_is_told_by_its_size_however_it_is_named(
    tmp_path: Path, verify: Verify
) -> None:
    folder = one_of(SEV_SNP, "genoa-v5-vcek-lunal")
    data = (folder / "report.bin").read_bytes()
    for cut in (data[:-1], data + b"x"):
        for name in ("report.bin", "r"):
            (tmp_path / name).write_bytes(cut)
        for path in (tmp_path, tmp_path / "r"):
            code, result = verify(path)
            assert (code, result["failure"]["wanted"]) == (2, "1184 bytes")
            assert (result["done"], result["reason"]) == (False, "malformed")


# --- sentences ----------------------------------------------------------------------------------


# Beside them lie the attesters and the fetchers, whose reasons are told elsewhere.
JUDGES = (
    "acceptable.py",
    "appraise.py",
    "assess.py",
    "der.py",
    "errors.py",
    "firmware.py",
    "missing.py",
    "x509.py",
    "sev_snp/certificate.py",
    "sev_snp/parse.py",
    "sev_snp/verify.py",
    "tdx/collateral.py",
    "tdx/parse.py",
    "tdx/pck.py",
    "tdx/tcb.py",
    "tdx/verify.py",
    "nitro/cbor.py",
    "nitro/parse.py",
    "nitro/verify.py",
)


def reasons_in(source: str) -> set[Reason]:
    """Return every reason that a source gives."""
    return {
        Reason[node.attr]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }


def test_every_reason_to_refuse_evidence_has_a_sentence() -> None:
    # Which endorsement is absent is told by its name, in the sentence about all of them.
    named_by_file = set(CODES.values()) - {Reason.NO_REVOCATION_LIST}
    package = Path(next(iter(attestation.__path__)))
    used = set().union(*(reasons_in((package / name).read_text()) for name in JUDGES)) - named_by_file
    assert len(used) > 30
    for reason in used:
        sentence = explain_finding(Finding(Claim.HARDWARE, 96, reason, "this", "that"))
        assert "It was refused" not in sentence, reason
        # What lets a weakness pass is not what was wanted.
        second = "(that)" if reason.value.endswith("-tolerated") else "(wanted: that)"
        assert f": this {second}; " in sentence
        assert sentence.endswith(f"[{reason.value}]")


@pytest.mark.parametrize("detail", [NOT_OF_INTEL, FOREIGN_QE, FOREIGN_MODULE])
def test_no_certificate_is_fetched_for_what_is_not_intels(detail: str) -> None:
    sentence = explain_failure(NotGenuineError(Reason.TCB_MISMATCH, detail))
    assert "treat the evidence as forged" in sentence
    assert "fetch the certificate" not in sentence
    snp = explain_failure(NotGenuineError(Reason.TCB_MISMATCH, "certificate is for another TCB"))
    assert "fetch the certificate for the reported TCB" in snp


@pytest.mark.parametrize("detail", [UNKNOWN_MODULE, UNKNOWN_STATUS])
def test_what_may_stand_above_every_level_is_not_said_to_stand_below(detail: str) -> None:
    assert "stands below every" not in explain_failure(NotGenuineError(Reason.TCB_NOT_RECOGNIZED, detail))


def test_a_vlek_is_had_from_the_host(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(SEV_SNP, "genoa-v5-vcek-lunal")
    report = bytearray((folder / "report.bin").read_bytes())
    report[0x48] = report[0x48] & ~0x1C | 1 << 2  # signed by a VLEK
    (tmp_path / "report.bin").write_bytes(report)
    code, result = verify(tmp_path)
    assert (code, result["reasons"][:2]) == (1, ["no-collateral", "no-vlek"])
    assert "take vlek.der from the host's certificate table" in result["failure"]["explanation"]
    (tmp_path / "vlek.der").write_bytes(b"junk")
    for name in ("ask.der", "ark.der"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    code, result = verify(tmp_path)
    assert (code, result["failure"]["detail"].partition(": ")[0]) == (2, "vlek.der")
    assert "take vlek.der from the host's certificate table" in result["failure"]["explanation"]


@pytest.mark.parametrize(
    ("vector", "name"),
    [("sev-snp/genoa-v5-vcek-lunal", "ark.der"), ("sev-snp/genoa-v5-vcek-lunal", "vcek.der")]
    + [("tdx/v4-uptodate-b0c06f-phala", name) for name in NAMES],
)
def test_an_endorsement_that_is_broken_is_named(
    vector: str, name: str, tmp_path: Path, verify: Verify
) -> None:
    folder = one_of(*vector.split("/"))
    copy = copy_of(folder, tmp_path)
    (copy / name).write_bytes(b"junk")
    code, result = verify(copy, *at(folder))
    assert (code, result["failure"]["detail"].partition(": ")[0]) == (2, name)


def test_evidence_that_is_broken_is_not_laid_to_an_endorsement(tmp_path: Path, verify: Verify) -> None:
    (tmp_path / "report.bin").write_bytes(bytes(10))
    (tmp_path / "ark.der").write_bytes(b"junk")
    code, result = verify(tmp_path)
    assert (code, result["failure"]["detail"]) == (2, "SEV-SNP report is not of its size")


def test_a_root_may_be_pem(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(SEV_SNP, "genoa-v5-vcek-lunal")
    pem = tmp_path / "root.pem"
    text = encodebytes((folder / "ark.der").read_bytes())
    pem.write_bytes(b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n")
    assert verify(folder, *at(folder), "--root", str(pem))[0] == 0


def test_a_chip_is_shown_as_policies_name_it(verify: Verify, capsys: pytest.CaptureFixture[str]) -> None:
    folder = one_of(SEV_SNP, "turin-v5-vcek-oak-oc")
    run(["evidence", "show", str(folder), "--json"])
    shown = json.loads(capsys.readouterr().out)["fields"]["chip id"]
    assert (len(shown), shown) == (16, verify(folder, *at(folder))[1]["chip"])


def test_a_chip_under_a_clouds_key_is_said_to_be_its_own_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    amd = amd_root(now)
    chip = sev_snp.SevSnpChip.from_files(amd, serial=1)
    body = bytearray(chip.body({"measurement": b"\1" * 48, "host_data": b"\2" * 32}, b"\3" * 64))
    own = {**chip.endorsements}
    clouds = {**own, **cloud_chain(amd, chip, born=now - timedelta(hours=2))}
    clouds.pop("vcek.der")
    (tmp_path / "root.der").write_bytes(amd["ark.der"])
    for name, key, files, said in (
        ("own", b"\0", own, "key:VCEKchip:[0-9a-f]{128}mea"),
        ("cloud", SIGNED_BY_VLEK[0x048], clouds, f"key:VLEKof{CLOUD}chip:[0-9a-f]{{128}},byitsownword"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        body[0x048:0x049] = key
        (folder / "report.bin").write_bytes(chip.sign(bytes(body)))
        for file, data in files.items():
            (folder / file).write_bytes(data)
        assert run(["evidence", "verify", str(folder), "--root", str(tmp_path / "root.der")]) == 0
        assert re.search(said, "".join(capsys.readouterr().out.split()))


def test_a_chip_that_was_cut_short_is_said_to_be(tmp_path: Path, verify: Verify) -> None:
    folder = one_of(SEV_SNP, "genoa-v5-vcek-lunal")
    file, chip = tmp_path / "policy.toml", load(folder).meta["chip_id"]
    file.write_text(policy_text(folder) + f'on.sev-snp.chips = ["{chip[:64]}"]\n')
    _, result = verify(folder, *at(folder), "--policy", str(file))
    (said,) = [each for each in result["findings"] if each["reason"] == "chip-not-in-policy"]
    assert said["seen"] == f"chip {chip[:16]}…, 64 bytes"
    assert said["wanted"] == f"{chip[:16]}…, 32 bytes of vector's"
    assert "give the whole value in the policy" in said["explanation"]


def test_a_root_that_did_not_sign_itself_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    folder = one_of(SEV_SNP, "genoa-v5-vcek-lunal")
    assert run(["evidence", "verify", str(folder), *at(folder), "--root", str(folder / "ask.der")]) == 2
    assert "ask.der is no root" in capsys.readouterr().err
    assert run(["evidence", "verify", str(folder), *at(folder), "--root", str(folder / "ark.der")]) == 0


# --- the certificate table of a host -------------------------------------------------------------


def test_certificates_are_read_from_the_hosts_table(tmp_path: Path, verify: Verify) -> None:
    folder = copy_of(one_of(SEV_SNP, "genoa-v3-vcek-veraison-tsm-report"), tmp_path)
    for file in folder.glob("*.der"):
        file.unlink()
    code, result = verify(folder, *at(folder))
    assert (code, result["genuine"], result["product"]) == (0, True, "Genoa")


def test_a_table_that_is_none_is_unreadable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy_of(one_of(SEV_SNP, "genoa-v3-vcek-veraison-tsm-report"), tmp_path)
    (folder / "auxblob.bin").write_bytes(b"\x01" * 30)
    assert run(["evidence", "verify", str(folder), *at(folder)]) == 2
    assert "is no certificate table" in capsys.readouterr().err
