"""Brokers that lie to a console, coordinators that are not the one: nothing is done, nothing goes back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from console.operating.kept import Kept
from coordinator.audit import AuditLog
from lab.broker import Broker
from lab.tap import Script, Tap, open_tap
from lab.tap.script import Drop, Match, Replay
from lab.tap.stream import Towards
from schemas.messages import Event
from schemas.subjects import Kind
from tests.operating.world import Mesh

pytestmark = pytest.mark.anyio


@pytest.fixture
async def tap(broker: Broker, tmp_path: Path) -> AsyncIterator[Tap]:
    """Whoever owns the broker, on the console's own connection."""
    async with open_tap(broker.url, tmp_path / "wire", Script(seed=11)) as opened:
        yield opened


def receipts(mesh: Mesh) -> list[Path]:
    return sorted(Kept(mesh.home / "state", mesh.mesh.id).root.rglob("receipts/*.cbor"))


@pytest.mark.usefixtures("impatient")
async def test_a_receipt_that_is_withheld_is_not_called_done_and_can_be_asked_for_again(
    mesh: Mesh, tap: Tap
) -> None:
    async with mesh.up() as coordinator:
        url, held = await tap.listen("console"), receipts(mesh)
        mesh.write("second.toml", mesh.successor(mesh.policy, rules=()))
        adopted = coordinator.service.core.authority
        rule = tap.script.add(
            "withhold the receipt",
            # From the moment at which the policy is in force the console hears nothing in its session.
            Match(
                kind=Kind.SESSION,
                towards=Towards.PARTY,
                where=lambda _: adopted.standing.policy_version == 2,
            ),
            Drop(),
        )
        code, said = await mesh.run("policy", "publish", mesh.file("second.toml"), url=url)
        assert code == 3, said
        assert "not known whether this is in force" in said
        assert adopted.standing.policy_version == 2
        assert receipts(mesh) == held
        # Once the broker lets it through, the same command has the receipt of the same entry.
        tap.script.remove(rule)
        told = await mesh.data("policy", "publish", mesh.file("second.toml"), url=url)
        assert told["receipts"][0]["policy_version"] == 2
        assert len(receipts(mesh)) == len(held) + 1


async def test_frames_of_an_older_receipt_played_again_are_no_receipt(mesh: Mesh, tap: Tap) -> None:
    # With each answer in the console's session comes one of before it.
    async with mesh.up() as coordinator:
        url = await tap.listen("console")
        told = await mesh.data("policy", "publish", mesh.file("policy.toml"), url=url)
        tap.script.add("replay", Match(kind=Kind.SESSION, towards=Towards.PARTY), Replay(1))
        for _ in range(2):
            again = await mesh.data("policy", "publish", mesh.file("policy.toml"), url=url)
            assert again["receipts"][0]["log_index"] == told["receipts"][0]["log_index"]
        assert coordinator.service.core.authority.standing.policy_version == 1


@pytest.mark.usefixtures("impatient")
async def test_a_session_of_which_nothing_arrives_ends_with_3(mesh: Mesh, tap: Tap) -> None:
    async with mesh.up() as coordinator:
        url = await tap.listen("console")
        tap.script.add("withhold", Match(kind=Kind.SESSION, towards=Towards.BROKER), Drop())
        mesh.write("second.toml", mesh.successor(mesh.policy))
        code, said = await mesh.run("policy", "publish", mesh.file("second.toml"), url=url, wait=0)
        assert code == 3, said
        assert coordinator.service.core.authority.standing.policy_version == 1


@pytest.mark.usefixtures("impatient")
async def test_other_code_on_a_genuine_machine_is_sent_nothing(mesh: Mesh) -> None:
    async with mesh.coordinator(code="other") as coordinator:
        code, said = await mesh.run(
            "mesh", "open", "--policy", mesh.file("policy.toml"), keys=("alice", "bob"), wait=0
        )
        assert (code, "measurement-not-in-policy" in said) == (1, True), said
        assert coordinator.service.core.authority.standing.term == 0
        # It heard a random challenge and nothing more: no session was begun.
        assert len(coordinator.service.core._links) == 0


