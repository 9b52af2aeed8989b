"""`sealbus policy` from nothing to a signed policy, with its exit codes; and what it refuses on the way."""

import json
import os
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from console import cli
from console.documents import open_signed_policy
from console.policy import files
from lab.simulate import nitro
from lab.simulate.nitro import NitroCard
from schemas.evidence import NITRO, SEV_SNP, PlatformValues, Publisher
from schemas.pinning import Pinned
from schemas.policy import Client, Policy, Workload, dump, parse
from schemas.vendor_roots import AMD_ROOTS, VENDOR_ROOTS
from sealing import keyfile
from sealing.documents import open_anchor
from tests.policy.policies import POLICY, but
from tests.policy.test_policy_starter import filled

PHRASE = "correct horse battery"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `sealbus policy ...` in a folder of its own; return exit code and all that it said."""
    monkeypatch.chdir(tmp_path)
    # What guessing costs is not what these tests are about.
    monkeypatch.setattr(keyfile.lock, "__kwdefaults__", {"operations": 1, "memory": 8192})
    Path("phrase").write_text(f"{PHRASE}\n")

    def command(*arguments: str) -> tuple[int, str]:
        code = cli.run(["policy", *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    return command


@pytest.fixture
def mesh(run: Run) -> Run:
    """Three operators, two of whom sign, and a policy that is filled in."""
    for name in ("alice", "bob", "carol"):
        assert run("keygen", name, "--passphrase-file", "phrase")[0] == 0
    assert run("anchor", "alice.pub", "bob.pub", "carol.pub")[0] == 0
    assert run("new", "--anchor", "anchor.cbor", "--out", "policy.toml")[0] == 0
    Path("policy.toml").write_text(filled(Path("policy.toml").read_text()))
    return run


def sign(run: Run, name: str, file: str = "policy.toml", *more: str) -> tuple[int, str]:
    return run("sign", file, "--key", f"{name}.key", "--passphrase-file", "phrase", *more)


def test_from_nothing_to_a_policy_that_a_coordinator_takes(mesh: Run) -> None:
    assert mesh("check", "policy.toml") == (0, "policy.toml: nothing is amiss\n")
    code, said = sign(mesh, "carol")
    assert code == 0
    assert "not in force: 1 of 2 signatures, one more signature to go" in said
    assert mesh("show", "policy.toml")[0] == 1
    assert "complete: 2 of 2" in sign(mesh, "alice")[1]
    code, said = mesh("show", "policy.toml", "--json")
    shown = json.loads(said)
    assert (code, shown["signed"], shown["not_signed"]) == (0, ["alice", "carol"], ["bob"])
    anchor, opened = open_anchor(Path("anchor.cbor").read_bytes())
    verified = open_signed_policy(anchor, opened, Path("policy.toml.signed").read_bytes())
    assert verified.policy == parse(Path("policy.toml").read_text())
    assert verified.policy_hash.hex() == shown["hash"]


def test_a_bound_without_a_type_is_told_with_line_and_column(run: Run) -> None:
    line = 'arguments = { type = "object", properties = { limit = { maximum = 10 } } }'
    text = dump(but(rules=())).replace("rules = []\n", "")
    text += f'\n[[rules]]\nrole = "planner"\nmay = "call"\nwhat = "pseudonym"\n{line}\n'
    Path("policy.toml").write_text(text)
    code, said = run("check", "policy.toml", "--json")
    (found,) = [each for each in json.loads(said)["findings"] if each["code"] == "schema-without-type"]
    assert code == 1
    assert text.splitlines()[found["line"] - 1] == line
    assert line[found["column"] - 1 :].startswith("maximum")


def test_the_next_version_is_led_to_its_predecessor(mesh: Run) -> None:
    sign(mesh, "alice")
    sign(mesh, "bob")
    text = Path("policy.toml").read_text()
    Path("next.toml").write_text(text.replace("version = 1 ", "version = 2 "))
    code, said = mesh("check", "next.toml", "--previous", "policy.toml.signed")
    assert code == 1
    line = next(word for word in said.splitlines() if "set predecessor" in word)
    wanted = line.partition("set ")[2].partition(" [")[0]
    assert sign(mesh, "alice", "next.toml", "--previous", "policy.toml.signed")[0] == 2
    Path("next.toml").write_text(f"{wanted}\n{Path('next.toml').read_text()}")
    assert mesh("check", "next.toml", "--previous", "policy.toml.signed")[0] == 0
    assert sign(mesh, "alice", "next.toml", "--previous", "policy.toml.signed")[0] == 0


def test_signatures_made_apart_are_joined(mesh: Run) -> None:
    sign(mesh, "alice")
    Path("policy.toml.signed").rename("from-alice.signed")
    sign(mesh, "bob")
    code, said = mesh("join", "policy.toml", "from-alice.signed")
    assert code == 0
    assert "complete" in said


def test_joining_names_who_signed_another_text_than_the_own_file(mesh: Run) -> None:
    mine = Path("policy.toml").read_text()
    Path("policy.toml").write_text(mine.replace("per_minute = 60", "per_minute = 61"))
    sign(mesh, "alice")
    Path("policy.toml.signed").rename("from-alice.signed")
    Path("policy.toml").write_text(mine)
    for held in (False, True):
        if held:
            sign(mesh, "bob")
        code, said = mesh("join", "policy.toml", "from-alice.signed")
        assert code == 1
        assert "from-alice.signed is not joined" in said
        assert "alice signed another text of the policy, one of version 1" in said
        assert Path("policy.toml.signed").exists() is held


def test_a_policy_that_changes_after_a_signature_is_not_signed_under_it(mesh: Run) -> None:
    sign(mesh, "alice")
    before = Path("policy.toml.signed").read_bytes()
    changed = Path("policy.toml").read_text().replace("per_minute = 60", "per_minute = 61")
    Path("policy.toml").write_text(changed)
    code, said = sign(mesh, "bob")
    assert code == 1
    assert "alice signed another text of the policy, one of version 1; put policy.toml back" in said
    assert "or remove policy.toml.signed and have everybody sign anew" in said
    assert Path("policy.toml.signed").read_bytes() == before
    code, said = mesh("show", "policy.toml")
    assert code == 2
    assert "was changed since it was signed" in said


def test_a_mark_that_an_editor_puts_before_a_passphrase_is_no_part_of_it(mesh: Run) -> None:
    Path("marked").write_bytes(b"\xef\xbb\xbf" + Path("phrase").read_bytes())
    code, said = mesh("sign", "policy.toml", "--key", "alice.key", "--passphrase-file", "marked")
    assert code == 0, said


def test_a_wrong_passphrase_and_a_key_of_nobody_sign_nothing(mesh: Run) -> None:
    Path("phrase").write_text("not the right one\n")
    code, said = sign(mesh, "alice")
    assert code == 2
    assert "the passphrase does not open the key of alice" in said
    mesh("keygen", "mallory", "--passphrase-file", "phrase")
    code, said = sign(mesh, "mallory")
    assert code == 2
    assert "mallory.key is of mallory, with a key that is none of this mesh's operators'" in said
    assert not Path("policy.toml.signed").exists()


def test_keys_are_private_and_never_overwritten(mesh: Run) -> None:
    assert Path("alice.key").stat().st_mode & 0o777 == 0o600
    before = Path("alice.key").read_bytes()
    code, said = mesh("keygen", "alice", "--passphrase-file", "phrase")
    assert code == 2
    assert "exists already" in said
    assert Path("alice.key").read_bytes() == before
    code, said = mesh("anchor", "alice.pub", "bob.pub")
    assert code == 2
    assert "exists already" in said


def test_what_can_not_name_an_operator_is_refused(run: Run) -> None:
    code, said = run("keygen", "A/../b", "--passphrase-file", "phrase")
    assert code == 2
    assert "can't name an operator" in said


def test_half_of_the_operators_are_too_few(mesh: Run) -> None:
    code, said = mesh("anchor", "alice.pub", "bob.pub", "--threshold", "1", "--out", "other.cbor")
    assert code == 2
    assert "it has to be more than half" in said
    assert not Path("other.cbor").exists()


def test_a_starter_is_checked_by_naming_its_gaps_with_their_lines(run: Run) -> None:
    code, text = run("new", "--platform", "nitro")
    assert code == 0
    Path("policy.toml").write_text(text)
    code, said = run("check", "policy.toml")
    gaps = text.count("FILL IN: ")
    assert code == 1
    assert said.splitlines()[-1] == f"policy.toml: {gaps} findings"
    for number, line in enumerate(text.splitlines(), 1):
        if "FILL IN: " in line:
            assert f"policy.toml:{number}:1: " in said
    shown = json.loads(run("check", "policy.toml", "--json")[1])
    assert {each["code"] for each in shown["findings"]} == {"fill-in"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("versoin = 1\n", "line 1, column 1"),
        ("version 1\n", "not TOML"),
        ("\udcff", "not UTF-8"),
    ],
    ids=["misspelt", "no TOML", "no text"],
)
@pytest.mark.parametrize("command", ["check", "replay", "diff"])
def test_what_is_no_policy_is_unreadable(run: Run, command: str, text: str, said: str) -> None:
    Path("bad.toml").write_bytes(text.encode(errors="surrogateescape"))
    Path("good.toml").write_text(dump(POLICY))
    more = {"check": (), "replay": (".",), "diff": ("good.toml",)}[command]
    code, told = run(command, "bad.toml", *more)
    assert code == 2
    assert said in told


def test_signatures_in_the_place_of_a_policy_are_told_apart(run: Run) -> None:
    Path("good.toml").write_text(dump(POLICY))
    Path("good.toml.signed").write_bytes(b"\x82\x80\xff")
    code, said = run("diff", "good.toml.signed", "good.toml")
    assert (code, "holds signatures: name the policy's text, good.toml" in said) == (2, True), said


def test_of_two_policies_the_bad_one_is_named(run: Run) -> None:
    Path("good.toml").write_text(dump(POLICY))
    Path("bad.toml").write_text(dump(POLICY).replace("survey", "Survey", 1))
    code, said = run("diff", "good.toml", "bad.toml")
    assert code == 2
    assert "the policy bad.toml is not valid: line " in said


def test_a_passphrase_is_asked_for_twice_and_never_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool, bool]] = []

    def prompt(text: str, *, hide_input: bool, confirmation_prompt: bool, err: bool) -> str:
        asked.append((text, hide_input, confirmation_prompt))
        return PHRASE

    monkeypatch.setattr("click.prompt", prompt)
    code, said = run("keygen", "alice")
    assert (code, asked) == (0, [("a passphrase for alice.key", True, True)])
    assert PHRASE not in said
    assert (
        keyfile.unlock(Path("alice.key").read_bytes(), PHRASE).public.hex() in Path("alice.pub").read_text()
    )


def test_without_anybody_to_type_a_passphrase_the_option_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(text: str) -> str:
        raise EOFError

    monkeypatch.setattr("click.termui.hidden_prompt_func", ended)
    code, said = run("keygen", "alice")
    assert (code, "--passphrase-file" in said, Path("alice.pub").exists()) == (2, True, False)


NOBODYS_KEY = "01" + "00" * 31  # of order one: anything would be its signature


def test_a_key_that_nobody_can_have_makes_no_anchor_and_is_told_of_a_client(mesh: Run) -> None:
    Path("eve.pub").write_text(f"sealbus-operator-1 eve {NOBODYS_KEY}\n")
    code, said = mesh("anchor", "alice.pub", "bob.pub", "eve.pub", "--out", "other.cbor")
    assert (code, "eve.pub holds a key that nobody can have" in said) == (2, True)
    Path("policy.toml").write_text(dump(but(clients={"desk": Client(key=NOBODYS_KEY, roles=("requester",))})))
    Path("anchor.cbor").unlink()
    code, said = mesh("check", "policy.toml")
    assert (code, "nobody can have the key of client desk" in said, "[no-key]" in said) == (1, True, True)


def test_a_root_that_is_none_makes_no_anchor(mesh: Run) -> None:
    code, said = mesh("anchor", "alice.pub", "--root", "zz", "--out", "other.cbor")
    assert (code, "--root zz: a root is its SHA-256" in said) == (2, True)


def test_a_dash_is_standard_output(run: Run) -> None:
    code, said = run("new", "--out", "-")
    assert (code, said.startswith("#"), Path("-").exists()) == (0, True, False)


def test_what_is_not_there_is_told(run: Run) -> None:
    assert run("check", "nowhere.toml")[0] == 2
    Path("good.toml").write_text(dump(POLICY))
    code, said = run("show", "good.toml")
    assert code == 2
    assert "--anchor" in said


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 100, b"mesh = 1"], ids=range(4))
def test_damaged_anchors_signatures_and_keys_are_told_by_their_file(mesh: Run, data: bytes) -> None:
    whole = {name: Path(name).read_bytes() for name in ("anchor.cbor", "alice.key", "alice.pub")}
    for name, arguments in {
        "anchor.cbor": ("show", "policy.toml"),
        "policy.toml.signed": ("show", "policy.toml"),
        "alice.pub": ("anchor", "alice.pub", "bob.pub", "--out", "x.cbor"),
        "alice.key": ("sign", "policy.toml", "--key", "alice.key", "--passphrase-file", "phrase"),
    }.items():
        Path(name).write_bytes(data)
        code, said = mesh(*arguments)
        assert code == 2, said
        assert name in said
        Path(name).write_bytes(whole[name]) if name in whole else Path(name).unlink()


def test_a_name_in_a_policy_can_not_forge_a_line_of_what_is_said_of_it(run: Run) -> None:
    forged = "X\nnewly forbidden: everything\x1b[2J\u202e"
    values = {NITRO: replace(POLICY.platforms[NITRO], advisories=(forged,))}
    Path("old.toml").write_text(dump(POLICY))
    Path("new.toml").write_text(dump(replace(POLICY, platforms=values)))
    code, said = run("diff", "old.toml", "new.toml")
    assert code == 1
    assert len(said.splitlines()) == 1
    assert "X\\nnewly forbidden: everything\\x1b[2J\\u202e" in said
    Path("bad.toml").write_text('"a\\u001b[2J" = 1\n')
    code, said = run("check", "bad.toml")
    assert code == 2
    assert "\x1b" not in said


def test_a_comment_that_reads_otherwise_than_it_is_written_is_a_finding(run: Run) -> None:
    text = dump(POLICY) + "# fine \u202e sdrawkcab\n"
    Path("policy.toml").write_text(text)
    code, said = run("check", "policy.toml")
    assert code == 1
    assert f"policy.toml:{text.count(chr(10))}:8: a reader can't see U+202E here" in said


def test_a_file_that_is_too_large_is_not_read(run: Run) -> None:
    Path("large.toml").write_bytes(b"#" * (files.MAX_POLICY + 1))
    code, said = run("check", "large.toml")
    assert code == 2
    assert "check which file it is" in said


def test_the_schema_is_printed(run: Run) -> None:
    code, said = run("schema")
    assert code == 0
    assert json.loads(said)["title"] == "sealbus policy"


def test_a_difference_is_said_and_its_absence_too(run: Run) -> None:
    Path("old.toml").write_text(dump(POLICY))
    Path("new.toml").write_text(dump(but(rules=POLICY.rules[:1], version=2)))
    assert run("diff", "old.toml", "old.toml") == (0, "the two permit, forbid and demand the same\n")
    code, said = run("diff", "old.toml", "new.toml")
    assert code == 1
    assert "newly forbidden: planner may call the tool pseudonym at vault" in said
    assert json.loads(run("diff", "old.toml", "new.toml", "--json")[1])["permitted"] == []


def published(key: str, host_data: str) -> Workload:
    pinned = Pinned(
        measurements={"host_data": host_data * 32}, publisher=Publisher(key=key * 48, minimum_svn=1)
    )
    return Workload(roles=("vault",), on={SEV_SNP: pinned})


def test_two_publishers_of_one_report_are_told_and_of_two_are_not(run: Run) -> None:
    platforms = {**POLICY.platforms, SEV_SNP: PlatformValues(roots=(AMD_ROOTS["Genoa"],))}
    more = {"auditor": published("0a", "02"), "clerk": published("0b", "03")}
    text = dump(but(platforms=platforms, workloads={**POLICY.workloads, **more}))
    Path("policy.toml").write_text(text)
    assert "may match" not in run("check", "policy.toml")[1]
    Path("policy.toml").write_text(text.replace("03" * 32, "02" * 32))
    code, said = run("check", "policy.toml")
    assert code == 2
    assert "workloads.clerk.on.sev-snp: evidence may match workloads.auditor too" in said
    assert "id_key_digest" in said


# Against recorded evidence: of simulated cards, as `sealbus lab evidence` writes it out.

RECORDED = datetime(2026, 11, 20, 12, tzinfo=UTC)
IMAGES = {"planner": b"\x01" * 48, "vault": b"\x02" * 48}


@pytest.fixture(scope="module")
def card() -> NitroCard:
    return NitroCard.from_files(nitro.make_root(RECORDED - timedelta(days=3)), serial=1)


@pytest.fixture
def lab(run: Run, card: NitroCard) -> Policy:
    """A lab's policy in old.toml, and evidence of its workloads in evidence/."""
    policy = but(platforms={NITRO: PlatformValues(lab_roots=(card.root,))})
    Path("old.toml").write_text(dump(policy))
    for name, image in IMAGES.items():
        folder = Path("evidence", name)
        folder.mkdir(parents=True)
        pcrs = dict.fromkeys(("pcr0", "pcr1", "pcr2"), image)
        minted, _ = card.evidence(pcrs, bytes(64), bytes(32), now=RECORDED)
        (folder / "attestation.cbor").write_bytes(minted.value)
        (folder / "meta.json").write_text(json.dumps({"valid_at": RECORDED.isoformat(), "more": 1}))
    return policy


