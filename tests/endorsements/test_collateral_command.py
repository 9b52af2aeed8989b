"""`sealbus collateral`: what an operator sees, what lies on disk afterwards, and the exit codes."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from attestation import tdx
from attestation.bundles.bundle import completed, decode_file, encode_file, open_bundle, sign_bundle
from attestation.endorsements.sort import Unfit, sort
from console import cli
from console.collateral_files import default_cache, save_beside
from console.documents import make_anchor
from lab.simulate import certificates, nitro, sev_snp
from lab.simulate.sev_snp import SevSnpChip
from lab.simulate.tdx_issuer import tcb_info
from schemas.collateral import CollateralEntry
from schemas.errors import UsageError
from sealing import keyfile
from sealing.context import SUITE_GCM
from sealing.documents import open_anchor
from sealing.keys import SigningKey
from tests.amd import amd_root
from tests.attestation.tdx_forge import Forge
from tests.attestation.vectors import EVIDENCE, present
from tests.endorsements.conftest import FMSPC
from tests.endorsements.world import Answer, Service

NAMES = {
    "tcb_info.json",
    "tcb_info_chain.pem",
    "qe_identity.json",
    "qe_identity_chain.pem",
    "pck_crl.der",
    "pck_crl_chain.pem",
    "root_ca_crl.der",
}


pytestmark = pytest.mark.usefixtures("surroundings")


def test_what_is_fetched_beside_evidence_is_what_verification_takes(
    fetching: list[str], folder: Path, today: Forge, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*fetching, "--beside"]) == 0
    assert {path.name for path in folder.iterdir()} == {"quote.bin", *NAMES}
    files = {name: (folder / name).read_bytes() for name in NAMES}
    assert tdx.verify(today.quote(), files, now=datetime.now(UTC)).missing == ()
    shown = capsys.readouterr().err
    assert "complete" in shown
    assert "fetched tcb-info/1ab0c06f0000" in shown


@pytest.mark.parametrize("name", ["../x", "/x", "quote.bin", "sub/crl.der"])
def test_only_endorsements_are_written_beside_evidence(name: str, folder: Path) -> None:
    before = (folder / "quote.bin").read_bytes()
    with pytest.raises(UsageError, match="no endorsement"):
        save_beside(folder, {"crl.der": b"y", name: b"x"})
    assert [path.name for path in folder.iterdir()] == ["quote.bin"]
    assert (folder / "quote.bin").read_bytes() == before
    assert not (folder.parent / "x").exists()


def test_evidence_that_needs_nothing_is_told_and_makes_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "attestation.cbor").write_bytes(b"\x84\x44")
    out = tmp_path / "collateral.cbor"
    assert cli.run(["collateral", "fetch", str(tmp_path), "--beside"]) == 0
    assert "nothing to fetch: nitro evidence carries its own chain" in capsys.readouterr().err
    assert cli.run(["collateral", "fetch", str(tmp_path), "--out", str(out)]) == 1
    assert "was not written: there was nothing to fetch" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_a_file_that_is_there_stays_when_there_was_nothing_to_add(
    gathered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = gathered.read_bytes()
    (tmp_path / "attestation.cbor").write_bytes(b"\x84\x44")
    assert cli.run(["collateral", "fetch", str(tmp_path), "--out", str(gathered)]) == 0
    assert gathered.read_bytes() == before


def test_a_raw_quote_is_evidence_too(fetching: list[str], folder: Path) -> None:
    assert cli.run([*fetching[:-1], str(folder / "quote.bin"), "--beside"]) == 0
    assert {path.name for path in folder.iterdir()} == {"quote.bin", *NAMES}


def test_a_raw_report_is_evidence_too(
    chip: sev_snp.SevSnpChip, service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measurements = {"measurement": bytes(48), "host_data": bytes(32)}
    evidence, _ = chip.evidence(measurements, bytes(64), b"", now=datetime.now(UTC))
    raw, root = tmp_path / "raw" / "report", tmp_path / "ark.der"
    raw.parent.mkdir()
    raw.write_bytes(evidence.value)
    root.write_bytes(chip.endorsements["ark.der"])
    arguments = ["collateral", "fetch", "--kds", service.base, "--root", str(root), str(raw), "--beside"]
    assert cli.run(arguments) == 0
    files = {path.name: path.read_bytes() for path in raw.parent.iterdir() if path != raw}
    assert files == chip.endorsements
    assert status_of(raw.parent, capsys)[0] == 0


def test_a_second_fetch_asks_nobody(fetching: list[str], gathered: Path, service: Service) -> None:
    asked = len(service.asked)
    assert cli.run([*fetching, "--out", str(gathered)]) == 0
    assert len(service.asked) == asked
    assert list(default_cache().iterdir())


def test_without_a_cache_everything_is_asked_for_again(
    fetching: list[str], gathered: Path, service: Service
) -> None:
    asked = len(service.asked)
    assert cli.run([*fetching, "--out", str(gathered), "--no-cache"]) == 0
    assert len(service.asked) > asked


def test_json_says_what_was_fetched(
    fetching: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*fetching, "--out", str(tmp_path / "out"), "--json"]) == 0
    (machine,) = json.loads(capsys.readouterr().out)
    assert machine["platform"] == "tdx"
    assert machine["error"] is None
    assert [each["subject"] for each in machine["documents"]] == [
        "tcb-info/1ab0c06f0000",
        "qe-identity",
        "pck-crl/platform",
        "root-ca-crl",
    ]


def test_a_wrong_answer_is_refused_and_writes_nothing_beside(
    fetching: list[str], folder: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.serve_intel(Forge().endorsements(), FMSPC)
    assert cli.run([*fetching, "--beside"]) == 1
    assert [path.name for path in folder.iterdir()] == ["quote.bin"]
    assert "chain-invalid" in capsys.readouterr().err


def test_a_service_that_is_down_is_exit_code_3(fetching: list[str], folder: Path, service: Service) -> None:
    service.faults.append(Answer(status=503, headers={"Retry-After": "9999"}))
    assert cli.run([*fetching, "--beside"]) == 3


def test_evidence_that_is_none_is_a_usage_error(
    fetching: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "junk").write_bytes(b"junk")
    assert cli.run([*fetching[:-1], str(tmp_path / "junk"), "--beside"]) == 2
    (tmp_path / "junk").write_bytes(bytes(1184))
    assert cli.run([*fetching[:-1], str(tmp_path / "junk"), "--beside"]) == 2
    assert "can't be read" in capsys.readouterr().err


def test_a_place_to_write_to_has_to_be_named(fetching: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(fetching) == 2
    assert "--beside" in capsys.readouterr().err


def status_of(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = cli.run(["collateral", "status", str(path), "--json", *more])
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, data


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--anchor", "collateral.cbor"), "is no anchor"),
        (("--previous", "root.der"), "is no collateral file: name one, or make it"),
        (("--soon", "-1"), "is not in the range x>=0"),
    ],
)
def test_an_option_of_status_that_can_not_be_read_is_no_verdict(
    gathered: Path,
    tmp_path: Path,
    options: tuple[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["collateral", "status", str(gathered), *options]) == 2
    assert said in capsys.readouterr().err


def test_status_of_what_nobody_signed_says_what_to_do_about_the_anchor(
    gathered: Path, keys: dict[str, SigningKey], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, data = status_of(gathered, capsys, "--anchor", str(tmp_path / "anchor"))
    assert (code, "sealbus collateral sign" in data["signatures"]) == (1, True)


def test_status_says_how_each_document_stands(gathered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, data = status_of(gathered, capsys)
    assert code == 0
    assert {document["file"] for document in data["documents"]} == NAMES
    (info,) = [each for each in data["documents"] if each["file"] == "tcb_info.json"]
    assert info["state"] == "current"
    assert info["subject"].startswith("TDX 1ab0c06f0000")
    assert 28 < info["days_left"] < 31
    assert 0 <= info["age_days"] < 1


def test_status_of_a_folder_names_what_is_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = EVIDENCE / "tdx" / "v4-uptodate-b0c06f-phala"
    for file in present(folder if folder.exists() else None).iterdir():
        if file.name in ("quote.bin", "tcb_info.json"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert set(status_of(tmp_path, capsys)[1]["absent"]) == NAMES - {"tcb_info.json"}
    cli.run(["collateral", "status", str(tmp_path)])
    assert "absent: tcb_info_chain.pem, qe_identity.json" in capsys.readouterr().out


def test_status_for_people_is_a_table(gathered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["collateral", "status", str(gathered)]) == 0
    shown = capsys.readouterr().out
    assert "tcb_info.json" in shown
    assert "not signed" in shown


def test_what_expires_soon_is_said_and_strictly_is_a_failure(
    gathered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, data = status_of(gathered, capsys, "--soon", "60")
    assert code == 0
    assert "soon" in {document["state"] for document in data["documents"]}
    assert status_of(gathered, capsys, "--soon", "60", "--strict")[0] == 1


def test_what_has_expired_is_a_failure(
    fetching: list[str], folder: Path, today: Forge, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*fetching, "--beside"]) == 0
    old = today.issuer.sign("tcbInfo", tcb_info(datetime.now(UTC) - timedelta(days=60)))
    (folder / "tcb_info.json").write_bytes(old)
    code, data = status_of(folder, capsys)
    assert code == 1
    assert [each["file"] for each in data["documents"] if each["state"] == "expired"] == ["tcb_info.json"]


def test_what_can_not_be_read_is_a_failure(
    fetching: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*fetching, "--beside"]) == 0
    (folder / "pck_crl.der").write_bytes(b"junk")
    code, data = status_of(folder, capsys)
    assert code == 1
    assert [each["file"] for each in data["documents"] if each["state"] == "unreadable"] == ["pck_crl.der"]


def test_what_nobody_verified_moves_no_cursor(
    folder: Path, today: Forge, capsys: pytest.CaptureFixture[str]
) -> None:
    of = {**tcb_info(datetime.now(UTC)), "id": "\x1b[2J\u202e", "fmspc": "\x1b[1A\r\n"}
    (folder / "tcb_info.json").write_bytes(today.issuer.sign("tcbInfo", of))
    assert cli.run(["collateral", "status", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\\x1b[2J" in shown


def test_a_folder_is_nobodys_to_sign(
    fetching: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*fetching, "--beside"]) == 0
    capsys.readouterr()
    assert cli.run(["collateral", "status", str(folder)]) == 0
    assert "signed" not in capsys.readouterr().out


def test_a_folder_without_collateral_is_a_usage_error(folder: Path) -> None:
    assert cli.run(["collateral", "status", str(folder)]) == 2


def test_a_file_that_is_no_collateral_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "junk").write_bytes(b"junk")
    assert cli.run(["collateral", "status", str(tmp_path / "junk")]) == 2
    assert "sealbus collateral fetch" in capsys.readouterr().err


def sign(source: Path, out: Path, anchor: Path, *keys: Path) -> int:
    named = [argument for key in keys for argument in ("--key", str(key))]
    return cli.run(["collateral", "sign", str(source), "--anchor", str(anchor), "--out", str(out), *named])


def test_operators_sign_one_after_the_other(
    gathered: Path, keys: dict[str, SigningKey], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anchor, bundle = tmp_path / "anchor", tmp_path / "bundle"
    assert sign(gathered, bundle, anchor, tmp_path / "alice.key") == 0
    assert "needs 1 more" in capsys.readouterr().out
    assert status_of(bundle, capsys, "--anchor", str(anchor))[0] == 1
    assert sign(bundle, bundle, anchor, tmp_path / "bob.key") == 0
    assert f"signed as issued {datetime.now(UTC):%Y-%m-}" in capsys.readouterr().out
    code, data = status_of(bundle, capsys, "--anchor", str(anchor))
    assert code == 0
    assert "signed by enough" in data["signatures"]
    opened, mesh = open_anchor(anchor.read_bytes())
    taken = open_bundle(opened, mesh, bundle.read_bytes(), now=time.time_ns() // 1_000_000)
    assert taken.entries == decode_file(gathered.read_bytes())


def test_a_stranger_can_not_sign(
    gathered: Path, keys: dict[str, SigningKey], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mallory.key").write_bytes(b"m" * 32)
    assert sign(gathered, tmp_path / "bundle", tmp_path / "anchor", tmp_path / "mallory.key") == 2
    assert not (tmp_path / "bundle").exists()
    assert (b"m" * 32).decode() not in capsys.readouterr().err


def test_a_bundle_with_a_strangers_signature_is_not_said_to_lack_operators(
    gathered: Path, keys: dict[str, SigningKey], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anchor, bundle = tmp_path / "anchor", tmp_path / "bundle"
    council, _ = open_anchor(anchor.read_bytes())
    mallory = SigningKey(b"m" * 32)
    data = sign_bundle(council, [*keys.values(), mallory], decode_file(gathered.read_bytes()), issued=1)
    bundle.write_bytes(data)
    code, said = status_of(bundle, capsys, "--anchor", str(anchor))
    assert code == 1
    assert "a signature in it does not count (not an operator of this mesh)" in said["signatures"]
    assert "enough" not in said["signatures"]


def test_what_has_expired_is_not_signed(
    gathered: Path,
    keys: dict[str, SigningKey],
    tmp_path: Path,
    today: Forge,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = today.issuer.sign("tcbInfo", tcb_info(datetime.now(UTC) - timedelta(days=60)))
    entries = tuple(
        CollateralEntry(
            subject=entry.subject, files={**entry.files, "tcb_info.json": old}, fetched=entry.fetched
        )
        if "tcb_info.json" in entry.files
        else entry
        for entry in decode_file(gathered.read_bytes())
    )
    gathered.write_bytes(encode_file(entries))
    assert sign(gathered, tmp_path / "bundle", tmp_path / "anchor", tmp_path / "alice.key") == 1
    assert not (tmp_path / "bundle").exists()
    assert "nothing was signed: get it again with `sealbus collateral fetch`" in capsys.readouterr().err


def test_a_signed_bundle_is_not_added_to(
    gathered: Path, keys: dict[str, SigningKey], fetching: list[str], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    assert sign(gathered, bundle, tmp_path / "anchor", tmp_path / "alice.key", tmp_path / "bob.key") == 0
    before = bundle.read_bytes()
    assert cli.run([*fetching, "--out", str(bundle)]) == 2
    assert bundle.read_bytes() == before


def test_the_keys_of_keygen_sign_collateral(
    gathered: Path, tmp_path: Path, today: Forge, capsys: pytest.CaptureFixture[str]
) -> None:
    phrase = tmp_path / "phrase"
    phrase.write_text("correct horse battery\n")
    operators = []
    for name in ("alice", "mallory"):
        locked = keyfile.lock(
            name,
            name.encode().ljust(32, b"."),
            "correct horse battery",
            salt=bytes(keyfile.SALT_SIZE),
            nonce=bytes(keyfile.NONCE_SIZE),
            operations=1,
            memory=8192,
        )
        (tmp_path / f"{name}.key").write_bytes(locked)
        operators.append(keyfile.owner(locked))
    (tmp_path / "anchor").write_bytes(make_anchor(operators[:1], 1, [today.root], 1, SUITE_GCM))

    def signing(name: str) -> int:
        files = ["--anchor", str(tmp_path / "anchor"), "--out", str(tmp_path / "bundle")]
        secret = ["--key", str(tmp_path / f"{name}.key"), "--passphrase-file", str(phrase)]
        return cli.run(["collateral", "sign", str(gathered), *files, *secret])

    assert signing("mallory") == 2
    assert "is of mallory" in capsys.readouterr().err
    assert signing("alice") == 0
    opened, mesh = open_anchor((tmp_path / "anchor").read_bytes())
    assert open_bundle(opened, mesh, (tmp_path / "bundle").read_bytes(), now=time.time_ns() // 1_000_000)
    phrase.write_text("incorrect horse battery\n")
    assert signing("alice") == 2
    assert "passphrase does not open" in capsys.readouterr().err


def test_a_key_file_that_is_none_says_what_one_is(
    gathered: Path, keys: dict[str, SigningKey], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short.key").write_bytes(b"short")
    assert sign(gathered, tmp_path / "bundle", tmp_path / "anchor", tmp_path / "short.key") == 2
    assert "32 bytes" in capsys.readouterr().err


# --- without a network: packed from folders, and given to who judges ------------------------------


def beside(today: Forge, folder: Path, *names: str) -> None:
    files = today.endorsements()
    for name in names or files:
        (folder / name).write_bytes(files[name])


@pytest.fixture
def packed(today: Forge, tmp_path: Path) -> Path:
    """A collateral file of a folder that holds endorsements and nothing else."""
    source, out = tmp_path / "usb" / "stick", tmp_path / "packed.cbor"
    source.mkdir(parents=True)
    beside(today, source)
    (tmp_path / "root.der").write_bytes(today.root_der)
    root = str(tmp_path / "root.der")
    assert cli.run(["collateral", "pack", str(tmp_path / "usb"), "--root", root, "--out", str(out)]) == 0
    return out


def verify(tmp_path: Path, *more: object) -> int:
    options = ["--root", str(tmp_path / "root.der"), *map(str, more)]
    return cli.run(["evidence", "verify", str(tmp_path / "machine"), *options])


def test_bare_evidence_is_completed_by_what_was_packed_from_a_folder(
    folder: Path, packed: Path, tmp_path: Path
) -> None:
    assert verify(tmp_path) == 1
    assert verify(tmp_path, "--collateral", packed) == 0


def test_a_packed_file_is_what_a_fetched_one_is(packed: Path, gathered: Path) -> None:
    by_subject = [
        {each.subject: set(each.files) for each in decode_file(path.read_bytes())}
        for path in (packed, gathered)
    ]
    assert by_subject[0] == by_subject[1]


def test_a_bundle_completes_evidence_if_its_meshs_operators_signed_it(
    folder: Path,
    packed: Path,
    keys: dict[str, SigningKey],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    anchor, bundle = tmp_path / "anchor", tmp_path / "bundle"
    assert sign(packed, bundle, anchor, tmp_path / "alice.key") == 0
    given = ("--collateral", bundle, "--anchor", anchor)
    assert verify(tmp_path, *given) == 2
    assert "signatures-too-few" in capsys.readouterr().err
    assert sign(bundle, bundle, anchor, tmp_path / "bob.key") == 0
    assert verify(tmp_path, *given) == 0
    capsys.readouterr()
    for wrong, said in (
        (("--collateral", bundle), "name the anchor"),
        (("--collateral", packed, "--anchor", anchor), "is signed by nobody"),
        (("--anchor", anchor), "name the file with --collateral"),
        (("--collateral", anchor), "is no collateral file"),
        (("--collateral", tmp_path / "usb"), "sealbus collateral pack"),
    ):
        assert verify(tmp_path, *wrong) == 2
        assert said in capsys.readouterr().err
        assert cli.run(["doctor", *map(str, wrong)]) == 2
        assert said in capsys.readouterr().err


def test_what_is_not_current_or_of_no_known_root_is_not_packed(
    today: Forge, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside(today, folder)
    out = tmp_path / "packed.cbor"
    command = ["collateral", "pack", str(folder), "--out", str(out)]
    assert cli.run(command) == 2
    said = capsys.readouterr().err
    assert f"it ends in another root ({today.root[:16]}…) than those to go by" in said
    why = "everything in there was left out: 4 chain-invalid; name a simulator's root with --root"
    assert f"{out} was not written: {why}" in said
    assert not out.exists()
    other = tmp_path / "other.der"
    other.write_bytes(nitro.make_root(datetime.now(UTC))["root.der"])
    assert cli.run([*command, "--root", str(other)]) == 2
    assert "4 chain-invalid; leave --root out if they are the vendors'" in capsys.readouterr().err
    command += ["--root", str(tmp_path / "root.der")]
    assert cli.run([*command, "--at", "2100-01-01T00:00:00Z"]) == 2
    assert "--root" not in capsys.readouterr().err
    (folder / "tcb_info.json").write_bytes(b"{}")
    assert cli.run(command) == 1
    said = capsys.readouterr().err
    assert f"{folder / 'tcb_info.json'}: left out: it is neither TCB info nor" in said
    assert "3 documents, 1 left out" in said
    (folder / "vlek.der").write_bytes(b"\x30\x00")
    assert cli.run([*command, "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["file"] == str(out)
    subjects = [each.subject for each in decode_file(out.read_bytes())]
    assert [each["subject"] for each in data["documents"]] == subjects
    assert all(each["files"] for each in data["documents"])
    assert [(each["path"], each["reason"]) for each in data["left_out"]] == [
        (str(folder / "vlek.der"), "clouds-key"),
        (str(folder / "tcb_info.json"), "malformed"),
    ]
    assert data["kept"] == []


def test_where_nothing_is_packed_a_program_is_told_what_was_left_out_and_why(
    today: Forge, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside(today, folder)
    out = tmp_path / "packed.cbor"
    # By whatever name, a folder counts once.
    again = folder / ".." / folder.name
    command = ["collateral", "pack", str(folder), str(again), "--out", str(out), "--json"]
    assert cli.run(command) == 2
    data = json.loads(capsys.readouterr().out)
    assert (data["done"], data["reason"], data["file"]) == (False, "chain-invalid", None)
    assert data["detail"].startswith(f"{out} was not written: ")
    assert (data["documents"], data["kept"]) == ([], [])
    assert [each["reason"] for each in data["left_out"]] == ["chain-invalid"] * 4
    (folder / "tcb_info.json").write_bytes(b"{}")
    assert cli.run(command) == 2
    data = json.loads(capsys.readouterr().out)
    assert data["reason"] == "no-collateral"
    assert {each["reason"] for each in data["left_out"]} == {"chain-invalid", "malformed"}


def test_a_folder_of_chains_alone_holds_nothing_to_pack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ark.der").write_bytes(b"\x30\x00")
    assert cli.run(["collateral", "pack", str(tmp_path), "--out", str(tmp_path / "out"), "--json"]) == 2
    data = json.loads(capsys.readouterr().out)
    assert (data["reason"], data["left_out"]) == ("no-collateral", [])
    assert "no document in there is one that a collateral file has" in data["detail"]


def test_of_two_folders_the_document_that_was_issued_later_is_packed(
    today: Forge, packed: Path, tmp_path: Path
) -> None:
    first = decode_file(packed.read_bytes())
    older = tmp_path / "older"
    older.mkdir()
    files = today.issuer.collateral(now=datetime.now(UTC) - timedelta(days=1))
    for name in ("pck_crl.der", "pck_crl_chain.pem"):
        (older / name).write_bytes(files[name])
    root = str(tmp_path / "root.der")
    assert cli.run(["collateral", "pack", str(older), "--root", root, "--out", str(packed)]) == 0
    assert [each.files for each in decode_file(packed.read_bytes())] == [each.files for each in first]


def test_a_chips_certificate_is_packed_under_the_name_that_its_evidence_asks_for(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    chip = SevSnpChip.from_files(amd_root(now - timedelta(days=2)), serial=1)
    measured = {name: bytes(48) for name in ("measurement",)} | {"host_data": bytes(32)}
    evidence, files = chip.evidence(measured, bytes(64), bytes(32), now=now)
    found = [each for each in sort(files, roots=(chip.root,), now=now) if not isinstance(each, Unfit)]
    entries = tuple(CollateralEntry(subject=str(subject), files=files, fetched=0) for subject, files in found)
    assert completed(evidence, {}, entries) == files


def test_no_list_of_amds_is_left_out_of_a_file_unsaid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    made = sev_snp.make_root(now - timedelta(days=9))
    measured = {"measurement": bytes(48), "host_data": bytes(32)}
    _, files = SevSnpChip.from_files(made, serial=1).evidence(measured, bytes(64), bytes(32), now=now)
    issuer = certificates.load_certificate(made, "ark.der"), certificates.load_rsa_key(made, "ark.pem")

    def listing(days: int, *revoked: int) -> bytes:
        issued = now - timedelta(days=days)
        return certificates.make_crl(*issuer, this_update=issued, lifetime=timedelta(60), revoked=revoked)

    def packs(out: str, **folders: dict[str, bytes]) -> tuple[int, dict[str, Any]]:
        for name, lists in folders.items():
            (tmp_path / name).mkdir()
            for each, data in {**files, **lists}.items():
                (tmp_path / name / each).write_bytes(data)
        (tmp_path / "root.der").write_bytes(made["ark.der"])
        where = [str(tmp_path / name) for name in folders]
        options = ["--root", str(tmp_path / "root.der"), "--out", str(tmp_path / out), "--json"]
        code = cli.run(["collateral", "pack", *where, *options])
        return code, json.loads(capsys.readouterr().out)

    def left(data: dict[str, Any]) -> list[tuple[str, str]]:
        return [(str(Path(each["path"]).relative_to(tmp_path)), each["reason"]) for each in data["left_out"]]

    newest = listing(1, 7)
    # Beside the first: one that names more, one that does not, the first again, and what is no list.
    more = {"crl_2.der": listing(2, 7, sev_snp.ASK_SERIAL), "crl_3.der": listing(2, 7)}
    code, data = packs("a", beside={"crl.der": newest, **more, "crl_4.der": newest, "crl_5.der": b"junk"})
    assert code == 1
    told = [("beside/crl_2.der", "revokes-more"), ("beside/crl_3.der", "other-list")]
    assert left(data) == [*told, ("beside/crl_5.der", "malformed")]
    code, data = packs("b", same={"crl.der": newest, "crl_2.der": listing(2, 7)})
    assert (code, left(data)) == (0, [("same/crl_2.der", "other-list")])
    # Of another folder: in whichever order they come, and where a file has it already.
    older = {"crl.der": listing(2, sev_snp.ASK_SERIAL)}
    code, data = packs("c", f1=older, f2={"crl.der": newest})
    assert (code, left(data)) == (1, [("f1/crl.der", "revokes-more")])
    code, data = packs("d", g1={"crl.der": newest}, g2=older)
    assert (code, left(data)) == (1, [("g2/crl.der", "revokes-more")])
    assert packs("e", h1=older)[0] == 0
    code, data = packs("e", h2={"crl.der": newest})
    assert (code, left(data)) == (1, [("e", "revokes-more")])
    code, data = packs("e", h3={"crl.der": listing(0, 7, 8)})
    assert (code, left(data)) == (0, [])


def test_a_list_that_is_left_out_is_judged_by_who_signed_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    # Two roots of one name.
    roots = {name: sev_snp.make_root(now - timedelta(days=9)) for name in ("one", "two")}
    measured = {"measurement": bytes(48), "host_data": bytes(32)}
    chips = {
        name: SevSnpChip.from_files(made, serial=1).evidence(measured, bytes(64), bytes(32), now=now)[1]
        for name, made in roots.items()
    }

    def listing(root: str, days: int, *revoked: int) -> bytes:
        made, issued = roots[root], now - timedelta(days=days)
        issuer = certificates.load_certificate(made, "ark.der"), certificates.load_rsa_key(made, "ark.pem")
        return certificates.make_crl(*issuer, this_update=issued, lifetime=timedelta(60), revoked=revoked)

    def packs(
        out: str, *trusted: str, **folders: tuple[str, dict[str, bytes]]
    ) -> tuple[int, list[tuple[str, str]]]:
        for name, (root, lists) in folders.items():
            (tmp_path / name).mkdir()
            for each, data in {**chips[root], **lists}.items():
                (tmp_path / name / each).write_bytes(data)
        command = ["collateral", "pack", *(str(tmp_path / name) for name in folders), "--json"]
        for name in trusted:
            (tmp_path / f"{name}.der").write_bytes(roots[name]["ark.der"])
            command += ["--root", str(tmp_path / f"{name}.der")]
        code = cli.run([*command, "--out", str(tmp_path / out)])
        told = json.loads(capsys.readouterr().out)["left_out"]
        return code, [(str(Path(each["path"]).relative_to(tmp_path)), each["reason"]) for each in told]

    genuine = listing("one", 1, 7)
    # What anybody wrote is no list of the root's, whether it names more or nobody; nor is one by a root that
    # is there and none to go by.
    for forged in (listing("two", 0, sev_snp.ASK_SERIAL), listing("two", 0)):
        name = str(len(forged))
        lists = {"crl.der": genuine, "crl_2.der": forged}
        code, told = packs(name, "one", **{f"{name}a": ("one", lists)})
        assert (code, told) == (1, [(f"{name}a/crl_2.der", "signature-invalid")])
        code, told = packs(name, "one", **{f"{name}b": ("one", lists), f"{name}c": ("two", {})})
        assert code == 1
        assert (f"{name}b/crl_2.der", "chain-invalid") in told
    # One that has expired names whom it names.
    expired = {"crl.der": genuine, "crl_2.der": listing("one", 90, sev_snp.ASK_SERIAL)}
    code, told = packs("expired", "one", old=("one", expired))
    assert (code, told) == (1, [("old/crl_2.der", "revokes-more")])
    # Whom the packed list of one root names, it names for no other.
    ones, twos = {"crl.der": listing("one", 2, 7)}, {"crl.der": listing("two", 1, 7)}
    code, told = packs("both", "one", "two", f=("one", ones), g=("two", twos))
    assert (code, told) == (1, [("f/crl.der", "revokes-more")])


def test_nitro_has_nothing_to_watch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "attestation.cbor").write_bytes(b"\x84")
    assert cli.run(["collateral", "status", str(tmp_path)]) == 0
    assert "nitro evidence carries its own chain" in capsys.readouterr().out
    assert status_of(tmp_path, capsys)[1]["documents"] == []


def test_status_fits_80_columns_and_says_what_to_do(
    gathered: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cli.run(["collateral", "status", str(gathered)])
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_a_vlek_is_said_to_stay_with_its_evidence(
    today: Forge, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside(today, folder)
    (folder / "vlek.der").write_bytes(b"\x30\x00")
    root = str(tmp_path / "root.der")
    out = str(tmp_path / "packed.cbor")
    assert cli.run(["collateral", "pack", str(folder), "--root", root, "--out", out]) == 0
    assert "vlek.der: not packed: it is a cloud's" in capsys.readouterr().err


def test_nitro_among_folders_is_named_and_keeps_none_of_the_others_from_being_packed(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nitro, out = tmp_path / "enclave", tmp_path / "new.cbor"
    nitro.mkdir()
    (nitro / "attestation.cbor").write_bytes(b"\x84\x44")
    command = ["collateral", "pack", str(nitro), "--root", str(tmp_path / "root.der"), "--out", str(out)]
    assert cli.run([*command, str(tmp_path / "usb")]) == 0
    assert f"{nitro}: nothing to pack: nitro evidence carries its own chain" in capsys.readouterr().err
    assert [each.files for each in decode_file(out.read_bytes())] == [
        each.files for each in decode_file(packed.read_bytes())
    ]
    before = out.stat()
    assert cli.run([*command, "--json"]) == 1
    told = capsys.readouterr()
    assert f"{out} was left as it was: there was nothing to pack" in told.err
    assert (json.loads(told.out)["file"], json.loads(told.out)["documents"]) == (None, [])
    late = ["--at", "2100-01-01T00:00:00Z"]
    assert cli.run([*command, str(tmp_path / "usb"), *late]) == 2
    left = f"{out} was left as it was: everything in there was left out: 3 certificate-expired, 1 collateral-"
    assert left in capsys.readouterr().err
    assert out.stat() == before
    out.unlink()
    assert cli.run(command) == 1
    assert "was not written: there was nothing to pack" in capsys.readouterr().err
    assert not out.exists()


def test_what_was_there_before_and_is_gone_is_strictly_a_failure(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    less = tmp_path / "less.cbor"
    less.write_bytes(encode_file(decode_file(packed.read_bytes())[1:]))
    code, data = status_of(less, capsys, "--previous", str(packed))
    assert (code, len(data["missing"])) == (0, 1)
    assert status_of(less, capsys, "--previous", str(packed), "--strict")[0] == 1
    assert status_of(packed, capsys, "--previous", str(less), "--strict")[0] == 0
