"""What operators decided outlives coordinators and mishaps: revocations, policies, orders, said again."""

import json
from pathlib import Path

import pytest

from console.operating.kept import Kept
from console.operating.memory import Sighting
from schemas.errors import UsageError
from sealing.keys import SigningKey
from tests.operating.world import Coordinator, Mesh, kept_receipt, signed_revocation

pytestmark = pytest.mark.anyio

CHIP = ("agents", "evict", "--chip", "c0" * 16, "--anyway")
BOTH = ("alice", "bob")


def revoked(coordinator: Coordinator) -> list[str]:
    return [each.value for each in coordinator.service.core.authority.ledger.revoked()]


@pytest.mark.parametrize("words", [("mesh", "status"), ("policy", "publish", "policy.toml")])
async def test_a_term_that_was_opened_elsewhere_is_told_the_revocations_of_before(
    mesh: Mesh, words: tuple[str, ...]
) -> None:
    async with mesh.up() as first:
        await mesh.data("mesh", "status", state="bobs")
        await mesh.data(*CHIP, keys=BOTH)
        first.stop.cancel()
    async with mesh.up(state="bobs") as second:
        assert revoked(second) == []
        code, said = await mesh.run(*(mesh.file(word) if "." in word else word for word in words))
        assert (code, "term 2 was told 1 revocation of" in said) == (0, True), said
        assert revoked(second) == ["c0" * 16]
        # Once is enough.
        code, said = await mesh.run("mesh", "status")
        assert (code, "was told" in said) == (0, False), said


async def test_what_could_keep_no_receipt_is_not_sent(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        folder = Kept(mesh.home / "state", mesh.mesh.id).root / "receipts"
        folder.rename(folder.with_name("elsewhere"))
        folder.write_bytes(b"")
        code, said = await mesh.run(*CHIP, keys=BOTH)
        assert (code, "receipts" in said) == (2, True), said
        assert revoked(coordinator) == []


def test_a_revocation_without_a_receipt_is_unheard_until_it_has_one_or_was_refused(tmp_path: Path) -> None:
    kept = Kept(tmp_path, b"m" * 32)
    kept.note(Sighting(3, SigningKey(b"k" * 32).public, 0, bytes(32), 1, None))
    event, refused = signed_revocation(b"1"), signed_revocation(b"2")
    for each in (event, refused):
        kept.pend(each)
    kept.unpend(refused)
    assert kept.revocations() == kept.unheard(1) == [event]
    kept.keep(kept_receipt(event, 3, 7), term=3, index=7)
    assert (kept.unheard(3), kept.unheard(4)) == ([], [event])
    assert not list(kept.root.rglob("*.pending"))


def test_of_what_was_said_of_a_quarantine_the_last_word_is_kept(tmp_path: Path) -> None:
    kept, one, two = Kept(tmp_path, b"m" * 32), b"1" * 32, b"2" * 32
    kept.note(Sighting(1, SigningKey(b"k" * 32).public, 0, bytes(32), 1, None))
    said = [
        signed_revocation(instance, kind, time)
        for instance, kind, time in (
            (one, "quarantine", 1),
            (one, "lift", 2),
            (two, "lift", 3),
            (two, "quarantine", 3),
            (one, "instance", 1),
        )
    ]
    for index, event in enumerate(said):
        kept.keep(kept_receipt(event, 1, index), term=1, index=index)
    assert kept.revocations() == [said[1], said[3], said[4]]


async def test_an_overtaken_policy_does_not_come_back_with_a_new_term(mesh: Mesh) -> None:
    async with mesh.up() as first:
        mesh.write("second.toml", mesh.successor(mesh.policy, rules=()))
        await mesh.data("policy", "publish", mesh.file("second.toml"))
        first.stop.cancel()
    async with mesh.coordinator() as second:
        policy, out = mesh.file("policy.toml"), mesh.file("order.act")
        await mesh.data("order", "new", "--policy", policy, "--out", out, keys=BOTH, state="new")
        for words in (
            ("mesh", "open", "--policy", policy),
            ("order", "new", "--policy", policy, "--out", mesh.file("other.act")),
            ("order", "send", out, "--policy", policy),
            ("order", "send", out),
            ("policy", "publish", policy),
        ):
            code, said = await mesh.run(*words, keys=BOTH)
            assert (code, "state-rolled-back" in said) == (1, True), said
        assert second.service.core.authority.standing.term == 0
        await mesh.data("mesh", "open", keys=BOTH)
        assert second.service.core.authority.standing.policy_version == 2


@pytest.mark.parametrize("target", ["nowhere", "seen.cbor"])
def test_a_memory_that_is_a_link_to_nowhere_is_damaged(tmp_path: Path, target: str) -> None:
    kept = Kept(tmp_path, b"m" * 32)
    kept.root.mkdir()
    (kept.root / "seen.cbor").symlink_to(target)
    (kept.root / "policy.signed").symlink_to("nowhere")
    with pytest.raises(UsageError, match="damaged"):
        kept.memory()
    with pytest.raises(UsageError, match="cannot read"):
        kept.policy()


async def test_opening_a_term_again_sends_the_same_order(mesh: Mesh) -> None:
    words = ("mesh", "open", "--policy", mesh.file("policy.toml"))
    async with mesh.coordinator() as coordinator:
        first = await mesh.data(*words, keys=BOTH)
        again = await mesh.data(*words, keys=BOTH)
        assert first["receipts"][0]["event"] == again["receipts"][0]["event"]
        assert first["receipts"][0]["log_index"] == again["receipts"][0]["log_index"]
        assert coordinator.service.core.authority.standing.term == 1
        code, said = await mesh.run(*words, keys=BOTH, state="new")
        assert (code, "sealbus policy publish" in said) == (2, True), said


async def test_without_a_broker_there_is_one_json_object_too(mesh: Mesh) -> None:
    code, said = await mesh.run("mesh", "status", "--json", url="nats://127.0.0.1:1", wait=0)
    assert code == 3, said
    told = json.loads(said[: said.index("}") + 1])
    assert (told["done"], told["reason"]) == (False, "unavailable")
    assert told["detail"]
