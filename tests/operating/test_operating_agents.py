"""`sealbus agents`, `workloads` and `revoke` against agents that run: out, shut off, or tainted."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest
from msgspec.structs import replace

from agent_runtime import Agent, Context, Node
from agent_runtime.errors import CallFailedError
from agent_runtime.joining import AdmissionRefusedError
from console.operating.naming import instance_of
from console.operating.screen import agents_table
from console.operating.tainting import measured, measured_as
from coordinator.ledger import Party
from schemas.errors import Reason, UsageError
from schemas.evidence import Publisher
from schemas.messages import PartyStatus
from schemas.pinning import Pinned
from schemas.policy import Policy, Workload
from tests.mesh.world import eventually
from tests.operating.world import Coordinator, Mesh

pytestmark = pytest.mark.anyio


def vault_agent(name: str) -> Agent:
    agent = Agent("vault")

    @agent.tool("pseudonym")
    async def pseudonym(text: str, context: Context) -> str:
        return name

    return agent


def _enclaves(coordinator: Coordinator) -> list[Party]:
    parties = coordinator.service.core.authority.ledger.parties()
    return [party for party in parties if party.kind == "enclave"]


def instance(node: Node) -> str:
    return node.membership.keys.instance.hex()


def is_there(file: str) -> bool:
    return Path(file).exists()


def take_away(file: str) -> None:
    Path(file).unlink()


async def test_who_is_admitted_is_listed_with_what_it_measures_as(mesh: Mesh) -> None:
    async with mesh.up(), mesh.agent("vault") as vault, mesh.desk() as desk:
        told = (await mesh.data("agents", "list"))["agents"]
        shown = {each["instance"]: each for each in told}
        assert set(shown) == {instance(vault), instance(desk)}
        assert (shown[instance(vault)]["workload"], shown[instance(vault)]["platform"]) == ("vault", "nitro")
        assert (shown[instance(desk)]["kind"], shown[instance(desk)]["measurement"]) == ("client", None)
        idle, row = (await mesh.data("workloads", "list"))["workloads"]
        assert (idle["workload"], idle["instances"], idle["pinned"]) == ("planner", 0, True)
        assert (row["workload"], row["instances"], row["pinned"]) == ("vault", 1, True)
        assert row["measurement"] == shown[instance(vault)]["measurement"]
        code, said = await mesh.run("agents", "list")
        assert (code, instance(vault)[:16] in said) == (0, True)


async def test_an_agent_is_evicted_by_eight_digits_and_enough_keys(mesh: Mesh) -> None:
    async with mesh.up():
        with pytest.RaisesGroup(AdmissionRefusedError, flatten_subgroups=True):
            async with mesh.agent("vault") as vault, mesh.desk() as desk:
                told = await mesh.data("agents", "evict", instance(vault)[:8], keys=("alice", "bob"))
                assert told["receipts"][0]["kind"] == "revocation"
                await eventually(lambda: vault.membership.keys.instance in desk.membership.held().revoked)
                await anyio.sleep_forever()


async def test_eight_digits_are_enough_for_one_key_that_a_coordinator_can_be_asked_with(mesh: Mesh) -> None:
    async with mesh.up() as coordinator, mesh.agent("vault") as vault:
        out, digits = mesh.file("out.act"), instance(vault)[:8]
        code, said = await mesh.run("agents", "evict", digits, "--out", out, "--json")
        assert code == 1, said
        assert json.loads(said)["value"] == instance(vault)
        assert coordinator.service.core.authority.ledger.revoked() == ()
        code, said = await mesh.run("agents", "evict", digits, "--out", mesh.file("no.act"), keys=())
        assert (code, "is named by all 64 digits" in said) == (2, True), said


async def test_with_one_key_the_others_sign_and_one_sends(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        chip, out = "c0" * 16, mesh.file("out.act")
        code, said = await mesh.run("agents", "evict", "--chip", chip, "--out", out, "--reason", "stolen")
        assert (code, "sealbus revoke sign" in said) == (1, True)
        assert coordinator.service.core.authority.ledger.revoked() == ()
        code, said = await mesh.run("revoke", "show", out)
        assert code == 1
        assert "revocation of chip" in said
        assert "because: stolen" in said
        await mesh.data("revoke", "sign", out, keys=("carol",), state="carols")
        code, said = await mesh.run("revoke", "send", out, keys=("bob",), state="bobs")
        assert (code, "--anyway" in said) == (2, True)
        await mesh.data("revoke", "send", out, "--anyway", keys=("bob",), state="bobs")
        assert [each.value for each in coordinator.service.core.authority.ledger.revoked()] == [chip]


async def test_signatures_made_apart_are_joined_and_those_of_another_text_are_not(mesh: Mesh) -> None:
    one, two, other = (mesh.file(f"{name}.act") for name in ("one", "two", "other"))
    await mesh.data("revoke", "new", "workload", "vault", "--out", one)
    (mesh.home / "two.act").write_bytes((mesh.home / "one.act").read_bytes())
    await mesh.data("revoke", "sign", two, keys=("carol",))
    joined = await mesh.data("revoke", "join", one, two)
    assert (joined["signed"], joined["lacking"]) == (["alice", "carol"], 0)
    await mesh.data("revoke", "new", "workload", "planner", "--out", other, keys=("bob",))
    code, said = await mesh.run("revoke", "join", one, other)
    assert (code, "different things" in said) == (1, True)
    code, said = await mesh.run("order", "show", one)
    assert (code, "not of kind order" in said) == (2, True)


async def test_a_quarantined_agent_finishes_and_calls_go_to_another(mesh: Mesh) -> None:
    async with (
        mesh.up(),
        mesh.agent("vault", vault_agent("first")) as first,
        mesh.agent("planner") as planner,
    ):
        context = planner.context()
        assert await context.call("pseudonym", "x", str) == "first"
        await mesh.data("agents", "quarantine", instance(first), keys=("alice", "bob"))
        await eventually(lambda: first.membership.keys.instance in planner.membership.held().shunned)
        with pytest.raises(CallFailedError, match=Reason.DEADLINE_PASSED.value):
            await context.call("pseudonym", "x", str, within=2)
        async with mesh.agent("vault", vault_agent("second")):
            assert await context.call("pseudonym", "x", str, within=30) == "second"
            told = {each["instance"]: each["state"] for each in (await mesh.data("agents", "list"))["agents"]}
            assert told[instance(first)] == "quarantined"
            assert first.membership.live()


async def test_an_agent_whose_quarantine_is_lifted_takes_calls_again(mesh: Mesh) -> None:
    async with (
        mesh.up(),
        mesh.agent("vault", vault_agent("first")) as first,
        mesh.agent("planner") as planner,
    ):
        code, said = await mesh.run("agents", "lift", instance(first), keys=("alice", "bob"))
        assert (code, "is not quarantined. Nothing was sent: --anyway sends it" in said) == (2, True)
        await mesh.data("agents", "quarantine", instance(first), keys=("alice", "bob"))
        await eventually(lambda: first.membership.keys.instance in planner.membership.held().shunned)
        told = await mesh.data("agents", "lift", instance(first)[:8], keys=("alice", "bob"))
        assert told["receipts"][0]["struck"] == 1
        assert await planner.context().call("pseudonym", "x", str, within=30) == "first"


async def test_a_lifted_quarantine_is_not_brought_to_the_next_coordinator(mesh: Mesh) -> None:
    async with mesh.up() as before:
        for word in ("quarantine", "lift"):
            await mesh.data("agents", word, "ab" * 32, "--anyway", keys=("alice", "bob"))
        before.stop.cancel()
    async with mesh.coordinator() as after:
        await mesh.data("mesh", "open", keys=("alice", "bob"))
        assert after.service.core.authority.ledger.revoked() == ()


async def test_a_console_that_missed_the_end_of_a_quarantine_goes_on(mesh: Mesh) -> None:
    async with mesh.up() as before:
        await mesh.data("mesh", "status", state="bobs")
        await mesh.data("agents", "quarantine", "ab" * 32, "--anyway", keys=("alice", "bob"), state="bobs")
        await mesh.data("agents", "lift", "ab" * 32, "--anyway", keys=("alice", "bob"))
        before.stop.cancel()
    async with mesh.coordinator() as after:
        await mesh.data("mesh", "open", keys=("alice", "bob"))
        code, said = await mesh.run("mesh", "status", state="bobs")
        assert (code, "was told" in said) == (0, False), said
        assert after.service.core.authority.ledger.revoked() == ()


async def test_a_caller_that_has_not_heard_of_a_quarantine_is_sent_elsewhere(mesh: Mesh) -> None:
    async with (
        mesh.up(),
        mesh.agent("vault", vault_agent("first")) as first,
        mesh.agent("vault", vault_agent("second")) as second,
        mesh.agent("planner") as planner,
    ):
        context = planner.context()
        before = planner.membership.held()
        await context.call("pseudonym", "x", str)
        await mesh.data("agents", "quarantine", instance(first), keys=("alice", "bob"))
        await eventually(lambda: first.membership.keys.instance in first.membership.held().quarantined)
        planner.membership.trust = before
        assert second.membership.live()
        assert {await context.call("pseudonym", "x", str, within=30) for _ in range(8)} == {"second"}


async def test_a_tainted_workload_is_out_and_its_mended_image_is_not(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        with pytest.RaisesGroup(AdmissionRefusedError, flatten_subgroups=True):
            async with mesh.agent("vault"):
                await mesh.data("workloads", "taint", "vault", keys=("alice", "bob"))
                await anyio.sleep_forever()
        (entry,) = coordinator.service.core.authority.ledger.revoked()
        assert entry.kind == "measurement"
        with pytest.RaisesGroup(AdmissionRefusedError, flatten_subgroups=True):
            async with mesh.agent("vault"):
                pass


async def test_a_taint_is_of_all_that_the_policy_pins_whether_or_not_it_runs(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        with pytest.RaisesGroup(AdmissionRefusedError, flatten_subgroups=True):
            async with mesh.agent("vault") as vault:
                await mesh.data("agents", "evict", instance(vault), keys=("alice", "bob"))
                await anyio.sleep_forever()
        code, said = await mesh.run("workloads", "taint", "vault", keys=("alice", "bob"))
        assert (code, "none comes: vault on nitro, of which nothing is admitted" in said) == (0, True), said
        with pytest.RaisesGroup(AdmissionRefusedError, flatten_subgroups=True):
            async with mesh.agent("vault"):
                pass
        (receipt,) = (await mesh.data("workloads", "taint", "vault", keys=("alice", "bob")))["receipts"]
        assert (receipt["struck"], receipt["workload"], receipt["platform"]) == (0, "vault", "nitro")
        assert [each["kind"] for each in mesh.entries(coordinator) if each["decision"] == "revoked"].count(
            "measurement"
        ) == 2


async def test_a_taint_of_what_does_not_run_is_signed_apart_by_its_name(mesh: Mesh) -> None:
    async with mesh.up():
        out = mesh.file("out.act")
        code, said = await mesh.run("workloads", "taint", "vault", "--out", out)
        assert code == 1, said
        await mesh.data("revoke", "sign", out, keys=("bob",))
        (receipt,) = (await mesh.data("revoke", "send", out))["receipts"]
        assert (receipt["struck"], receipt["workload"]) == (0, "vault")


def test_a_name_means_what_is_admitted_and_what_is_pinned_and_says_what_a_publisher_leaves_open() -> None:
    key = Publisher(key="ab" * 48)
    vault = Workload(on={"tdx": Pinned(measurements={"mrtd": "ab"}), "nitro": Pinned(publisher=key)})
    policy = SimpleNamespace(workloads={"vault": vault})
    old = PartyStatus(b"i", "enclave", ("vault",), "vault", b"m" * 32, "tdx", (), b"", 0, "admitted")
    known = measured([old], cast("Policy", policy))
    found = measured_as(known, "vault")
    assert sorted((each.platform, each.is_pinned, bool(each.note)) for each in found) == [
        ("nitro", True, True),
        ("tdx", False, False),
        ("tdx", True, False),
    ]
    with pytest.raises(UsageError, match=r"names no workload 'valt'.*did you mean `vault`\?$"):
        measured_as(known, "valt")


async def test_digits_that_name_several_or_nobody_evict_nobody(mesh: Mesh) -> None:
    async with mesh.up() as coordinator, mesh.agent("vault") as vault:
        for digits in ("", instance(vault)[:7], "ffffffff" if instance(vault)[:8] != "f" * 8 else "00000000"):
            code, said = await mesh.run("agents", "evict", digits, keys=("alice", "bob"))
            assert code == 2, said
        assert coordinator.service.core.authority.ledger.revoked() == ()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("agents", "evict", "--workload", "valt"), "did you mean `vault`?"),
        (("agents", "evict", "--chip", "{chip}0"), "did you mean `{chip}`?"),
        (("agents", "evict", "{far}"), "there is {id} (vault)"),
        (("agents", "evict", "{near}"), "there is {id} (vault)"),
        (("agents", "evict", "{wrong}"), "nobody who is admitted has the instance"),
        (("agents", "quarantine", "{wrong}"), "nobody who is admitted has the instance"),
        (("workloads", "taint", "valt"), "did you mean `vault`?"),
        (("workloads", "taint", "{wrong}"), "nobody who is admitted has the measurement"),
    ],
)
async def test_what_nobody_has_is_told_with_what_was_meant_and_nothing_is_sent(
    mesh: Mesh, words: tuple[str, ...], hint: str
) -> None:
    async with mesh.up() as coordinator, mesh.agent("vault") as vault:
        full = instance(vault)
        slip = "0" if full[7] != "0" else "1"
        known = {
            "id": full[:16],
            "near": full[:7] + slip,
            "far": "".join(f"{15 - int(digit, 16):x}" for digit in full[:8]),
            "wrong": full[:63] + ("0" if full[63] != "0" else "1"),
            "chip": next(party.result.chip for party in _enclaves(coordinator) if party.result),
        }
        code, said = await mesh.run(*(word.format(**known) for word in words), keys=("alice", "bob"))
        assert (code, hint.format(**known) in said) == (2, True), said
        assert coordinator.service.core.authority.ledger.revoked() == ()


async def test_what_nobody_has_is_revoked_if_that_is_meant_and_said_to_have_struck_nobody(mesh: Mesh) -> None:
    words = ("agents", "evict", "--chip", "C0C0", "--anyway")
    async with mesh.up() as coordinator:
        told = await mesh.data(*words, keys=("alice", "bob"))
        assert told["receipts"][0]["struck"] == 0
        code, said = await mesh.run(*words, keys=("alice", "bob"))
        assert (code, "it struck nobody" in said) == (0, True)
        assert [each.value for each in coordinator.service.core.authority.ledger.revoked()] == ["c0c0"]
        code, said = await mesh.run(*words[:-1], keys=("alice", "bob"))
        assert (code, "it is revoked already" in said) == (2, True)


async def test_who_moved_is_evicted_by_the_chip_that_it_named_before(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        with pytest.RaisesGroup(AdmissionRefusedError, flatten_subgroups=True):
            async with mesh.agent("vault"):
                ledger = coordinator.service.core.authority.ledger
                (party,) = _enclaves(coordinator)
                ledger.enter(replace(party, chip="i-0123456789abcdef0"))
                (told,) = (await mesh.data("agents", "list"))["agents"]
                assert told["chips"] == [party.chip, "i-0123456789abcdef0"]
                assert told["chip"] == "i-0123456789abcdef0"
                sent = await mesh.data("agents", "evict", "--chip", party.chip, keys=("alice", "bob"))
                assert sent["receipts"][0]["struck"] == 1
                await anyio.sleep_forever()


async def test_ids_are_taken_as_people_paste_them_and_it_is_said_how_many_went(mesh: Mesh) -> None:
    async with mesh.up():
        with pytest.RaisesGroup(AdmissionRefusedError, flatten_subgroups=True):
            async with mesh.agent("vault") as vault:
                pasted = f" 0x{instance(vault).upper()[:32]} {instance(vault)[32:]}\n"
                told = await mesh.data("agents", "evict", pasted, keys=("alice", "bob"))
                assert told["receipts"][0]["struck"] == 1
                await anyio.sleep_forever()


def test_a_beginning_that_several_ids_share_is_told_with_all_of_them() -> None:
    def party(digit: str) -> PartyStatus:
        one = bytes.fromhex("ab" * 8 + digit * 48)
        return PartyStatus(one, "enclave", ("vault",), "vault", b"", "nitro", (), b"", 0, "admitted")

    registry = [party("1"), party("2")]
    with pytest.raises(UsageError, match=r"names 2 of those who are admitted.*abab.*\(vault\), abab"):
        instance_of(registry, "ab" * 4)
    assert instance_of(registry, "AB" * 8 + "2") == registry[1].instance.hex()


def test_a_registry_that_names_a_day_after_the_last_is_shown() -> None:
    one = PartyStatus(bytes(32), "enclave", ("vault",), "vault", b"", "nitro", (), b"", 2**63 - 1, "admitted")
    table = agents_table([one])
    assert list(table.columns[-1].cells) == [f"{2**63 - 1} ms"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("planner", "call", "look-up"), "there is no 'look-up' to call"),
        (("planner", "call", "pseudonyms"), "did you mean `pseudonym`? Nothing was written"),
        (("plannr", "call", "pseudonym"), "did you mean `planner`?"),
        (("planner", "call", "pseudonym"), "rule 2 permits it already"),
    ],
)
async def test_glass_is_held_against_the_policy_that_is_at_hand_before_anybody_signs(
    mesh: Mesh, words: tuple[str, ...], hint: str
) -> None:
    out = mesh.file("glass.act")
    new = ("glass", "new", *words, "--reason", "why", "--out", out)
    code, said = await mesh.run(*new)
    assert (code, hint in said, is_there(out)) == (2, True, False), said
    code, said = await mesh.run(*new, "--policy", mesh.file("policy.toml"))
    assert (code, hint in said, is_there(out)) == (2, True, False), said
    await mesh.data(*new, "--anyway", "--term", "1")
    assert is_there(out)


async def test_without_a_policy_at_hand_glass_is_written_and_that_is_said(mesh: Mesh) -> None:
    take_away(mesh.file("policy.toml.signed"))
    words = ("glass", "new", "planner", "call", "look-up", "--reason", "why", "--term", "1")
    code, said = await mesh.run(*words, "--out", mesh.file("glass.act"))
    assert (code, "no policy is known here" in said) == (0, True), said


async def test_what_is_good_in_one_term_is_not_written_where_none_was_seen(mesh: Mesh) -> None:
    out = mesh.file("new.act")
    glass = ("glass", "new", "vault", "submit", "survey", "--reason", "why")
    async with mesh.up():
        for words in (("renewal", "new"), glass):
            code, said = await mesh.run(*words, "--out", out, keys=(), state="new")
            assert (code, "`sealbus mesh status`" in said, is_there(out)) == (2, True, False), said
        await mesh.data("mesh", "status", state="new")
        for words in (("renewal", "new"), glass):
            assert (await mesh.data(*words, "--out", out, keys=("bob",), state="new"))["term"] == 1
            await mesh.data(words[0], "sign", out)
            assert (await mesh.data(words[0], "send", out))["done"] is True
            take_away(out)


async def test_glass_is_broken_apart_with_a_reason_and_everybody_says_so(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    async with mesh.up(), mesh.agent("vault", vault_agent("vault")), mesh.agent("planner") as planner:
        out = mesh.file("glass.act")
        words = ("glass", "new", "vault", "submit", "survey", "--out", out)
        code, said = await mesh.run(*words)
        assert (code, "--reason" in said) == (2, True)
        await mesh.data(*words, "--reason", "recall 4711")
        code, said = await mesh.run("glass", "show", out)
        assert (code, "break-glass: vault may submit survey" in said) == (1, True)
        await mesh.data("glass", "sign", out, keys=("bob",), state="bobs")
        with caplog.at_level("WARNING"):
            await mesh.data("glass", "send", out)
            await eventually(lambda: bool(planner.membership.held().notices))
            await eventually(
                lambda: (
                    {"sealbus.coordinator", "sealbus.agent"}
                    <= {each.name for each in caplog.records if "recall 4711" in each.getMessage()}
                )
            )
        code, said = await mesh.run("mesh", "status")
        assert (code, "BREAK-GLASS: vault may submit survey" in said) == (0, True)


async def test_what_is_told_of_a_mesh_fits_a_terminal_a_row_in_a_line(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    async with mesh.up(), mesh.agent("vault") as vault:
        await mesh.data("agents", "quarantine", instance(vault), keys=("alice", "bob"))
        code, said = await mesh.run("mesh", "status", "--agents")
        assert code == 0, said
        assert max(map(len, said.splitlines())) <= 80
        (row,) = [line for line in said.splitlines() if instance(vault)[:16] in line]
        assert [word in row for word in ("quarantined", "vault", "nitro")] == [True] * 3
        code, said = await mesh.run("workloads", "list")
        assert (code, max(map(len, said.splitlines())) <= 80) == (0, True), said