def test_recorded_evidence_is_judged_as_of_its_time(lab: Policy, run: Run) -> None:
    code, said = run("replay", "old.toml", "evidence")
    assert code == 0
    assert "2 accepted, 0 refused" in said
    code, said = run("replay", "old.toml", "evidence", "--at", "2026-11-20T13:00:00Z", "--json")
    shown = json.loads(said)
    assert (code, shown["refused"]) == (1, 2)
    assert [each["evidence"] for each in shown["evidence"]] == ["planner", "vault"]
    assert all("evidence-too-old" in each["reasons"] for each in shown["evidence"])


def test_a_replay_fits_80_columns_whatever_the_names(
    lab: Policy, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    Path("evidence", "vault").rename(Path("evidence", "vault-of-the-department-with-the-longest-name-" * 3))
    code, said = run("replay", "old.toml", "evidence")
    assert code == 0
    assert [line for line in said.splitlines() if len(line) > 80] == []
    assert "vault on nitro" in said


def test_recorded_evidence_that_cannot_be_read_is_told_apart_from_a_refusal(lab: Policy, run: Run) -> None:
    vault = Path("evidence", "vault", "attestation.cbor")
    vault.write_bytes(vault.read_bytes()[:100])
    code, said = run("replay", "old.toml", "evidence")
    assert code == 2
    assert "1 accepted, 0 refused, 1 can't be read" in said
    code, said = run("replay", "old.toml", "evidence", "--json")
    shown = json.loads(said)
    assert (code, shown["refused"], shown["unreadable"]) == (2, 0, 1)
    assert [each["verdict"] for each in shown["evidence"]] == ["accepted", "unreadable"]
    assert shown["evidence"][1]["reasons"] == ["malformed"]
    assert shown["evidence"][1]["explanations"][0].startswith("The bytes are not what they claim to be")


def test_recorded_evidence_of_a_platform_that_is_not_judged_is_refused_under_its_name(
    lab: Policy, run: Run
) -> None:
    quote = bytearray(bytes(48))
    quote[0] = 3
    vault = Path("evidence", "vault")
    (vault / "attestation.cbor").unlink()
    (vault / "quote.bin").write_bytes(quote)
    code, said = run("replay", "old.toml", "evidence", "--json")
    recorded = json.loads(said)["evidence"][1]
    assert (code, recorded["platform"], recorded["verdict"]) == (1, "sgx", "refused")
    assert recorded["reasons"] == ["unsupported-platform"]
    assert "an SGX quote, not a TDX one" in recorded["explanations"][0]
    code, said = run("replay", "old.toml", "evidence")
    assert (code, "on sgx" in said, "unsupported-platform" in said) == (1, True, True)


def test_a_refusal_by_the_new_policy_is_in_the_table(lab: Policy, run: Run) -> None:
    on = {NITRO: Pinned(measurements=dict.fromkeys(("pcr0", "pcr1", "pcr2"), "ff" * 48))}
    vault = Workload(roles=("vault",), on=on)
    Path("new.toml").write_text(dump(replace(lab, workloads={**lab.workloads, "vault": vault})))
    code, said = run("replay", "new.toml", "evidence")
    assert code == 1
    assert "1 accepted, 1 refused" in said
    code, said = run("diff", "old.toml", "new.toml", "--evidence", "evidence")
    assert code == 1
    assert "planner, planner on nitro: stays" in said
    assert "vault, vault on nitro: would be evicted" in said


def test_the_part_that_judges_evidence_is_enough_to_judge_evidence(lab: Policy, run: Run) -> None:
    text = Path("old.toml").read_text()
    kept = ("platforms", "workloads")
    part = {name: table for name, table in tomllib.loads(text).items() if name in kept}
    Path("part.toml").write_bytes(msgspec.toml.encode(part))
    assert run("replay", "part.toml", "evidence")[0] == 0
    code, said = run("check", "part.toml", "--evidence", "evidence")
    assert code == 1
    for name in ("mesh", "version", "issued", "coordinators"):
        assert f"part.toml:1:1: {name} is not there" in said
    # A lab's roots are a finding of their own.
    assert "[unsafe-switch]" in said
    assert "complete" not in said
    vendors = {NITRO: {"roots": VENDOR_ROOTS[NITRO]}}
    Path("vendors.toml").write_bytes(msgspec.toml.encode({**part, "platforms": vendors}))
    assert "what judges evidence is complete" in run("check", "vendors.toml")[1]
    # What it gets wrong about evidence is told by file, line and column, mesh or no mesh.
    Path("part.toml").write_text(Path("part.toml").read_text().replace("lab_roots", "lab_root"))
    for command in ("check", "replay"):
        code, said = run(command, "part.toml", *(["evidence"] if command == "replay" else []))
        assert code == 2
        assert "part.toml is not valid: line" in said
        assert "did you mean `lab_roots`" in said


PART = f"""[platforms.sev-snp]
roots = ["{AMD_ROOTS["Milan"]}"]
features = ["alias-chek"]
highest_vmpl = 3
exceptions = [{{ accept = "milan-vcek-extractable", until = 2025-01-31T00:00:00Z }}]
[platforms.sev-snp.products.Geona]
[platforms.sev-snp.products.Milan]
any_chip = true
"""
FOUND = {"unknown-name", "unsafe-switch", "expired-exception", "unused-platform"}


def test_a_policy_of_another_mesh_than_the_anchor_is_told_by_check(mesh: Run) -> None:
    (line,) = [each for each in Path("policy.toml").read_text().splitlines() if each.startswith("mesh = ")]
    line = line.split("#")[0].strip()
    Path("elsewhere").mkdir()
    for place in (Path("other.toml"), Path("elsewhere", "other.toml")):
        text = Path("policy.toml").read_text()
        place.write_text(text.replace(line, f'mesh = "{"00" * 32}"'))
        code, said = mesh("check", str(place), "--anchor", "anchor.cbor")
        assert (code, f"so nobody can sign this: set {line}" in said, "[other-mesh]" in said) == (
            1,
            True,
            True,
        )
    code, said = mesh("check", "other.toml")
    assert (code, "[other-mesh]" in said) == (1, True)
    code, said = mesh("check", str(Path("elsewhere", "other.toml")))
    assert "other-mesh" not in said


@pytest.mark.parametrize("around", ["", 'mesh = "FILL IN: the mesh"\n'], ids=["alone", "of a whole one"])
def test_what_judges_evidence_is_checked_before_there_is_a_mesh(run: Run, around: str) -> None:
    Path("part.toml").write_text(around + PART)
    code, said = run("check", "part.toml", "--json")
    assert code == 1
    assert {each["code"] for each in json.loads(said)["findings"]} - {"fill-in", "needed-for-a-mesh"} == FOUND
    assert "complete" not in run("check", "part.toml")[1]


def test_a_platform_whose_coordinator_is_to_be_filled_in_is_used(run: Run) -> None:
    tables = '[coordinators.nitro.measurements]\npcr0 = "FILL IN: pcr0"\n[workloads]\n'
    Path("part.toml").write_text(f'[platforms.nitro]\nroots = ["{VENDOR_ROOTS[NITRO][0]}"]\n{tables}')
    assert "[unused-platform]" not in run("check", "part.toml")[1]


def test_who_has_to_prove_again_is_told(lab: Policy, run: Run) -> None:
    stricter = {NITRO: replace(lab.platforms[NITRO], max_evidence_seconds=60)}
    Path("new.toml").write_text(dump(replace(lab, platforms=stricter)))
    code, said = run("diff", "old.toml", "new.toml", "--evidence", "evidence", "--json")
    assert code == 1
    assert {each["verdict"] for each in json.loads(said)["running"]} == {"must-prove"}


def test_demands_that_exclude_what_runs_are_findings(lab: Policy, run: Run) -> None:
    assert "[unsafe-switch]" in run("check", "old.toml", "--evidence", "evidence")[1]
    floored = {NITRO: replace(lab.platforms[NITRO], minimum_tcb={"nsm": 3})}
    Path("new.toml").write_text(dump(replace(lab, platforms=floored)))
    code, said = run("check", "new.toml", "--evidence", "evidence")
    assert code == 1
    assert "vault would be excluded: nsm not stated; wanted is at least 3 (tcb-not-accepted)" in said
    assert said.count("[evidence-excluded]") == 2


def test_evidence_that_is_forged_is_refused_and_what_is_none_is_unreadable(lab: Policy, run: Run) -> None:
    file = Path("evidence", "vault", "attestation.cbor")
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes((data[-1] ^ 1,)))
    code, said = run("replay", "old.toml", "evidence", "--json")
    assert code == 1
    assert [each["verdict"] for each in json.loads(said)["evidence"]] == ["accepted", "refused"]
    Path("empty").mkdir()
    code, said = run("replay", "old.toml", "empty")
    assert code == 2
    assert "there is no evidence in there" in said


