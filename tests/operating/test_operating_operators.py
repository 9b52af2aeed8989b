"""`sealbus operators`: a lost key is replaced by the others on a real mesh, and nothing else gets through."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from console import cli
from console.operating.kept import STATE, Kept
from console.policy.operators import Operator, public_line
from schemas import codec
from schemas.messages import Chain
from schemas.policy import compiled
from sealing import keyfile
from sealing.context import sha256
from sealing.keys import SigningKey
from tests.operating.world import NAMES, PHRASE, Mesh

pytestmark = pytest.mark.anyio

BOTH = ("alice", "bob")
HEIRS = ("alice", "bob", "dave", "erin")


def newcomer(mesh: Mesh, name: str) -> None:
    """Make an operator's key, as `policy keygen` does."""
    seed = os.urandom(32)
    mesh.keys[name] = SigningKey(seed)
    locked = keyfile.lock(name, seed, PHRASE, salt=os.urandom(16), nonce=os.urandom(24))
    (mesh.home / f"{name}.key").write_bytes(locked)
    line = public_line(Operator(name, mesh.keys[name].public))
    (mesh.home / f"{name}.pub").write_text(line)


@pytest.fixture
def mesh(mesh: Mesh) -> Mesh:
    for name in ("dave", "erin"):
        newcomer(mesh, name)
    return mesh


def new_words(mesh: Mesh, out: str = "operators.change") -> tuple[str, ...]:
    words = ["operators", "new", "--remove", "carol", "--reason", "carol lost her key"]
    for name in ("dave", "erin"):
        words += ["--add", mesh.file(f"{name}.pub")]
    return (*words, "--out", mesh.file(out))


def run_offline(mesh: Mesh, *words: str) -> tuple[int, str]:
    mesh.capture.readouterr()
    code = cli.run([*words, "--passphrase-file", mesh.file("phrase"), "--state", mesh.file("state")])
    said = mesh.capture.readouterr()
    return code, said.out + said.err


def sign_offline(mesh: Mesh, file: str, *names: str, policy: str | None = None) -> None:
    more = () if policy is None else ("--policy", mesh.file(policy))
    for name in names:
        code, said = run_offline(
            mesh, "operators", "sign", mesh.file(file), "--key", mesh.file(f"{name}.key"), *more
        )
        assert code == 0, said


async def replace_carol(mesh: Mesh) -> Any:
    """Do what the page in docs says: new, signed apart, published."""
    await mesh.data(*new_words(mesh), keys=("alice",))
    sign_offline(mesh, "operators.change", "bob", "dave", "erin")
    return await mesh.data("operators", "publish", mesh.file("operators.change"))


