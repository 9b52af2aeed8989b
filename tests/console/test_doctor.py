"""`sealbus doctor`: what it says of a machine, and the exit codes that its help promises."""

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from attestation import AttesterError
from attestation.attesters.detect import Detected, Interface
from attestation.endorsements.sort import Unfit, sort
from console import cli, laptop
from console.doctor import Diagnosis, diagnose, plain, show
from console.laptop import Check, look
from console.policy.files import read_reference_values
from lab.simulate import certificates
from lab.simulate.sev_snp import SevSnpChip
from schemas.collateral import CollateralEntry
from schemas.errors import Reason, UsageError
from schemas.evidence import (
    SEV_SNP,
    Endorsements,
    Evidence,
    PlatformValues,
    ReferenceValues,
    WorkloadValues,
)
from tests.amd import amd_root

NOW = datetime.now(UTC)
MEASUREMENTS = {"measurement": b"\x11" * 48, "host_data": b"\x22" * 32}
FINE = (Check("python", True, True, "3.11"), Check("docker", False, False, "not there"))
MISSING = (Check("nats-server", False, True, "pip install 'sealbus[lab]'"),)


class Tee:
    """A machine with a simulated chip, or one whose device fails."""

    def __init__(
        self, chip: SevSnpChip, *, debug: bool = False, failure: AttesterError | None = None
    ) -> None:
        self.chip = chip
        self.debug = debug
        self.failure = failure
        self.asked: list[bytes] = []
        self.endorsements: Endorsements = dict(chip.endorsements)

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        self.asked.append(key_binding)
        if self.failure is not None:
            raise self.failure
        body = self.chip.body(MEASUREMENTS, key_binding, debug=self.debug)
        return Evidence("application/vnd.sealbus.sev-snp-report", self.chip.sign(body)), self.endorsements


@pytest.fixture(scope="module")
def chip() -> SevSnpChip:
    return SevSnpChip.from_files(amd_root(NOW - timedelta(days=2)), serial=1)


def detected(tee: Tee | None) -> Detected:
    interface = Interface("configfs-tsm", Path("/x"), found=bool(tee), usable=bool(tee), why="[why] of it")
    if tee is None:
        return Detected((interface,), None, None, None)
    return Detected((interface,), SEV_SNP, interface, lambda: tee)


def policy_of(chip: SevSnpChip, measurement: bytes = MEASUREMENTS["measurement"]) -> ReferenceValues:
    values = WorkloadValues(
        workload="vault",
        platform=SEV_SNP,
        measurements={"measurement": measurement.hex(), "host_data": MEASUREMENTS["host_data"].hex()},
    )
    return ReferenceValues(platforms={SEV_SNP: lab_platform(chip)}, workloads=(values,))


def lab_platform(chip: SevSnpChip) -> PlatformValues:
    return PlatformValues(lab_roots=(chip.root,))


def shown(found: Diagnosis) -> str:
    text = StringIO()
    show(Console(file=text, width=120, highlight=False), found)
    return text.getvalue()


def reasons(found: Diagnosis) -> list[str]:
    assert found.verdict is not None
    listed: list[str] = found.verdict.plain(SEV_SNP)["reasons"]
    return listed


def test_a_tee_whose_evidence_the_policy_names_is_accepted(chip: SevSnpChip) -> None:
    found = diagnose(detected(Tee(chip)), policy_of(chip), None, MISSING)
    # A part of a mesh needs no broker of its own.
    assert found.fine
    text = shown(found)
    assert "accepted: this machine's sev-snp evidence, genuine" in text
    assert "workload: vault" in text
    assert MEASUREMENTS["measurement"].hex() in text


def test_each_attempt_is_over_fresh_random_data(chip: SevSnpChip) -> None:
    tee = Tee(chip)
    for _ in range(2):
        diagnose(detected(tee), None, None, FINE)
    first, second = tee.asked
    assert first != second
    assert len(first) == 64


def test_evidence_of_another_moment_is_refused(chip: SevSnpChip) -> None:
    class Replaying(Tee):
        async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
            return await super().evidence(bytes(64), challenge)

    found = diagnose(detected(Replaying(chip)), policy_of(chip), None, FINE)
    assert not found.fine
    assert reasons(found) == ["challenge-unknown"]


def test_a_debugged_machine_is_refused_and_told_why(chip: SevSnpChip) -> None:
    found = diagnose(detected(Tee(chip, debug=True)), policy_of(chip), None, FINE)
    assert not found.fine
    assert reasons(found) == ["debug-enabled"]
    assert "refused: this machine's sev-snp evidence" in shown(found)


