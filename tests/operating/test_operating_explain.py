"""`sealbus explain` asks a mesh that runs: its policy and who signed that, admissions, and what is out."""

import anyio
import pytest
from msgspec.structs import replace

from agent_runtime.joining import AdmissionRefusedError
from console import cli
from console.operating.acts import signed
from schemas import codec
from schemas.documents import BreakGlass
from schemas.evidence import NITRO
from schemas.policy import compiled
from sealing.context import sha256
from sealing.documents import sign_by_operators
from sealing.errors import NotAuthenticError
from tests.operating.test_operating_agents import instance, vault_agent
from tests.operating.world import Mesh, pinned

pytestmark = pytest.mark.anyio

MAY_CALL = ("explain", "planner", "pseudonym", "call")
BOTH = ("alice", "bob")


async def test_yes_comes_with_policy_signers_admissions_and_evidence(mesh: Mesh) -> None:
    async with mesh.up() as coordinator, mesh.agent("planner") as planner, mesh.agent("vault") as vault:
        told = await mesh.data(*MAY_CALL, "--policy", mesh.file("policy.toml"))
        assert (told["may"], told["permitted"], told["hindrance"]) == (True, True, None)
        assert (told["policy"]["version"], told["policy"]["signers"]) == (1, ["alice", "bob"])
        assert told["policy"]["hash"] == sha256(compiled(mesh.policy)).hex()
        text = (mesh.home / "policy.toml").read_text().splitlines()
        assert told["rule"]["number"] == 2
        assert 'what = "pseudonym"' in text[told["rule"]["line"] - 1]
        (acts,), (takes,) = told["admitted"], told["audience_admitted"]
        assert (acts["instance"], takes["instance"]) == (instance(planner), instance(vault))
        party = coordinator.service.core.authority.ledger.admitted(planner.membership.keys.instance)
        assert party is not None
        assert (acts["expires"], acts["evidence"]) == (party.expires, party.evidence.hex())
        assert (len(party.evidence), party.evidence != takes["evidence"]) == (32, True)
        code, said = await mesh.run(*MAY_CALL)
        assert (code, "yes: planner may call the tool pseudonym" in said) == (0, True)
        assert "signed by alice, bob" in said
        assert f"acts: {instance(planner)[:16]}, planner, admitted until" in said


async def test_what_the_policy_permits_and_nobody_can_do_is_no(mesh: Mesh) -> None:
    async with mesh.up():
        code, said = await mesh.run(*MAY_CALL)
        assert (code, "nobody who may act so is admitted" in said) == (1, True)
        async with mesh.agent("planner"):
            code, said = await mesh.run(*MAY_CALL)
            assert (code, "nobody who takes it is admitted" in said) == (1, True)


async def test_a_task_waits_for_whoever_takes_it(mesh: Mesh) -> None:
    async with mesh.up(), mesh.desk():
        told = await mesh.data("explain", "desk", "survey", "submit")
        assert (told["may"], "a task waits" in told["waits"]) == (True, True)
        assert [each["kind"] for each in told["admitted"]] == ["client"]


async def test_a_quarantined_taker_takes_nothing_and_a_quarantined_caller_may_finish(mesh: Mesh) -> None:
    async with mesh.up(), mesh.agent("planner") as planner, mesh.agent("vault") as vault:
        await mesh.data("agents", "quarantine", instance(planner), keys=BOTH)
        assert (await mesh.data(*MAY_CALL))["admitted"][0]["state"] == "quarantined"
        code, said = await mesh.run("explain", instance(planner)[:8], "pseudonym", "call")
        assert (code, "quarantined (may finish what it has begun) until" in said) == (0, True), said
        await mesh.data("agents", "quarantine", instance(vault), keys=BOTH)
        code, said = await mesh.run(*MAY_CALL)
        assert (code, "nobody takes it: all are quarantined" in said) == (1, True)
        assert "quarantined (takes nothing new) until" in said


async def test_what_is_lifted_takes_again(mesh: Mesh) -> None:
    async with mesh.up(), mesh.agent("planner"), mesh.agent("vault") as vault:
        await mesh.data("agents", "quarantine", instance(vault), keys=BOTH)
        assert (await mesh.run(*MAY_CALL))[0] == 1
        await mesh.data("agents", "lift", instance(vault), keys=BOTH)
        told = await mesh.data(*MAY_CALL)
        assert (told["may"], told["hindrance"]) == (True, None)
        assert [each["state"] for each in told["audience_admitted"]] == ["admitted"]
        assert told["revoked"] == []


async def test_a_tainted_measurement_is_named_until_another_image_takes_its_place(
    mesh: Mesh,
) -> None:
    async with mesh.up(), mesh.agent("planner"):
        with pytest.RaisesGroup(AdmissionRefusedError, flatten_subgroups=True):
            async with mesh.agent("vault") as vault:
                gone = instance(vault)
                (row,) = [
                    each
                    for each in (await mesh.data("workloads", "list"))["workloads"]
                    if each["workload"] == "vault"
                ]
                await mesh.data("workloads", "taint", "vault", keys=BOTH)
                code, said = await mesh.run("explain", gone[:8], "pseudonym", "call", "--json")
                assert (code, "instance-revoked" in said, "measurement" in said) == (1, True, True), said
                code, said = await mesh.run(*MAY_CALL)
                assert (code, "nobody who takes it is admitted" in said) == (1, True), said
                assert f"out: measurement {row['measurement']} revoked" in said
                assert "1 instance listed" in said
                await anyio.sleep_forever()
        # The next version names the mended image.
        mended = replace(mesh.policy.workloads["vault"], on={NITRO: pinned("other")})
        workloads = {**mesh.policy.workloads, "vault": mended}
        mesh.write("second.toml", mesh.successor(mesh.policy, workloads=workloads))
        await mesh.data("policy", "publish", mesh.file("second.toml"))
        async with mesh.agent("vault", code="other") as mended_vault:
            told = await mesh.data(*MAY_CALL)
            assert (told["may"], told["revoked"]) == (True, [])
            assert [each["instance"] for each in told["audience_admitted"]] == [instance(mended_vault)]