async def test_a_lost_key_is_replaced_by_the_others(mesh: Mesh) -> None:
    async with mesh.up() as coordinator, mesh.agent("planner") as running:
        told = await mesh.data(*new_words(mesh), keys=("alice",))
        assert (told["goes"], told["comes"], told["stays"]) == (["carol"], ["dave", "erin"], ["alice", "bob"])
        assert (told["threshold_before"], told["threshold"]) == (2, 3)
        order, policy = told["again"]
        assert (order["kind"], order["term"], order["instance"]) == ("order", 1, coordinator.instance)
        assert (policy["kind"], policy["version"]) == ("policy", 1)
        assert policy["hash"] == sha256(compiled(mesh.policy)).hex()
        assert (told["signed"], told["complete"]) == (["alice"], False)
        assert told["lacking"] == {"before": 1, "after": 2}
        code, said = await mesh.run("operators", "publish", mesh.file("operators.change"))
        assert (code, "signatures-too-few" in said) == (1, True), said
        sign_offline(mesh, "operators.change", "bob", "dave")
        code, said = await mesh.run("operators", "show", mesh.file("operators.change"))
        assert (code, "erin has to sign with the new key" in said) == (1, True), said
        sign_offline(mesh, "operators.change", "erin")
        code, said = await mesh.run("operators", "show", mesh.file("operators.change"))
        assert (code, "complete" in said) == (0, True), said

        done = await mesh.data("operators", "publish", mesh.file("operators.change"))
        assert [each["kind"] for each in done["receipts"]] == ["operators"]
        standing = coordinator.service.core.authority.standing
        assert [each.name for each in standing.council.operators] == list(HEIRS)
        assert mesh.entries(coordinator)[-1]["decision"] in ("evicted", "operators")
        shown = await mesh.data("operators", "show")
        assert (shown["version"], list(shown["operators"])) == (1, list(HEIRS))

        # The new key counts at once, the old one nowhere.
        second = mesh.successor(mesh.policy, rules=mesh.policy.rules[:1])
        (mesh.home / "second.toml").write_text((mesh.home / "policy.toml").read_text())
        mesh.write("second.toml", second, signers=0)
        (mesh.home / "second.toml.signed").unlink()
        for name in ("bob", "dave", "erin"):
            words = ("policy", "sign", mesh.file("second.toml"), "--key", mesh.file(f"{name}.key"))
            assert cli.run([*words, "--passphrase-file", mesh.file("phrase")]) == 0
        await mesh.data("policy", "publish", mesh.file("second.toml"), keys=("dave",))
        assert coordinator.service.core.authority.standing.policy_version == 2
        code, said = await mesh.run("mesh", "status", keys=("carol",))
        assert (code, "no operator's any more" in said) == (2, True), said

        # A fresh agent, which knows the anchor alone, is admitted; one that runs goes on.
        async with mesh.agent("vault") as fresh:
            for node in (fresh, running):
                assert node.membership.witness.council == standing.council
                assert node.membership.live()