def test_a_device_that_fails_leaves_no_evidence_and_says_so(chip: SevSnpChip) -> None:
    tee = Tee(chip, failure=AttesterError(Reason.UNAVAILABLE, "no [driver]"))
    found = diagnose(detected(tee), policy_of(chip), None, FINE)
    assert not found.fine
    assert "no evidence: unavailable: no [driver]" in shown(found)
    assert plain(found)["evidence"] == {
        "obtained": False,
        "accepted": False,
        "reasons": ["unavailable"],
        "detail": "no [driver]",
    }


def test_a_measurement_that_nobody_signed_is_refused(chip: SevSnpChip) -> None:
    found = diagnose(detected(Tee(chip)), policy_of(chip, b"\x33" * 48), None, FINE)
    assert reasons(found) == ["measurement-not-in-policy"]


def test_without_a_policy_a_simulated_chip_is_no_manufacturers(chip: SevSnpChip) -> None:
    found = diagnose(detected(Tee(chip)), None, None, FINE)
    assert not found.fine
    assert "root-not-in-policy" in reasons(found)
    assert MEASUREMENTS["measurement"].hex() in shown(found)


def test_a_host_without_certificates_is_told_where_to_put_them(chip: SevSnpChip, tmp_path: Path) -> None:
    tee = Tee(chip)
    tee.endorsements = {}
    assert "--endorsements" in shown(diagnose(detected(tee), None, None, FINE))
    for name, data in chip.endorsements.items():
        (tmp_path / name).write_bytes(data)
    found = diagnose(detected(tee), policy_of(chip), tmp_path, FINE)
    assert found.fine


def test_a_host_without_certificates_may_have_them_in_a_collateral_file(chip: SevSnpChip) -> None:
    tee = Tee(chip)
    found = [
        each
        for each in sort(chip.endorsements, roots=(chip.root,), now=datetime.now(UTC))
        if not isinstance(each, Unfit)
    ]
    tee.endorsements = {}
    assert not diagnose(detected(tee), policy_of(chip), None, FINE).fine
    assert diagnose(
        detected(tee),
        policy_of(chip),
        None,
        FINE,
        tuple(CollateralEntry(subject=str(subject), files=files, fetched=0) for subject, files in found),
    ).fine


@pytest.mark.parametrize(("days", "said"), [(1, "not judged by: crl.der"), (-1, "--collateral is stale")])
def test_which_of_two_lists_is_older_is_said(days: int, said: str) -> None:
    made = amd_root(NOW - timedelta(days=5))
    chip = SevSnpChip.from_files(made, serial=1)
    ark = certificates.load_certificate(made, "ark.der"), certificates.load_rsa_key(made, "ark.pem")
    tee = Tee(chip)
    lists = {
        each: certificates.make_crl(
            *ark, this_update=NOW - timedelta(days=2 - each), lifetime=timedelta(days=9)
        )
        for each in (0, days)
    }
    tee.endorsements["crl.der"] = lists[0]
    files = {**chip.endorsements, "crl.der": lists[days]}
    del files["vcek.der"]
    entries = (CollateralEntry(subject="crl/Genoa/vcek", files=files, fetched=0),)
    found = diagnose(detected(tee), policy_of(chip), None, FINE, entries)
    assert found.fine
    assert said in shown(found)
    evidence = plain(found)["evidence"]
    assert evidence["older_than_collateral"] == (["crl.der"] if days > 0 else [])
    assert evidence["newer_than_collateral"] == (["crl.der"] if days < 0 else [])
    assert "crl.der" not in shown(diagnose(detected(tee), policy_of(chip), None, FINE))


@pytest.mark.parametrize(("checks", "fine"), [(FINE, True), (MISSING, False)])
def test_without_a_tee_it_says_whether_the_lab_can_run(checks: tuple[Check, ...], fine: bool) -> None:
    found = diagnose(detected(None), None, None, checks)
    assert found.fine is fine
    text = shown(found)
    assert ("can run here" if fine else "cannot run here yet") in text
    assert "[why] of it" in text
    assert fine or "sealbus[lab]" in text