@pytest.mark.parametrize(
    "meta",
    [
        "{",
        '{"valid_at": "noon"}',
        '{"valid_at": "2026-11-20T12:00:00"}',
        '{"valid_at": "2026-W47-5T12:00:00Z"}',
        '{"valid_at": "0001-01-01T00:00:00+14:00"}',
        "[1]",
    ],
)
def test_a_note_that_can_not_be_read_is_told_by_its_file(lab: Policy, run: Run, meta: str) -> None:
    Path("evidence", "vault", "meta.json").write_text(meta)
    code, said = run("replay", "old.toml", "evidence")
    assert code == 2
    assert "meta.json" in said


@pytest.fixture
def at_the_end(lab: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence in evidence/last/ that whoever made it signed in the last hours that have a date."""
    end = datetime.max.replace(tzinfo=UTC, microsecond=0)
    start = end - timedelta(hours=2)
    life = end - start + nitro.BACKDATED
    monkeypatch.setattr(nitro, "ROOT_LIFETIME", end - start + timedelta(days=1))
    monkeypatch.setattr(nitro, "_AUTHORITIES", tuple((*each[:2], life) for each in nitro._AUTHORITIES))
    monkeypatch.setattr(nitro, "LEAF_LIFETIME", life)
    last = NitroCard.from_files(nitro.make_root(start), serial=1)
    pcrs = dict.fromkeys(("pcr0", "pcr1", "pcr2"), IMAGES["vault"])
    fields = last.fields(pcrs, bytes(64), bytes(32), now=start)
    fields["timestamp"] = int(end.timestamp() * 1000)
    folder = Path("evidence", "last")
    folder.mkdir()
    (folder / "attestation.cbor").write_bytes(last.sign(fields))
    (folder / "meta.json").write_text('{"valid_at": "9999-12-31T23:59:30Z"}')


@pytest.mark.usefixtures("at_the_end")
def test_evidence_of_the_end_of_time_keeps_nobody_from_the_rest(run: Run) -> None:
    code, said = run("replay", "old.toml", "evidence", "--json")
    assert code == 1
    assert [
        (each["evidence"], each["verdict"], each["reasons"]) for each in json.loads(said)["evidence"]
    ] == [
        ("last", "refused", ["root-not-in-policy"]),
        ("planner", "accepted", []),
        ("vault", "accepted", []),
    ]
    code, said = run("check", "old.toml", "--evidence", "evidence")
    assert (code, "Traceback" in said, "Overflow" in said) == (1, False, False)


def test_a_folder_that_can_not_be_read_keeps_nobody_from_the_rest(lab: Policy, run: Run) -> None:
    odd = Path("evidence", "\x1b[31mred")
    odd.mkdir()
    (odd / "report.bin").symlink_to("nowhere")
    os.mkfifo(Path("evidence", "vault", "meta.json.fifo"))
    Path("evidence", "vault", "meta.json").unlink()
    Path("evidence", "vault", "meta.json.fifo").rename(Path("evidence", "vault", "meta.json"))
    code, said = run("replay", "old.toml", "evidence", "--json")
    shown = json.loads(said)
    assert (code, shown["refused"], shown["unreadable"]) == (2, 0, 2)
    assert [(each["evidence"], each["verdict"]) for each in shown["evidence"]] == [
        ("planner", "accepted"),
        ("\x1b[31mred", "unreadable"),
        ("vault", "unreadable"),
    ]
    assert "report.bin" in shown["evidence"][1]["explanations"][0]
    code, said = run("replay", "old.toml", "evidence")
    assert (code, "1 accepted, 0 refused, 2 can't be read" in said, "\x1b" in said) == (2, True, False)
    # Whoever is told of findings or of evictions should not take what was not judged for good.
    assert run("check", "old.toml", "--evidence", "evidence")[0] == 2
    assert run("diff", "old.toml", "old.toml", "--evidence", "evidence")[0] == 2


def test_a_folder_that_nobody_may_open_is_told(
    lab: Policy, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "vault":
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code, said = run("replay", "old.toml", "evidence", "--json")
    shown = json.loads(said)
    assert (code, [each["verdict"] for each in shown["evidence"]]) == (2, ["accepted", "unreadable"])
    assert shown["evidence"][1]["explanations"] == ["cannot read evidence/vault: Permission denied"]