async def test_who_has_lost_the_key_has_lost_the_console_too(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        await mesh.data("mesh", "status", keys=("carol",), state="carols")
        await replace_carol(mesh)
        # Carol's console does not know of it, and neither does whoever has her key: her anchor is old.
        mesh.home.joinpath("operators.signed").unlink()
        code, said = await mesh.run("mesh", "status", keys=("carol",), state="carols", wait=5)
        assert (code, "client-not-in-policy" in said) == (1, True), said
        assert not any(
            party.signing_key == mesh.keys["carol"].public
            for party in coordinator.service.core.authority.ledger.parties()
        )


async def test_the_others_consoles_learn_of_it_and_then_know_it_offline(mesh: Mesh) -> None:
    async with mesh.up():
        await replace_carol(mesh)
        mesh.home.joinpath("operators.signed").unlink()
        before = await mesh.data("operators", "show", state="bobs")
        assert before["version"] == 0
        await mesh.data("mesh", "status", keys=("bob",), state="bobs")
        after = await mesh.data("operators", "show", "--out", mesh.file("operators.signed"), state="bobs")
        assert after["version"] == 1
        chain = codec.decode((mesh.home / "operators.signed").read_bytes(), Chain)
        assert len(chain) == 1


EVICT_CHIP = ("agents", "evict", "--chip", "c0" * 16, "--anyway")
BEHIND = {"evict": EVICT_CHIP, "renew": ("mesh", "renew")}


@pytest.mark.parametrize("words", BEHIND.values(), ids=BEHIND.keys())
async def test_a_console_that_is_behind_signs_as_of_the_set_that_is_in_force(
    mesh: Mesh, words: tuple[str, ...]
) -> None:
    async with mesh.up():
        await mesh.data("mesh", "status", keys=("bob",), state="bobs")
        await dave_for_carol(mesh)
        code, said = await mesh.run(*words, keys=BOTH, state="bobs")
        assert code == 0, said


async def test_who_signed_before_others_followed_signs_the_same_file_again(mesh: Mesh) -> None:
    async with mesh.up():
        await mesh.data("mesh", "status", keys=("bob",), state="bobs")
        await dave_for_carol(mesh)
        file = mesh.file("evict.act")
        # Offline, by a console that has not heard of the change.
        words = (*EVICT_CHIP, "--out", file)
        code, said = await mesh.run(*words, keys=("bob",), state="bobs")
        assert (code, "1 of 2 signatures" in said) == (1, True), said
        code, said = await mesh.run("revoke", "sign", file, keys=("alice",))
        assert (code, "1 of 2 signatures" in said) == (0, True), said
        code, said = await mesh.run("revoke", "sign", file, keys=("bob",))
        assert (code, "2 of 2 signatures" in said) == (0, True), said
        await mesh.data("revoke", "send", file, "--anyway")


async def dave_for_carol(mesh: Mesh) -> None:
    words = ("operators", "new", "--remove", "carol", "--reason", "lost", "--add", mesh.file("dave.pub"))
    await mesh.data(*words, "--out", mesh.file("operators.change"), keys=("alice",))
    sign_offline(mesh, "operators.change", "bob", "dave")
    await mesh.data("operators", "publish", mesh.file("operators.change"))
    mesh.home.joinpath("operators.signed").unlink()


async def test_a_fresh_coordinator_hears_it_from_who_came_and_of_the_revocations_too(mesh: Mesh) -> None:
    chip = ("agents", "evict", "--chip", "c0" * 16, "--anyway")
    async with mesh.up() as first:
        await mesh.data(*chip, keys=BOTH)
        done = await replace_carol(mesh)
        assert [each["kind"] for each in done["receipts"]] == ["operators", "revocation"]
        first.stop.cancel()
    async with mesh.coordinator() as second:
        code, said = await mesh.run("mesh", "open", keys=BOTH, wait=5)
        assert (code, "signatures-too-few" in said) == (1, True), said
        await mesh.data("mesh", "open", keys=("dave", "erin", "bob"))
        authority = second.service.core.authority
        assert (authority.standing.term, authority.standing.council.version) == (2, 1)
        assert [each.value for each in authority.ledger.revoked()] == ["c0" * 16]
        async with mesh.agent("planner") as node:
            assert node.membership.witness.council.version == 1


async def test_a_term_is_opened_again_by_the_order_as_those_who_followed_signed_it(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        await mesh.data("mesh", "status", keys=("bob",), state="bobs")
        held = coordinator.service.core.authority.standing.order
        await replace_carol(mesh)
        first, again = [await mesh.data("mesh", "open", keys=keys) for keys in (BOTH, ("dave",))]
        assert first["receipts"] == again["receipts"]
        standing = coordinator.service.core.authority.standing
        assert (standing.term, standing.order) == (1, held)
        opened = [each for each in mesh.entries(coordinator) if each["decision"] == "term"]
        assert len(opened) == 1
        # The policy that is named has to be of those of now, and another console ordered nothing.
        code, said = await mesh.run("mesh", "open", "--policy", mesh.file("policy.toml"), keys=BOTH)
        assert (code, "former-operator" in said) == (1, True), said
        code, said = await mesh.run("mesh", "open", keys=BOTH, state="bobs")
        assert (code, "was not ordered from here" in said) == (2, True), said


@pytest.mark.usefixtures("impatient")
async def test_a_coordinator_of_the_former_operators_is_refused_by_a_console_that_knows(mesh: Mesh) -> None:
    async with mesh.up() as first:
        await replace_carol(mesh)
        first.stop.cancel()
    chain = (mesh.home / "operators.signed").read_bytes()
    (mesh.home / "operators.signed").unlink()
    async with mesh.coordinator():
        # Whoever has two of the old keys, and a console that has seen nothing, opens a term.
        await mesh.data(
            *("mesh", "open", "--term", "2", "--policy", mesh.file("policy.toml")), keys=BOTH, state="thief"
        )
        code, said = await mesh.run("mesh", "status", wait=1)
        assert (code, "state-rolled-back" in said) == (3, True) or "state-rolled-back" in said, said
    (mesh.home / "operators.signed").write_bytes(chain)


async def test_a_change_can_be_published_to_a_coordinator_that_was_just_started(mesh: Mesh) -> None:
    words = (*new_words(mesh), "--policy", mesh.file("policy.toml"))
    async with mesh.coordinator() as coordinator:
        await mesh.data(*words, keys=("alice",))
        sign_offline(mesh, "operators.change", "bob", "dave", "erin", policy="policy.toml")
        await mesh.data("operators", "publish", mesh.file("operators.change"), keys=("dave",))
        await mesh.data("mesh", "open", keys=("dave", "erin", "alice"))
        standing = coordinator.service.core.authority.standing
        assert (standing.term, standing.policy_version, standing.council.version) == (1, 1, 1)


async def test_a_coordinator_that_was_started_meanwhile_is_not_given_another_ones_order(mesh: Mesh) -> None:
    async with mesh.up() as first:
        await mesh.data(*new_words(mesh), keys=("alice",))
        sign_offline(mesh, "operators.change", "bob", "dave", "erin")
        first.stop.cancel()
    async with mesh.up() as second:
        code, said = await mesh.run("operators", "publish", mesh.file("operators.change"))
        assert (code, "another order" in said) == (1, True), said
        assert second.service.core.authority.standing.council.version == 0


def test_it_is_signed_apart_and_joined(mesh: Mesh) -> None:
    words = (*new_words(mesh), "--policy", mesh.file("policy.toml"))
    change = mesh.home / "operators.change"
    code, said = run_offline(mesh, *words, "--mesh", mesh.file("anchor.cbor"))
    assert code == 0, said
    made = change.read_bytes()
    for name in ("alice", "bob", "dave", "erin"):
        change.write_bytes(made)
        sign_offline(mesh, "operators.change", name, policy="policy.toml")
        (mesh.home / f"by-{name}").write_bytes(change.read_bytes())
    change.write_bytes(made)
    others = [mesh.file(f"by-{name}") for name in ("erin", "alice", "dave", "bob")]
    code, said = run_offline(mesh, "operators", "join", str(change), *others, "--json")
    assert code == 0, said
    told = json.JSONDecoder().raw_decode(said)[0]
    assert (told["complete"], told["signed"]) == (True, ["alice", "bob", "dave", "erin"])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--remove", "mallory"), "'mallory' is no operator"),
        (("--add", "alice.pub"), "alice is an operator already"),
        (("--remove", "carol", "--threshold", "1"), "more than half"),
        (("--threshold", "2"), "nothing would change"),
        (("--remove", "carol", "--remove", "bob", "--remove", "alice"), "more than half"),
        (("--add", "phrase"), "no operator's public key"),
        (("--remove", "carol", "--threshold", "3"), "no more than all"),
    ],
)
def test_what_cannot_follow_is_not_written(mesh: Mesh, words: tuple[str, ...], text: str) -> None:
    newcomer(mesh, "alice")
    named = [mesh.file(word) if Path(mesh.file(word)).exists() else word for word in words]
    out = mesh.home / "bad.change"
    code, said = run_offline(
        mesh,
        *("operators", "new", "--reason", "x", "--mesh", mesh.file("anchor.cbor")),
        *named,
        "--out",
        str(out),
    )
    assert code == 2, said
    assert text in " ".join(said.split()), said
    assert not out.exists()


