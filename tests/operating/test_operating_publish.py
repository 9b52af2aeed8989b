"""`sealbus policy publish` and `mesh open` against a real coordinator: done is what a signed receipt says."""

import json
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from console.documents import sign_order
from console.operating.kept import Kept, KeptReceipt
from schemas import codec
from schemas.documents import LogReceipt
from schemas.messages import Event
from schemas.policy import Limits, compiled, dump
from sealing.context import sha256
from sealing.documents import open_message
from tests.operating.world import Mesh

pytestmark = pytest.mark.anyio
RIGHT = ("vault", "submit", "survey")


async def test_a_term_is_opened_and_a_policy_published_by_commands_alone(mesh: Mesh) -> None:
    async with mesh.coordinator() as coordinator:
        # Given a coordinator that nobody has ordered, the operators order it and hand it the first policy.
        opened = await mesh.data("mesh", "open", "--policy", mesh.file("policy.toml"), keys=("alice", "bob"))
        assert opened["done"] is True
        assert opened["receipts"][0]["kind"] == "order"
        # When two of three have signed the next one, any of them publishes it.
        second = mesh.successor(mesh.policy, rules=())
        mesh.write("second.toml", second)
        told = await mesh.data("policy", "publish", mesh.file("second.toml"), keys=("carol",))
        # Then it is in force, and the receipt that says so is kept and verifies.
        assert coordinator.service.core.authority.standing.policy_version == 2
        (said,) = told["receipts"]
        assert (said["kind"], said["policy_version"], said["term"]) == ("policy", 2, 1)
        kept = codec.decode((mesh.home / said["receipt"]).read_bytes(), KeptReceipt)
        receipt = open_message(kept.receipt, kept.key, mesh.mesh, "receipt", LogReceipt)
        assert receipt.event == sha256(codec.encode(kept.event)) == bytes.fromhex(said["event"])
        assert kept.key == coordinator.service.core.keys.signing.public
        status = await mesh.data("mesh", "status")
        assert (status["coordinator"], status["term"]) == (coordinator.instance, 1)
        assert status["policy_hash"] == sha256(compiled(second)).hex()


async def test_orders_are_made_signed_apart_and_sent(mesh: Mesh) -> None:
    async with mesh.coordinator() as coordinator:
        order, policy = mesh.file("order.act"), mesh.file("policy.toml")
        made = await mesh.data("order", "new", "--policy", policy, "--out", order)
        assert (made["instance"], made["term"], made["lacking"]) == (coordinator.instance, 1, 1)
        code, said = await mesh.run("order", "send", order, "--policy", policy)
        assert (code, "signatures-too-few" in said) == (1, True)
        code, said = await mesh.run("order", "show", order)
        assert (code, "bob has not signed" in said) == (1, True)
        signed = await mesh.data("order", "sign", order, keys=("bob",), state="bobs")
        assert (signed["signed"], signed["lacking"]) == (["alice", "bob"], 0)
        await mesh.data("order", "send", order, "--policy", policy)
        standing = coordinator.service.core.authority.standing
        assert (standing.term, standing.policy_version) == (1, 1)


async def test_the_same_again_is_no_harm_and_has_the_same_entry_of_the_log(mesh: Mesh) -> None:
    async with mesh.up():
        first = await mesh.data("policy", "publish", mesh.file("policy.toml"))
        again = await mesh.data("policy", "publish", mesh.file("policy.toml"), keys=("bob",), state="bobs")
        assert first["receipts"][0]["log_index"] == again["receipts"][0]["log_index"]


