"""`sealbus policy replay --log`: what a policy makes of the decisions that a coordinator recorded."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from attestation import workload_id
from console.audit_fetch import file_of
from console.cli import run
from console.operating.tainting import measured
from schemas import codec
from schemas.errors import Reason
from schemas.evidence import NITRO, SEV_SNP, PlatformValues
from schemas.pinning import Pinned
from schemas.policy import Policy, Workload, dump
from tests.console.audit_world import Line, fetch, line
from tests.coordinator.world import Party, Refusal, World
from tests.coordinator.world import measured as measurements


class Recorded:
    """A mesh whose log is stored, and the commands that judge it."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.world = World()
        self.operator = self.world.up()
        self.folder, self.capture = folder, capture
        (folder / "anchor.cbor").write_bytes(codec.encode(self.world.anchor))
        self.policy = self.world.policy()

    def admit(self, *roles: str) -> Party:
        return Party.enclave(self.world, *roles).join()

    def revoke(self, kind: str, value: str) -> None:
        self.operator.event(self.world.revocation(kind, value))

    def replay(self, policy: Policy, *words: str) -> tuple[int, str]:
        source: Line = line(self.world, self.operator)
        fetch(self.folder, source)
        (self.folder / "next.toml").write_text(dump(policy))
        log = str(file_of(self.folder, 1))
        code = run(["policy", "replay", str(self.folder / "next.toml"), "--log", log, *words])
        said = self.capture.readouterr()
        return code, said.out + said.err

    def data(self, policy: Policy) -> tuple[int, dict[str, Any]]:
        code, said = self.replay(policy, "--json")
        return code, json.loads(said)


@pytest.fixture
def recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Recorded:
    return Recorded(tmp_path, capsys)


def test_whom_a_policy_still_names_is_told_with_what_it_may_do_then(recorded: Recorded) -> None:
    recorded.admit("redactor")
    recorded.admit("redactor")
    Party.client(recorded.world).join()
    code, told = recorded.data(recorded.policy)
    client, redactor = told["decisions"]
    assert (code, told["decisions_refused"]) == (0, 0)
    assert (client["verdict"], client["name"], len(client["instances"])) == ("admitted", "cli", 1)
    assert (redactor["verdict"], redactor["name"], len(redactor["instances"])) == ("named", "redactor", 2)
    call = {"role": "redactor", "action": "call", "what": "pseudonym"}
    assert (redactor["may"], redactor["untaken"]) == ([call], [call])
    recorded.admit("vault")
    code, said = recorded.replay(recorded.policy)
    assert code == 0
    assert "named: enclave redactor on sev-snp as redactor, 2 instances\n  redactor may call the tool" in said
    assert "nobody who was admitted takes it" in said.split("client cli", 1)[1].split("enclave", 1)[0]
    assert "tool pseudonym\n" in said
    assert "not judged, for no entry has them: measurements" in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"workloads": {}, "classes": {}, "tools": {}, "rules": ()}, Reason.MEASUREMENT_NOT_IN_POLICY),
        ({"platform": NITRO}, Reason.MEASUREMENT_NOT_IN_POLICY),
        ({"role": "other"}, Reason.ROLE_NOT_PERMITTED),
        ({"platforms": {NITRO: PlatformValues(lab_roots=("ab" * 32,))}}, Reason.PLATFORM_NOT_IN_POLICY),
    ],
)
def test_whom_a_policy_does_not_name_any_more_is_told_with_the_reason(
    recorded: Recorded, change: dict[str, Any], reason: Reason
) -> None:
    recorded.admit("redactor")
    pins = {name: Pinned(measurements={f"pcr{n}": "ab" * 48 for n in range(3)}) for name in (NITRO,)}
    if "role" in change:
        role = Workload(roles=(change["role"],), on=recorded.policy.workloads["redactor"].on)
        change = {"workloads": {"redactor": role}, "classes": {}, "tools": {}, "rules": ()}
    elif "platform" in change:
        change = {"workloads": {"redactor": Workload(roles=("redactor",), on=pins)}}
        change |= {"classes": {}, "tools": {}, "rules": ()}
    elif "platforms" in change:
        change |= {"coordinators": pins, "workloads": {}, "classes": {}, "tools": {}, "rules": ()}
    code, told = recorded.data(replace(recorded.policy, **change))
    (decision,) = [each for each in told["decisions"] if each["kind"] == "enclave"]
    assert (code, decision["verdict"], decision["reason"]) == (1, "refused", reason.value)
    assert decision["may"] == []