def test_a_change_signs_for_nobody_else_and_no_damaged_file(mesh: Mesh) -> None:
    newcomer(mesh, "mallory")
    code, said = run_offline(mesh, *new_words(mesh), "--mesh", mesh.file("anchor.cbor"))
    assert code == 0, said
    file = mesh.home / "operators.change"
    code, said = run_offline(mesh, "operators", "sign", str(file), "--key", mesh.file("mallory.key"))
    assert (code, "none of this mesh's operators" in " ".join(said.split())) == (2, True), said
    whole = file.read_bytes()
    for data in (b"", whole[:-1], b"\x80", whole + b"\0"):
        file.write_bytes(data)
        code, said = run_offline(mesh, "operators", "show", str(file))
        assert (code, "damaged" in said) == (2, True), said


def test_changes_of_another_mesh_or_damaged_ones_beside_the_anchor_are_an_error(mesh: Mesh) -> None:
    for data in (b"", b"\x81\x80", codec.encode(())[:0] + b"\xff"):
        (mesh.home / "operators.signed").write_bytes(data)
        code, said = run_offline(mesh, "operators", "show", "--mesh", mesh.file("anchor.cbor"))
        assert (code, "operators.signed" in said) == (2, True), said


def test_nothing_kept_is_nothing_known(mesh: Mesh, tmp_path: Path) -> None:
    assert Kept(tmp_path / "other", mesh.mesh.id).council(mesh.anchor) == mesh.anchor
    assert [each.name for each in mesh.anchor.operators] == list(NAMES)