async def test_a_copy_of_the_coordinator_that_nobody_ordered_puts_nothing_in_force(mesh: Mesh) -> None:
    async with mesh.up() as genuine:
        genuine.stop.cancel()
        async with mesh.coordinator() as copy:
            mesh.write("second.toml", mesh.successor(mesh.policy))
            code, said = await mesh.run("policy", "publish", mesh.file("second.toml"))
            assert (code, "term-not-accepted" in said) == (1, True), said
            assert copy.service.core.authority.standing.policy is None


async def test_a_coordinator_that_was_replaced_is_refused(mesh: Mesh) -> None:
    async with mesh.up() as first:
        first.stop.cancel()
        async with mesh.up() as second:
            second.stop.cancel()
            # The broker brings the console to the one of before, which runs on with its old state.
            async with mesh.again(first):
                code, said = await mesh.run("mesh", "status", wait=0)
                assert (code, "state-rolled-back" in said) == (1, True), said
                assert "term 1, and term 2 was seen here" in said
                # A console that has seen nothing has nothing to compare.
                assert (await mesh.run("mesh", "status", state="new"))[0] == 0


async def test_two_coordinators_of_one_term_are_told_apart_by_their_keys(mesh: Mesh) -> None:
    async with mesh.up() as first:
        first.stop.cancel()
        # Operators, or whoever has enough of their keys, sign another order of the same term elsewhere.
        async with mesh.up(state="elsewhere") as second:
            code, said = await mesh.run("mesh", "status")
            assert (code, "equivocation" in said) == (1, True), said
            for each in (first, second):
                assert each.service.core.keys.signing.public.hex() in said


async def test_a_coordinator_whose_policy_another_console_never_saw_is_shown_as_a_fork(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        authority = coordinator.service.core.authority
        second, other = mesh.successor(mesh.policy, rules=()), mesh.successor(mesh.policy)
        mesh.write("second.toml", second)
        before = authority.standing
        await mesh.data("policy", "publish", mesh.file("second.toml"))
        # Its state is put back, and it is given another policy of the version that the console saw.
        authority.standing = before
        mesh.write("other.toml", other)
        signed = mesh.signed("other.toml")
        authority.adopt(Event("policy", signed.policy, signed.profile, ()), before.adopted)
        code, said = await mesh.run("mesh", "status")
        assert (code, "forked" in said) == (1, True), said


async def test_after_a_receipt_a_longer_log_of_another_history_is_refused_all_the_same(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        # Given a head that was seen, and after it a receipt, which tells none.
        await mesh.data("mesh", "status")
        await mesh.data("agents", "evict", "ab" * 32, "--anyway", keys=("alice", "bob"))
        size = coordinator.service.core.authority.audit.size
        # When the coordinator's log is another one, and longer.
        other = AuditLog(mesh.mesh, lambda _: None)
        other.term = 1
        for number in range(size + 4):
            other.append("lease-lapsed", now=number, ended=number)
        coordinator.service.core.authority.audit = other
        # Then it cannot prove that it grew from what was seen.
        code, said = await mesh.run("mesh", "status")
        assert (code, "equivocation" in said) == (1, True), said


async def test_a_log_that_became_shorter_is_refused(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        await mesh.data("mesh", "status")
        audit = coordinator.service.core.authority.audit
        shorter = AuditLog(mesh.mesh, lambda _: None)
        shorter.term = 1
        shorter.append("lease-lapsed", now=0, ended=0)
        coordinator.service.core.authority.audit = shorter
        assert shorter.size < audit.size
        code, said = await mesh.run("mesh", "status")
        assert (code, "state-rolled-back" in said) == (1, True), said
        assert "entries" in said
