"""A policy that is proposed from evidence admits what was seen, permits nothing, and asks for the rest."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attestation import sev_snp
from attestation.claims import Genuine
from attestation.vendors import VENDOR_ROOTS
from console import cli
from console.evidence_files import Found
from console.policy.findings import findings
from console.policy.generator import Seen, proposal
from console.policy.pin_findings import SIZES
from console.policy.recorded import Recording
from console.policy.taking import Taken, remarks
from lab.setup import simulator
from lab.simulate import nitro
from lab.simulate import sev_snp as lab_snp
from schemas.errors import UsageError
from schemas.evidence import MAX_CLOUD, MEASURED, NITRO, PLATFORMS, SEV_SNP, TDX, Evidence
from schemas.evidence_policy import parse_for_evidence
from schemas.messages import MAX_NAME
from schemas.policy import Policy, parse
from tests.amd import amd_root
from tests.attestation.clouds import SIGNED_BY_VLEK, cloud_chain, ia5
from tests.attestation.vectors import EVIDENCE, folders, present
from tests.policy.policies import ISSUED
from tests.policy.test_policy_starter import filled

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def claims(platform: str, byte: str, chip: str = "", root: str = "") -> Genuine:
    return Genuine(
        platform=platform,
        root=root or VENDOR_ROOTS[platform][0],
        report_data=b"",
        measurements={name: byte * SIZES[platform][name] for name in MEASURED[platform]},
        tcb={},
        chip=chip,
    )


SEEN = (
    Seen("nitro/coordinator", claims(NITRO, "01", "i-0123456789abcdef0")),
    Seen("nitro/vault-1", claims(NITRO, "02", "i-0123456789abcdef1")),
    Seen("nitro/vault-2", claims(NITRO, "02", "i-0123456789abcdef2")),
    Seen("sev-snp/vault-3", claims(SEV_SNP, "03")),
)


def proposed(*seen: Seen, lab: bool = False) -> Policy:
    return parse(filled(proposal(seen, ["neg: it is broken"], issued=ISSUED, lab=lab)))


def test_what_was_seen_is_filled_in_by_platform_image_and_chip() -> None:
    policy = proposed(*SEEN)
    assert set(policy.platforms) == {NITRO, SEV_SNP}
    assert policy.coordinators[NITRO].chips == ("i-0123456789abcdef0",)
    assert set(policy.workloads) == {"vault"}
    vault = policy.workloads["vault"]
    assert vault.on[NITRO].chips == ("i-0123456789abcdef1", "i-0123456789abcdef2")
    assert set(vault.on) == {NITRO, SEV_SNP}
    assert vault.roles == ("vault",)


def test_a_td_that_measures_nothing_it_booted_is_pinned_with_a_word_of_care() -> None:
    zeros = {f"rtmr{number}": "00" * 48 for number in range(4)}
    bare = claims(TDX, "04")
    under_a_paravisor = replace(bare, measurements={**bare.measurements, **zeros})
    assert "CAREFUL" in proposal([Seen("vm", under_a_paravisor)], [], issued=ISSUED, lab=False)
    assert "CAREFUL" not in proposal([Seen("vm", bare)], [], issued=ISSUED, lab=False)


def test_a_clouds_key_is_accepted_of_the_clouds_that_were_seen_and_said_to_prove_no_chip() -> None:
    chip = "ab" * 64
    own = Seen("vault-1", replace(claims(SEV_SNP, "03", chip), key="vcek"))
    of_cloud = Seen("desk-1", replace(claims(SEV_SNP, "04", chip), key="vlek", cloud="one.example"))
    of_nobody = Seen("desk-2", replace(claims(SEV_SNP, "04", chip), key="vlek"))
    root = "aa" * 32
    for lab in (False, True):
        seen = [
            each._replace(claims=replace(each.claims, root=root)) if lab else each
            for each in (own, of_cloud, of_nobody)
        ]
        text = proposal(seen, [], issued=ISSUED, lab=lab)
        assert "every machine of its cloud" in text
        policy = proposed(*seen, lab=lab)
        values = policy.platforms[SEV_SNP]
        assert (values.keys, values.clouds) == (("vcek", "vlek"), ("one.example",))
        assert policy.workloads["vault"].on[SEV_SNP].chips == (chip,)
        assert policy.workloads["desk"].on[SEV_SNP].chips is None
        assert proposed(seen[0], lab=lab).platforms[SEV_SNP].clouds is None
        bare = proposed(seen[2], lab=lab).platforms[SEV_SNP]
        assert (bare.keys, bare.clouds) == (("vlek",), None)


def test_what_a_clouds_key_leaves_open_is_told() -> None:
    of_cloud = replace(claims(SEV_SNP, "04", "ab" * 64), key="vlek", cloud="one.example")
    found = Found(SEV_SNP, Evidence(sev_snp.MEDIA_TYPE, b""), {})
    said = " ".join(remarks([Taken(Recording("desk", found, NOW), of_cloud)]))
    assert "a VLEK signed, which proves none" in said
    assert "(one.example)" in said


def test_nobody_may_do_anything_until_a_person_says_so() -> None:
    policy = proposed(*SEEN)
    assert (policy.rules, policy.clients, policy.tools, policy.classes) == ((), {}, {}, {})
    assert {each.code for each in findings(policy, now=NOW)} == {"idle-role"}


def test_the_suggested_rules_are_a_policy_when_their_comments_go() -> None:
    text = filled(proposal(SEEN, [], issued=ISSUED, lab=False))
    head, suggested = text.split("# ---- Who may do what")
    body = "\n".join(line.removeprefix("# ") for line in suggested.splitlines()[1:] if line.startswith("# "))
    policy = parse(head + body.replace('"…"', f'"{"0d" * 32}"'))
    assert [(rule.role, rule.may, rule.what) for rule in policy.rules] == [("vault", "call", "look-up")]
    assert "schema-without-type" not in {each.code for each in findings(policy, now=NOW)}


def test_one_name_with_two_images_is_two_workloads_and_one_image_is_one() -> None:
    policy = proposed(SEEN[0], SEEN[1], Seen("nitro/vault-9", claims(NITRO, "09")))
    assert set(policy.workloads) == {"vault", "vault_2"}
    same = proposed(SEEN[0], SEEN[1], Seen("nitro/other", claims(NITRO, "02")))
    assert len(same.workloads) == 1


def test_a_coordinator_that_was_not_seen_is_asked_for() -> None:
    text = proposal(SEEN[1:], [], issued=ISSUED, lab=False)
    assert "pcr0 of the coordinator's image" in text
    with pytest.raises(UsageError, match="still to be filled in"):
        parse(text)


def test_a_labs_root_is_accepted_in_a_lab_only() -> None:
    own = tuple(Seen(each.name, claims(NITRO, "05", root="ee" * 32)) for each in SEEN[:1])
    assert not proposed(*own).platforms[NITRO].lab_roots
    assert proposed(*own, lab=True).platforms[NITRO].lab_roots == ("ee" * 32,)


def test_images_with_one_long_name_get_names_that_a_policy_takes() -> None:
    seen = [Seen("w" * 70, claims(NITRO, byte)) for byte in ("05", "06")]
    assert set(proposed(SEEN[0], *seen).workloads) == {"w" * MAX_NAME, "w" * (MAX_NAME - 2) + "_2"}


def test_a_name_that_was_cut_or_replaced_joins_no_images_of_two_platforms() -> None:
    one, other = f"{'w' * MAX_NAME}-api", f"{'w' * MAX_NAME}-vault"
    seen = [Seen(one, claims(NITRO, "05")), Seen(other, claims(TDX, "06"))]
    assert {name: set(each.on) for name, each in proposed(SEEN[0], *seen).workloads.items()} == {
        "w" * MAX_NAME: {NITRO},
        "w" * (MAX_NAME - 2) + "_2": {TDX},
    }
    seen = [Seen("工", claims(NITRO, "05")), Seen("人", claims(TDX, "06")), Seen("worker", claims(TDX, "07"))]
    assert {name: set(each.on) for name, each in proposed(SEEN[0], *seen).workloads.items()} == {
        "worker": {TDX},
        "worker_2": {TDX},
        "worker_3": {NITRO},
    }
    # The same name on two platforms is the same workload, as long as it may be.
    seen = [Seen(f"a/{one}-1", claims(NITRO, "05")), Seen(f"b/{one}-2", claims(TDX, "06"))]
    assert [set(each.on) for each in proposed(SEEN[0], *seen).workloads.values()] == [{NITRO, TDX}]


def test_what_becomes_the_coordinators_name_takes_it_from_nobody() -> None:
    policy = proposed(Seen("a/coordinator!", claims(NITRO, "05")), SEEN[0])
    assert set(policy.workloads) == {"coordinator_2"}


def test_names_of_folders_become_names_of_workloads() -> None:
    odd = Seen("x/Über Agent!-12", claims(NITRO, "05"))
    assert odd.workload == "ber-agent"
    assert Seen("x/---", claims(NITRO, "05")).workload == "worker"


def test_recorded_evidence_is_admitted_by_the_policy_that_was_proposed_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    now = datetime.now(UTC)
    card = simulator(NITRO, nitro.make_root(now), 1)
    for number, name in enumerate(("coordinator", "vault-1"), 1):
        measurements = {each: bytes([number]) * 48 for each in MEASURED[NITRO]}
        evidence, _ = card.evidence(measurements, bytes(64), bytes(32), now=now)
        folder = tmp_path / "seen" / name
        folder.mkdir(parents=True)
        (folder / "attestation.cbor").write_bytes(evidence.value)
    assert cli.run(["policy", "generate", "seen", "--lab", "--out", "policy.toml"]) == 0
    Path("policy.toml").write_text(filled(Path("policy.toml").read_text()))
    assert cli.run(["policy", "replay", "policy.toml", "seen"]) == 0
    assert "2 accepted, 0 refused" in capsys.readouterr().out


def under_a_vlek(folder: Path, *clouds: str) -> None:
    """Write evidence that the key of each of these clouds signed, in a folder of its number."""
    now = datetime.now(UTC)
    amd = amd_root(now)
    chip = lab_snp.SevSnpChip.from_files(amd, serial=1)
    body = bytearray(chip.body({"measurement": b"\1" * 48, "host_data": b"\2" * 32}, b"\3" * 64))
    for at, octets in SIGNED_BY_VLEK.items():
        body[at : at + len(octets)] = octets
    for number, cloud in enumerate(clouds, 1):
        (folder / str(number)).mkdir()
        chain = cloud_chain(amd, chip, born=now - timedelta(hours=2), csp_id=ia5(cloud))
        files = {**chip.endorsements, **chain, "report.bin": chip.sign(bytes(body))}
        for name in files.keys() - {"vcek.der"}:
            (folder / str(number) / name).write_bytes(files[name])


def test_a_cloud_with_a_name_too_long_for_a_policy_is_left_out_by_its_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longest, longer = "c" * MAX_CLOUD, "d" * (MAX_CLOUD + 1)
    under_a_vlek(tmp_path, longest, longer)
    policy = tmp_path / "policy.toml"
    code, said = generated(capsys, str(tmp_path), "--lab", "--out", str(policy))
    assert (code, "left out 1, too-large\n  2\n" in said) == (0, True)
    assert parse_for_evidence(policy.read_text()).platforms[SEV_SNP].clouds == (longest,)
    code, said = generated(capsys, str(tmp_path / "2"), "--lab")
    assert code == 1
    assert "names a cloud of 129 characters, and `clouds` of a policy takes 128 at most" in said


def test_more_than_a_policy_can_hold_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    under_a_vlek(tmp_path, "one.example")
    monkeypatch.setattr("console.policy.generate_command.MAX_TEXT", 1024)
    policy = tmp_path / "policy.toml"
    code, said = generated(capsys, str(tmp_path), "--lab", "--out", str(policy))
    assert (code, policy.exists()) == (2, False)
    assert "would have over 1 KiB, more than one may have: name fewer folders" in said


def recorded(folder: Path, *names: str) -> Path:
    """Link real evidence into a folder."""
    for name in names:
        source = EVIDENCE / name
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(present(source if source.exists() else None))
    return folder


def generated(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = cli.run(["policy", "generate", *arguments])
    return code, capsys.readouterr().err


def test_what_generate_takes_its_policy_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    present(folders(SEV_SNP)[0] if folders(SEV_SNP) else None)
    policy = tmp_path / "policy.toml"
    code, said = generated(capsys, str(EVIDENCE), "--out", str(policy))
    assert code == 0
    left_out = {line.strip() for line in said.splitlines() if line.startswith("  ")}
    accepted = 0
    for folder in folders(*PLATFORMS):
        name = f"{folder.parent.name}/{folder.name}"
        at = json.loads((folder / "meta.json").read_text())["valid_at"]
        verdict = cli.run(["evidence", "verify", str(folder), "--policy", str(policy), "--at", at, "--json"])
        assert (verdict == 0) == (name not in left_out), name
        accepted += verdict == 0
    assert accepted == 34
    counted = [int(line.split()[2].rstrip(",")) for line in said.splitlines() if line.startswith("left out")]
    assert sum(counted) + accepted == len(folders(*PLATFORMS, "sgx"))
    for weaker in ("require_crl is off: 17 of 17", "Milan is accepted, from the chips that were seen alone"):
        assert weaker in said
    assert all(len(line) <= 80 for line in said.splitlines())


def test_what_is_forged_or_of_a_foreign_root_is_left_out_and_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged, foreign = "tdx/neg-derived-v4-mrtd-flipped", "tdx/neg-derived-testroot-uptodate"
    folder = recorded(tmp_path / "seen", "tdx/v4-uptodate-b0c06f-phala", forged, foreign)
    code, said = generated(capsys, *map(str, sorted(folder.glob("*/*"))))
    assert code == 0
    assert f"left out 1, signature-invalid\n  {forged.rpartition('/')[2]}\n" in said
    assert "left out 1, root-not-in-policy (--lab takes" in said
    assert "require_crl" not in said
    # The other way round, a lab's policy has no manufacturer's root in it.
    out = tmp_path / "lab.toml"
    assert generated(capsys, *map(str, sorted(folder.glob("*/*"))), "--lab", "--out", str(out))[0] == 0
    platforms = parse_for_evidence(out.read_text()).platforms
    assert [(len(each.roots), len(each.lab_roots)) for each in platforms.values()] == [(0, 1)]


def test_evidence_that_has_aged_is_taken_for_its_image_and_said_to_be_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recorded(tmp_path, "nitro/base-2024-11") / "nitro" / "base-2024-11"
    late = ("--at", "2024-11-30T17:16:00Z")
    policy = tmp_path / "policy.toml"
    code, said = generated(capsys, str(folder), *late, "--out", str(policy))
    assert code == 0
    assert "1 older than max_evidence_seconds: the image is accepted, this evidence is not:" in said
    assert cli.run(["evidence", "verify", str(folder), "--policy", str(policy), *late]) == 1
    assert "[evidence-too-old]" in capsys.readouterr().out


def test_a_folder_that_can_not_be_read_is_left_out_of_the_proposal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recorded(tmp_path / "seen", "nitro/base-2024-11")
    (folder / "broken").mkdir()
    (folder / "broken" / "quote.bin").mkdir()
    code, said = generated(capsys, str(folder / "broken"), str(folder / "nitro" / "base-2024-11"))
    assert code == 0
    assert "left out 1, unreadable\n  broken\n" in said


def test_where_all_is_refused_that_is_exit_1_and_each_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "neg-derived-v4-mrtd-flipped"
    forged = recorded(tmp_path / "seen", f"tdx/{name}") / "tdx" / name
    out = tmp_path / "policy.toml"
    code, said = generated(capsys, str(forged), "--out", str(out))
    assert (code, out.exists(), said.count(name)) == (1, False, 1)
    assert "[signature-invalid]\nnothing in there can be admitted, so no policy was written" in said


def test_a_folder_that_is_named_twice_is_one_enclave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    below = recorded(tmp_path / "seen", "nitro/base-2024-11") / "nitro" / "base-2024-11"
    out = tmp_path / "policy.toml"
    again = below.parent / ".." / "nitro" / below.name
    assert generated(capsys, str(below), str(again), "--out", str(out))[0] == 0
    assert out.read_text().count("# seen as base-2024-11\n") == 1


def test_nothing_to_go_by_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "attestation.cbor").write_bytes(b"\x00")
    assert cli.run(["policy", "generate", str(tmp_path)]) == 2
    assert "nothing in there can be admitted" in capsys.readouterr().err