async def test_signatures_of_who_went_are_left_out_and_versions_of_before_still_read(mesh: Mesh) -> None:
    mesh.write("policy.toml", mesh.policy, signers=3)
    async with mesh.up():
        await replace_carol(mesh)
    anchor = ("--anchor", mesh.file("anchor.cbor"))
    file = mesh.file("policy.toml")
    (mesh.home / "old.signed").write_bytes((mesh.home / "policy.toml.signed").read_bytes())
    code, said = await to_thread.run_sync(plain, mesh, "policy", "show", file, *anchor)
    assert (code, "alice signed it before others followed" in said) == (1, True), said
    # Signed anew, it has dave: what those of before signed counts for nothing and is gone.
    key = ("--key", mesh.file("dave.key"), "--passphrase-file", mesh.file("phrase"))
    code, said = await to_thread.run_sync(plain, mesh, "policy", "sign", file, *key, *anchor)
    assert (code, "1 of 3" in said) == (0, True), said
    # As the version before it reads as it was.
    mesh.write("second.toml", mesh.successor(mesh.policy), signers=0)
    (mesh.home / "second.toml.signed").unlink()
    later = ("policy", "sign", mesh.file("second.toml"), "--previous", mesh.file("old.signed"))
    code, said = await to_thread.run_sync(plain, mesh, *later, *key, *anchor)
    assert (code, "1 of 3" in said) == (0, True), said


async def test_a_log_is_verified_by_whoever_ordered_its_term(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE, mesh.file("fetching"))
    fetch = ["audit", "fetch", "--dir", str(mesh.home), "--policy", mesh.file("policy.toml.signed")]
    fetch += ("--url", mesh.url, "--key", mesh.file("alice.key"), "--passphrase-file", mesh.file("phrase"))
    async with mesh.up():
        code, said = await to_thread.run_sync(plain, mesh, *fetch)
        assert code == 0, said
        await replace_carol(mesh)
        mesh.home.joinpath("operators.signed").unlink()
        # The console that fetches learns of the change, and writes it down for who verifies.
        code, said = await to_thread.run_sync(plain, mesh, *fetch)
        assert code == 0, said
        assert mesh.home.joinpath("operators.signed").exists()
    # Its first line has the order as alice and bob signed it: that set is one of the chain.
    code, said = await to_thread.run_sync(plain, mesh, "audit", "verify", "--dir", str(mesh.home))
    assert (code, "verified" in said) == (0, True), said


def plain(mesh: Mesh, *words: str) -> tuple[int, str]:
    """Run a command that takes no console's memory."""
    mesh.capture.readouterr()
    code = cli.run([*words])
    said = mesh.capture.readouterr()
    return code, " ".join((said.out + said.err).split())


async def test_status_says_which_set_is_in_force(mesh: Mesh) -> None:
    async with mesh.up():
        before = await mesh.data("mesh", "status")
        assert (before["operators_version"], before["operators_hash"]) == (0, mesh.mesh.id.hex())
        await replace_carol(mesh)
        after = await mesh.data("mesh", "status")
        assert after["operators_version"] == 1
        memory = Kept(mesh.home / "state", mesh.mesh.id).memory()
        assert (memory.operators_version, memory.operators_hash.hex()) == (1, after["operators_hash"])


@pytest.mark.parametrize("policy", ["policy.toml.signed", ""], ids=["as lab keys writes it", "none"])
async def test_the_log_is_fetched_with_whatever_policy_lies_beside_the_anchor(
    mesh: Mesh, policy: str
) -> None:
    async with mesh.up():
        if not policy:
            (mesh.home / "policy.toml.signed").unlink()
        for state in ("state", "of a new console"):
            code, said = await mesh.run("audit", "fetch", "--dir", str(mesh.home), state=state)
            assert (code, "entries of term 1" in said) == (0, True), said
        code, said = await mesh.run("audit", "fetch", "--dir", str(mesh.home), "--policy", mesh.file("no"))
        assert (code, "cannot read" in said) == (2, True), said