async def test_an_evicted_instance_and_a_revoked_workload_are_named(mesh: Mesh) -> None:
    async with mesh.up(), mesh.agent("planner") as planner:
        with pytest.RaisesGroup(AdmissionRefusedError, flatten_subgroups=True):
            async with mesh.agent("vault") as vault:
                gone = instance(vault)
                await mesh.data("agents", "evict", "--workload", "vault", keys=BOTH)
                code, said = await mesh.run("explain", gone[:12], "pseudonym", "call")
                assert (code, "instance-revoked" in said) == (1, True), said
                code, said = await mesh.run(*MAY_CALL)
                assert (code, "out: workload vault revoked" in said) == (1, True), said
                await anyio.sleep_forever()
        told = await mesh.run("explain", instance(planner)[:8], "pseudonym", "call", "--json")
        assert (told[0], '"workload"' in told[1]) == (1, True)


async def test_an_instance_is_answered_for_in_its_roles(mesh: Mesh) -> None:
    async with mesh.up(), mesh.agent("planner") as planner, mesh.agent("vault", vault_agent("v")) as vault:
        told = await mesh.data("explain", instance(planner)[:10], "pseudonym", "call")
        assert [each["instance"] for each in told["admitted"]] == [instance(planner)]
        code, said = await mesh.run("explain", instance(vault), "pseudonym", "call")
        assert (code, "no: vault may call" in said, "no rule permits it" in said) == (1, True, True)


async def test_break_glass_is_told_with_who_signed_it_and_why(mesh: Mesh) -> None:
    async with mesh.up(), mesh.agent("vault"), mesh.agent("planner"):
        words = ("explain", "vault", "survey", "submit")
        assert (await mesh.run(*words))[0] == 1
        out = mesh.file("glass.act")
        await mesh.data(
            "glass", "new", "vault", "submit", "survey", "--out", out, "--reason", "recall 4711", keys=BOTH
        )
        await mesh.data("glass", "send", out)
        told = await mesh.data(*words)
        assert (told["may"], told["rule"]) == (True, None)
        (broken,) = told["break_glass"]
        assert (broken["reason"], broken["signers"]) == ("recall 4711", ["alice", "bob"])
        code, said = await mesh.run(*words)
        assert (code, "BREAK-GLASS until" in said, "recall 4711" in said) == (0, True, True)


async def test_the_policy_in_force_answers_whatever_file_is_at_hand(mesh: Mesh) -> None:
    async with mesh.up(), mesh.agent("planner"), mesh.agent("vault"):
        mesh.write("second.toml", mesh.successor(mesh.policy, rules=()))
        code, said = await mesh.run(*MAY_CALL, "--policy", mesh.file("second.toml"))
        assert (code, "is another policy than the one in force" in said) == (0, True), said
        await mesh.data("policy", "publish", mesh.file("second.toml"))
        code, said = await mesh.run(*MAY_CALL, "--policy", mesh.file("second.toml"))
        assert (code, "no rule permits it" in said, "policy version 2" in said) == (1, True, True), said


async def test_without_a_policy_or_with_words_for_files_it_says_what_to_do(mesh: Mesh) -> None:
    async with mesh.coordinator():
        code, said = await mesh.run(*MAY_CALL, "--at", "2026-01-01T00:00:00Z")
        assert (code, "leave out --at" in said) == (2, True)
        code, said = await mesh.run(*MAY_CALL, "--profile", mesh.file("policy.toml.signed"))
        assert (code, "no term is open: `sealbus mesh open" in said) == (2, True), said


async def test_files_alone_answer_where_a_broker_stands_in_the_environment(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALBUS_NATS_URL", "nats://127.0.0.1:1")
    assert cli.run([*MAY_CALL, "--policy", mesh.file("policy.toml")]) == 0
    assert "may act so: workload planner" in capsys.readouterr().out


def test_what_no_threshold_signed_is_not_believed_of_a_coordinator(mesh: Mesh) -> None:
    glass = codec.encode(BreakGlass(mesh.mesh.id, 1, "vault", "submit", "survey", "because", 1, 2))
    keys = [mesh.keys["alice"], mesh.keys["alice"]]
    with pytest.raises(NotAuthenticError, match="no threshold"):
        signed(mesh.anchor, "break-glass", sign_by_operators(keys, mesh.anchor, "break-glass", glass))
    both = sign_by_operators([mesh.keys[name] for name in BOTH], mesh.anchor, "break-glass", glass)
    assert signed(mesh.anchor, "break-glass", both) == (glass, BOTH)