async def test_a_refusal_comes_back_with_its_code_and_nothing_is_kept(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        second, other = mesh.successor(mesh.policy, rules=()), mesh.successor(mesh.policy, tools={}, rules=())
        mesh.write("second.toml", second)
        await mesh.data("policy", "publish", mesh.file("second.toml"))
        gap = mesh.successor(mesh.successor(mesh.successor(mesh.policy)))
        cases = {
            "fork.toml": (other, "forked"),
            "back.toml": (mesh.policy, "state-rolled-back"),
            "gap.toml": (gap, "version-gap"),
            "leap.toml": (mesh.successor(second, version=4), "version-gap"),
            "other.toml": (mesh.successor(second, predecessor="ee" * 32), "predecessor-mismatch"),
            "early.toml": (mesh.successor(second, not_before=2**47), "not-yet-valid"),
            "ahead.toml": (mesh.successor(second, issued=4_102_444_800_000), "not-yet-valid"),
            "before.toml": (mesh.successor(second, issued=second.issued - 1), "constraint-violated"),
            "late.toml": (mesh.successor(second, expires=second.issued + 1), "expired"),
        }
        ended = datetime.fromtimestamp((second.issued + 1) // 1000, UTC).isoformat()[:19]
        says = {
            "early.toml": "`not_before` is 140737488355328 (6429-10-17T02:45:55Z): publish it then",
            "late.toml": f"`expires` was {second.issued + 1} ({ended}Z): sign one with a later end",
        }
        before = Kept(mesh.home / "state", mesh.mesh.id)
        receipts = sorted(before.root.rglob("*.cbor"))
        for name, (policy, reason) in cases.items():
            mesh.write(name, policy)
            code, said = await mesh.run("policy", "publish", mesh.file(name), "--json")
            assert code == 1, said
            told = json.loads(said[: said.index("}") + 1])
            assert (told["done"], told["reason"]) == (False, reason)
            assert f"sealbus: {reason}" in said
            assert says.get(name, "") in told["detail"]
        assert sorted(before.root.rglob("*.cbor")) == receipts
        assert coordinator.service.core.authority.standing.policy_version == 2
        # Both hashes of a fork are shown, to the one who brought it too.
        _, said = await mesh.run("policy", "publish", mesh.file("fork.toml"))
        assert sha256(compiled(second)).hex() in said
        assert sha256(compiled(other)).hex() in said


async def test_what_too_few_signed_or_is_of_another_mesh_does_not_leave_the_console(mesh: Mesh) -> None:
    mesh.write("few.toml", mesh.policy, signers=1)
    code, said = await mesh.run("policy", "publish", mesh.file("few.toml"), url="nats://127.0.0.1:1")
    assert (code, "signatures-too-few" in said) == (1, True)
    foreign = mesh.successor(mesh.policy, mesh="ab" * 32)
    mesh.write("foreign.toml", foreign)
    code, said = await mesh.run("policy", "publish", mesh.file("foreign.toml"), url="nats://127.0.0.1:1")
    assert (code, "wrong-mesh" in said) == (1, True)


async def test_a_text_that_was_changed_after_signing_is_not_published(mesh: Mesh) -> None:
    path = mesh.home / "policy.toml"
    path.write_text(path.read_text().replace("version = 1", "version = 4"))
    code, said = await mesh.run("policy", "publish", str(path), url="nats://127.0.0.1:1")
    assert (code, "was changed since it was signed" in said) == (2, True)


@pytest.mark.parametrize(
    ("words", "options", "says"),
    [
        (("mesh", "status"), {"keys": ()}, "--key"),
        (("order", "show", "nowhere.act"), {}, "cannot read"),
        (("revoke", "new", "instance", "12"), {}, "64 hexadecimal digits"),
        (("agents", "evict"), {}, "name one"),
        (("agents", "evict", "abcdef12"), {"keys": ()}, "without a key and a broker to ask"),
        (("policy", "publish", "unsigned.toml"), {}, "nobody has signed"),
        (("revoke", "new", "chip", "ab", "--reason", "x" * 5_000), {}, "it has 5000 characters"),
        (("revoke", "new", "chip", "ab" * 200), {}, "can't be signed: a chip to revoke has 1 to 256"),
        (("revoke", "new", "chip", "ab", "--reason", ""), {}, "say why: it stands in every log"),
        (("agents", "evict", "abcdef12", "--reason", " \t"), {}, "say why: it stands in every log"),
        (("agents", "quarantine", "abcdef12", "--reason", "\u200b\u2063"), {}, "say why"),
        (("workloads", "taint", "vault", "--reason", "\u3000"), {}, "say why: it stands in every log"),
        (("glass", "new", *RIGHT, "--reason", " "), {}, "say why: it stands in every log"),
        (("glass", "new", *RIGHT, "--reason", "x", "--hours", "0.0001"), {}, "not from 0.0167 (a minute"),
        (("glass", "new", *RIGHT, "--reason", "x", "--hours", "24.1"), {}, "to 24 (what is longer is a pol"),
        (("glass", "new", *RIGHT, "--reason", "x", "--hours", "nan"), {}, "not from 0.0167 (a minute"),
        (("glass", "new", *RIGHT, "--reason", "x", "--hours", "one"), {}, "is no number of hours"),
        (("glass", "new", *RIGHT, "--anyway", "--reason", "x"), {}, "or say which with --term"),
        (("renewal", "new"), {}, "see the coordinator's first with `sealbus mesh status`"),
        (("glass", "new", *RIGHT, "--reason", "x" * 161), {}, "it has 161 characters, and 160 at most"),
        (
            ("glass", "new", "A", "call", "b", "--anyway", "--reason", "x", "--term", "1"),
            {},
            "names have lower-case letters",
        ),
        (("operators", "new", "--remove", "carol", "--reason", ""), {}, "say why: it stands in every log"),
    ],
)
async def test_what_cannot_be_done_says_what_to_do(
    mesh: Mesh, words: tuple[str, ...], options: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mesh.home)
    await anyio.Path("unsigned.toml").write_text(dump(mesh.policy))
    code, said = await mesh.run(*words, **options)
    assert (code, says in said) == (2, True), said


@pytest.mark.usefixtures("impatient")
async def test_no_broker_and_no_coordinator_are_exit_3(mesh: Mesh) -> None:
    code, said = await mesh.run("mesh", "status", url="nats://127.0.0.1:1", wait=0)
    assert code == 3, said
    code, said = await mesh.run("mesh", "status", wait=0)
    assert (code, "no acceptable offer" in said) == (3, True)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("seen", [False, True], ids=["a new console", "one that has seen the policy"])
async def test_without_a_term_every_command_says_how_to_order_one(mesh: Mesh, seen: bool) -> None:
    step = "sealbus mesh open --policy FILE"
    if seen:
        async with mesh.up() as before:
            before.stop.cancel()
    async with mesh.coordinator():
        for words, known in (
            (("mesh", "status"), 0),
            (("mesh", "renew"), 1),
            (("agents", "list"), 0),
            (("workloads", "list"), 0),
            (("agents", "evict", "ab" * 32, "--anyway"), 1),
            (("explain", "planner", "pseudonym", "call"), 2),
        ):
            code, said = await mesh.run(*words, keys=("alice", "bob"), wait=0)
            assert (code, step in said) == (known if seen else 3, True), (words, said)
        code, said = await mesh.run("policy", "publish", mesh.file("policy.toml"))
        assert (code, "term-not-accepted" in said, step in said) == (1, True, True), said


async def test_a_restarted_coordinator_hears_of_revocations_before_its_policy(mesh: Mesh) -> None:
    instance = "ab" * 32
    async with mesh.up():
        await mesh.data("agents", "evict", instance, "--anyway", "--reason", "seized", keys=("alice", "bob"))
    async with mesh.coordinator() as second:
        await mesh.data("mesh", "open", keys=("alice", "bob"))
        authority = second.service.core.authority
        assert (authority.standing.term, authority.standing.policy_version) == (2, 1)
        assert [each.value for each in authority.ledger.revoked()] == [instance]


async def test_a_lease_is_renewed_in_one_step_or_signed_apart(mesh: Mesh) -> None:
    leased = replace(mesh.policy, limits=Limits(operator_lease_seconds=3_600))
    mesh.write("policy.toml", leased)
    async with mesh.up():
        before = (await mesh.data("mesh", "status"))["lease_until"]
        await mesh.data("mesh", "renew", keys=("alice", "bob"))
        assert (await mesh.data("mesh", "status"))["lease_until"] > before
        out = mesh.file("renewal.act")
        await mesh.data("renewal", "new", "--out", out)
        code, said = await mesh.run("renewal", "send", out)
        assert (code, "signatures-too-few" in said) == (1, True)
        await mesh.data("renewal", "sign", out, keys=("carol",))
        told = await mesh.data("renewal", "send", out, keys=("carol",))
        assert told["receipts"][0]["kind"] == "renewal"
        code, said = await mesh.run("mesh", "status")
        assert (code, "falls silent unless operators renew" in said) == (0, True)


async def test_whoever_publishes_a_coordinators_first_policy_tells_it_the_revocations_first(
    mesh: Mesh,
) -> None:
    async with mesh.up():
        await mesh.data("agents", "evict", "--chip", "c0" * 16, "--anyway", keys=("alice", "bob"))
    async with mesh.coordinator() as second:
        # An order was sent, and what should follow it was not.
        policy, keys = mesh.file("policy.toml"), [mesh.keys["alice"], mesh.keys["bob"]]
        instance, core = second.service.core.keys.instance, second.service.core
        signed = sign_order(mesh.anchor, keys, term=2, instance=instance, policy_hash=None, time=2**40)
        core.authority.open_term(Event("order", signed, None, ()), now=2**40, ahead=lambda time: time)
        await mesh.data("policy", "publish", policy)
        decisions = [each["decision"] for each in mesh.entries(second)]
        assert decisions.index("revoked") < decisions.index("policy")
