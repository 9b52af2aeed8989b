"""A change of operators that one of them spoils, or that the mesh has overtaken, leaves nothing half done."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from console.operating import acts, succession
from console.operating.acts import REVOCATION, Act
from console.operating.kept import MAX_KEPT, Kept
from console.operating.succession import Change
from console.policy.signatures import NOBODY
from schemas import codec
from schemas.documents import OperatorKey, RevocationOrder
from schemas.errors import UsageError
from schemas.limits import DAY
from schemas.messages import CHIP, QUARANTINE, Event
from tests.operating.test_operating_operators import BOTH, new_words, newcomer, run_offline, sign_offline
from tests.operating.test_operating_roll import CHIP_ID, EVICT, apart, revoked
from tests.operating.world import Mesh

pytestmark = pytest.mark.anyio

NOW = time.time_ns() // 1_000_000
SOMEBODY = "ab" * 32


@pytest.fixture
def mesh(mesh: Mesh) -> Mesh:
    for name in ("dave", "erin"):
        newcomer(mesh, name)
    return mesh


def on_revocations(of: Callable[[Act], Act]) -> Callable[[Change], Change]:
    return lambda change: replace(
        change, acts=tuple(of(act) if act.kind == REVOCATION else act for act in change.acts)
    )


def rewrite(file: Path, how: Callable[[Change], Change]) -> None:
    file.write_bytes(codec.encode(how(codec.decode(file.read_bytes(), Change))))


STRIPPED = {
    "revocation": on_revocations(lambda act: replace(act, signatures=act.signatures[:1])),
    "policy": lambda change: replace(change, signed=NOBODY),
}


@pytest.mark.parametrize("what", STRIPPED)
async def test_what_is_signed_again_by_too_few_is_not_complete_and_nothing_is_sent(
    mesh: Mesh, what: str
) -> None:
    file = mesh.home / "operators.change"
    async with mesh.up() as coordinator:
        await mesh.data(*EVICT, "--anyway", keys=BOTH)
        await mesh.data(*new_words(mesh), keys=("alice",))
        sign_offline(mesh, file.name, "bob", "dave", "erin")
        rewrite(file, STRIPPED[what])
        code, said = await mesh.run("operators", "show", str(file))
        lacking = {"revocation": "0 of before and 2 of after", "policy": "0 of before and 3 of after"}[what]
        assert (code, f"not yet: {lacking} have to sign" in said) == (1, True), said
        assert "erin has not signed all that is signed again" in said
        code, said = await mesh.run("operators", "publish", str(file))
        assert code == 1, said
        assert coordinator.service.core.authority.standing.council.version == 0

        # Whoever's signature is gone signs once more.
        sign_offline(mesh, file.name, "bob", "dave", "erin")
        code, said = await mesh.run("operators", "show", str(file))
        assert (code, "complete" in said, "erin has not" in said) == (0, True, False), said
        done = await mesh.data("operators", "publish", str(file))
        assert [each["kind"] for each in done["receipts"]] == ["operators", "revocation"]


async def test_what_counts_for_nothing_stops_no_change(mesh: Mesh) -> None:
    file = mesh.home / "operators.change"
    async with mesh.up() as coordinator:
        await mesh.data(*EVICT, "--anyway", keys=BOTH)
        await mesh.data(*new_words(mesh), keys=("alice",))
        sign_offline(mesh, file.name, "bob", "dave")
        junk = (b"junk",)

        def spoil(change: Change) -> Change:
            signed = type(change.signed)(change.signed.policy + junk, junk + change.signed.profile)
            spoilt = tuple(replace(act, signatures=(*junk, *act.signatures)) for act in change.acts)
            return replace(change, acts=spoilt, signed=signed)

        rewrite(file, spoil)
        (mesh.home / "copy").write_bytes(file.read_bytes())
        sign_offline(mesh, file.name, "erin")
        code, said = run_offline(mesh, "operators", "join", str(file), mesh.file("copy"))
        assert code == 0, said
        rewrite(file, spoil)
        code, said = await mesh.run("operators", "show", str(file))
        assert (code, "complete" in said) == (0, True), said
        await mesh.data("operators", "publish", str(file))
        assert coordinator.service.core.authority.standing.council.version == 1


async def test_a_quarantine_that_ended_meanwhile_stops_nothing_that_comes_after_it(mesh: Mesh) -> None:
    file = mesh.file("operators.change")
    async with mesh.up() as first:
        await mesh.data("agents", "quarantine", SOMEBODY, "--anyway", keys=BOTH)
        await mesh.data(*EVICT, "--anyway", keys=BOTH)
        await mesh.data(*new_words(mesh), keys=("alice",))
        sign_offline(mesh, "operators.change", "bob", "dave", "erin")
        await mesh.data("agents", "lift", SOMEBODY, "--anyway", keys=BOTH)
        for _ in range(2):  # and the same again changes nothing
            done = await mesh.data("operators", "publish", file)
            assert [each["kind"] for each in done["receipts"]] == ["operators", "revocation"]
        assert (mesh.home / "operators.signed").exists()
        first.stop.cancel()
    async with mesh.coordinator() as second:
        await mesh.data("mesh", "open", keys=("dave", "erin", "bob"))
        assert second.service.core.authority.standing.policy_version == 1
        assert revoked(second) == [CHIP_ID]


async def test_what_is_in_force_is_kept_before_its_revocations_are_sent(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UsageError("no revocation gets through")

    async with mesh.up():
        await mesh.data(*new_words(mesh), keys=("alice",))
        sign_offline(mesh, "operators.change", "bob", "dave", "erin")
        kept = Kept(mesh.home / "state", mesh.mesh.id)
        before = kept.policy()
        monkeypatch.setattr("console.operating.operators_commands.bring", refuse)
        code, said = await mesh.run("operators", "publish", mesh.file("operators.change"))
        assert (code, "no revocation gets through" in said) == (2, True), said
        assert (mesh.home / "operators.signed").exists()
        assert kept.policy() != before


def change_of(mesh: Mesh, *again: Act, goes: str = "alice") -> Change:
    people = succession.replaced(mesh.anchor, [goes], [OperatorKey("dave", mesh.keys["dave"].public)])
    change = succession.make(mesh.anchor, people, None, reason="r", time=NOW, policy=None, again=())
    return replace(change, acts=again)


@pytest.mark.parametrize("goes", ["alice", "bob"])
def test_junk_beside_a_known_revocation_is_kept_by_nobody(mesh: Mesh, goes: str) -> None:
    evicted = acts.act_of(RevocationOrder(mesh.mesh.id, CHIP, CHIP_ID, "", NOW))
    kept = Kept(mesh.home / "state", mesh.mesh.id)
    kept.keep_known(acts.sign(mesh.anchor, mesh.mesh, evicted, [mesh.keys["alice"]]))
    change = succession.sign(mesh.anchor, change_of(mesh, evicted, goes=goes), [mesh.keys["carol"]])
    junk = tuple(os.urandom(200_000) for _ in range(40))
    file = mesh.home / "operators.change"
    spoil = on_revocations(lambda act: replace(act, signatures=(*act.signatures, *junk)))
    file.write_bytes(codec.encode(spoil(change)))
    code, told = apart(mesh, "operators", "sign", str(file), key="alice")
    assert code == 0, told
    (known,) = kept.known()
    assert not set(known.signatures) & set(junk)
    code, told = apart(mesh, *EVICT, "--out", mesh.file("next.act"), key="alice")
    assert (code, "nothing was sent" in told) == (1, True), told


def test_what_could_not_be_read_again_is_not_kept(mesh: Mesh) -> None:
    kept = Kept(mesh.home / "state", mesh.mesh.id)
    act = acts.act_of(RevocationOrder(mesh.mesh.id, CHIP, CHIP_ID, "", NOW))
    kept.keep_known(act)
    many = tuple(bytes([number]) * 1_000_000 for number in range(MAX_KEPT // 1_000_000 + 1))
    with pytest.raises(UsageError, match="too long to be kept"):
        kept.keep_known(replace(act, signatures=many))
    with pytest.raises(UsageError, match="too long to be kept"):
        kept.pend(Event(REVOCATION, many, None, ()))
    assert kept.known() == [act]
    assert kept.revocations() == []


@pytest.mark.parametrize("command", ["show", "sign"])
@pytest.mark.parametrize("what", ["another mesh", "a policy of another mesh", "a time to come"])
def test_a_change_has_nothing_of_another_mesh_or_of_a_time_to_come(
    mesh: Mesh, command: str, what: str
) -> None:
    other = RevocationOrder(b"m" * 32, CHIP, CHIP_ID, "", NOW)
    early = RevocationOrder(mesh.mesh.id, QUARANTINE, SOMEBODY, "", NOW + DAY)
    change, text = {
        "another mesh": (change_of(mesh, acts.act_of(other)), "something of another mesh"),
        "a policy of another mesh": (
            replace(change_of(mesh), policy=codec.encode(replace(mesh.policy, mesh=(b"m" * 32).hex()))),
            "something of another mesh",
        ),
        "a time to come": (
            change_of(mesh, acts.act_of(early)),
            f"the quarantine of instance {SOMEBODY} of ",
        ),
    }[what]
    file = mesh.home / "operators.change"
    file.write_bytes(codec.encode(change))
    more = ("--anyway",) if command == "sign" else ()
    code, told = apart(mesh, "operators", command, str(file), *more, key="alice")
    assert (code, text in told) == (2, True), told
    assert Kept(mesh.home / "state", mesh.mesh.id).known() == []