def test_without_a_tee_stale_collateral_is_named_and_what_is_not_judged_by(
    chip: SevSnpChip, tmp_path: Path
) -> None:
    files = {name: chip.endorsements[name] for name in ("crl.der", "ask.der", "ark.der")}
    current = CollateralEntry(subject="crl/Genoa/vcek", files=files, fetched=0)
    assert diagnose(detected(None), None, None, FINE, (current,)).fine
    made = amd_root(NOW - timedelta(days=5))
    ark = certificates.load_certificate(made, "ark.der"), certificates.load_rsa_key(made, "ark.pem")
    expired = certificates.make_crl(*ark, this_update=NOW - timedelta(days=5), lifetime=timedelta(days=2))
    old = CollateralEntry(subject="crl/Genoa/vcek", files={**files, "crl.der": expired}, fetched=0)
    found = diagnose(detected(None), policy_of(chip), tmp_path, FINE, (old,))
    assert not found.fine
    text = shown(found)
    assert "Not current in --collateral: crl/Genoa/vcek crl.der (expired)" in text
    assert "can run here" in text
    assert "Not judged by --policy or --endorsements: without a TEE there is no evidence" in text
    assert plain(found)["stale_collateral"] == ["crl/Genoa/vcek crl.der (expired)"]
    assert plain(found)["not_judged_by"] == ["--policy", "--endorsements"]
    assert "crl.der (expired)" in shown(diagnose(detected(Tee(chip)), policy_of(chip), None, FINE, (old,)))


def test_json_has_the_same_for_programs(chip: SevSnpChip) -> None:
    found = json.loads(json.dumps(plain(diagnose(detected(Tee(chip, debug=True)), None, None, FINE))))
    assert found["ok"] is False
    assert (found["platform"], found["interface"]) == ("sev-snp", "configfs-tsm")
    assert found["interfaces"][0]["usable"] is True
    assert (found["evidence"]["obtained"], found["evidence"]["accepted"]) == (True, False)
    assert {"root-not-in-policy", "debug-enabled"} <= set(found["evidence"]["reasons"])
    assert [check["name"] for check in found["checks"]] == ["python", "docker"]
    assert plain(diagnose(detected(None), None, None, FINE))["evidence"] is None


@pytest.mark.parametrize(("tee", "checks", "code"), [(None, FINE, 0), (None, MISSING, 1), ("debug", FINE, 1)])
def test_the_exit_codes_are_those_of_the_help(
    tee: str | None,
    checks: tuple[Check, ...],
    code: int,
    chip: SevSnpChip,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = Tee(chip, debug=True) if tee else None
    monkeypatch.setattr("console.doctor.detect", lambda: detected(machine))
    monkeypatch.setattr("console.doctor.look_around", lambda: checks)
    assert cli.run(["doctor", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["ok"] is (code == 0)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"not toml", b"version = 1"])
def test_a_policy_that_cannot_be_read_is_a_usage_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError):
        read_reference_values(path)
    assert cli.run(["doctor", "--policy", str(path)]) == 2


def answering(*commands: str) -> Callable[[list[str]], int | None]:
    return lambda command: 0 if " ".join(command) in commands else 1


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([], {"docker": False}),
        (["docker --version"], {"docker": False, "docker compose": False}),
        (["docker --version", "docker version"], {"docker": True, "docker compose": False}),
        (
            ["docker --version", "docker version", "docker compose version"],
            {"docker": True, "docker compose": True},
        ),
    ],
)
def test_docker_is_looked_for_and_never_needed(commands: list[str], expected: dict[str, bool]) -> None:
    found = {check.name: check for check in look(answering(*commands), port=0) if "docker" in check.name}
    assert {name: check.fine for name, check in found.items()} == expected
    assert not any(check.needed for check in found.values())


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (check,) = (each for each in look(answering(), port=port) if each.name.startswith("port"))
    assert not check.fine
    assert "SEALBUS_PORT" in check.detail


def test_this_python_and_its_nats_server_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {check.name: check for check in look(answering(), port=0)}
    assert found["python"].fine
    assert found["nats-server"].fine
    monkeypatch.setattr(laptop, "OLDEST_PYTHON", (99, 0))
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    found = {check.name: check for check in look(answering(), port=0)}
    assert "needs 99.0" in found["python"].detail
    assert "pip install" in found["nats-server"].detail


def test_a_program_that_is_not_there_or_fails_has_no_code_or_its_own() -> None:
    assert laptop.run_quietly(["no-such-program-anywhere"]) is None
    assert laptop.run_quietly(["false"]) == 1
    assert laptop.run_quietly(["true"]) == 0