def test_a_client_whose_key_is_no_more_is_refused_and_one_whose_key_is_new_admitted(
    recorded: Recorded,
) -> None:
    Party.client(recorded.world).join()
    code, told = recorded.data(replace(recorded.policy, clients={}, rules=()))
    (decision,) = told["decisions"]
    assert (code, decision["reason"]) == (1, Reason.CLIENT_NOT_IN_POLICY.value)


def test_a_client_that_was_refused_for_want_of_a_name_is_told_when_it_has_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = Recorded(tmp_path, capsys)
    recorded.operator.event(
        recorded.world.policy_event(recorded.world.next_policy(recorded.policy, clients={}, rules=()))
    )
    with pytest.raises(Refusal):
        Party.client(recorded.world).join()
    code, told = recorded.data(recorded.policy)
    assert (code, told["newly_admitted"], told["not_judged"]["refusals"]) == (0, ["cli"], {})


def test_who_was_put_out_is_out_and_what_is_tainted_is_told_while_it_is_pinned(recorded: Recorded) -> None:
    one, two = recorded.admit("redactor"), recorded.admit("redactor")
    recorded.revoke("instance", one.keys.instance.hex())
    _, told = recorded.data(recorded.policy)
    assert [each["instances"] for each in told["decisions"]] == [[two.keys.instance.hex()]]
    (pin,) = [each for each in measured((), recorded.policy) if each.workload == "redactor"]
    recorded.revoke("measurement", pin.value)
    code, told = recorded.data(recorded.policy)
    (decision,) = told["decisions"]
    assert (code, decision["reason"], told["revoked"]) == (1, "instance-revoked", ["redactor on sev-snp"])
    mended = Pinned(measurements={**measurements("redactor"), "measurement": "0f" * 48})
    assert workload_id(mended.values("redactor", SEV_SNP)).hex() != pin.value
    workloads = recorded.policy.workloads | {"redactor": Workload(roles=("redactor",), on={SEV_SNP: mended})}
    code, told = recorded.data(replace(recorded.policy, workloads=workloads))
    (decision,) = told["decisions"]
    assert (code, decision["verdict"], told["revoked"]) == (0, "named", [])
    recorded.revoke("workload", "redactor")
    code, told = recorded.data(recorded.policy)
    assert (code, told["decisions"], told["revoked"]) == (1, [], ["redactor on sev-snp"])


def test_whom_a_policy_put_out_the_next_may_name_again(recorded: Recorded) -> None:
    recorded.admit("redactor")
    none = {"workloads": {"vault": recorded.policy.workloads["vault"]}, "classes": {}, "rules": ()}
    recorded.operator.event(recorded.world.policy_event(recorded.world.next_policy(recorded.policy, **none)))
    code, told = recorded.data(recorded.policy)
    assert (code, [each["verdict"] for each in told["decisions"]]) == (0, ["named"])


def test_whom_no_revocation_named_and_who_may_prove_again_is_not_told_as_out(recorded: Recorded) -> None:
    world = recorded.world
    hidden = Party.enclave(world, "redactor", chip="").join()
    recorded.revoke("chip", "ab" * 64)
    world.now += 61_000
    recorded.operator = world.up_again()
    # What is overdue goes just after a revocation of somebody else.
    recorded.revoke("workload", "nobody")
    world.tick(1)
    hidden.chip = "cd" * 64
    hidden.join()
    recorded.operator = world.up_again()
    code, told = recorded.data(recorded.policy)
    assert (code, [each["verdict"] for each in told["decisions"]]) == (0, ["named"])


def test_whose_admission_was_over_when_a_chip_was_revoked_is_not_told_as_out(recorded: Recorded) -> None:
    world = recorded.world
    hidden = Party.enclave(world, "redactor", chip="").join()
    world.tick(600_000)
    recorded.operator = world.up_again()
    recorded.revoke("chip", "ab" * 64)
    hidden.chip = "cd" * 64
    hidden.join()
    recorded.operator = world.up_again()
    code, told = recorded.data(recorded.policy)
    assert (code, [each["verdict"] for each in told["decisions"]]) == (0, ["named"])


def test_a_log_that_does_not_verify_judges_nothing(recorded: Recorded) -> None:
    recorded.admit("redactor")
    assert recorded.replay(recorded.policy)[0] == 0
    path = file_of(recorded.folder, 1)
    text = path.read_bytes()
    path.write_bytes(text[:-3] + (b"00\n" if text[-3:] != b"00\n" else b"11\n"))
    code = run(["policy", "replay", str(recorded.folder / "next.toml"), "--log", str(path)])
    assert (code, "nothing is judged by it" in recorded.capture.readouterr().err) == (2, True)
    code = run(["policy", "replay", str(recorded.folder / "next.toml")])
    assert (code, "or an audit log with --log" in recorded.capture.readouterr().err) == (2, True)
