"""Who opens a term leaves no revocation out unless everyone who signs the order with them lets it pass."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from msgspec.structs import replace

from agent_runtime.coordination import UnreachableError
from console import cli
from console.operating import acts, drafts
from console.operating.kept import Kept
from console.operating.publishing import open_term
from console.operating.roll import AHEAD, holding
from schemas import codec
from schemas.documents import Order, RevocationOrder
from schemas.errors import UsageError
from schemas.limits import CLOCK_AHEAD, ROLL_MOST
from schemas.messages import CHIP, INSTANCE, LIFT, QUARANTINE, WORKLOAD, Event
from sealing.context import sha256
from sealing.documents import sign_by_operators
from sealing.roll import EMPTY, roll_hash
from tests.operating.world import Coordinator, Mesh

pytestmark = pytest.mark.anyio

CHIP_ID = "c0" * 16
EVICT = ("agents", "evict", "--chip", CHIP_ID)
BOTH = ("alice", "bob")
NOW = time.time_ns() // 1_000_000


def revoked(coordinator: Coordinator) -> list[str]:
    return [each.value for each in coordinator.service.core.authority.ledger.revoked()]


def apart(mesh: Mesh, *words: str, key: str = "", state: str = "state") -> tuple[int, str]:
    """Run a command without a broker; return its exit code and what it said on one line."""
    mesh.capture.readouterr()
    options = ["--state", mesh.file(state), "--passphrase-file", mesh.file("phrase")]
    options += ["--mesh", mesh.file("anchor.cbor")]
    options += ["--key", mesh.file(f"{key}.key")] if key else []
    code = cli.run([*words, *options])
    said = mesh.capture.readouterr()
    return code, " ".join((said.out + said.err).split())


async def alone(mesh: Mesh, *words: str, **options: str) -> tuple[int, str]:
    return await to_thread.run_sync(lambda: apart(mesh, *words, **options))


async def evicted_by_alice_and_carol(mesh: Mesh) -> None:
    """Have alice sign an eviction first, and carol second, who sends it: each has a console of its own."""
    file = mesh.file("evict.act")
    await mesh.data("mesh", "status", keys=("carol",), state="carols")
    code, said = await alone(mesh, *EVICT, "--out", file, key="alice", state="alices")
    assert (code, "nothing was sent" in said) == (1, True), said
    code, said = await alone(mesh, "revoke", "sign", file, key="carol", state="carols")
    assert (code, "complete" in said) == (0, True), said
    await mesh.data("revoke", "send", file, "--anyway", keys=("carol",), state="carols")


async def order_without(mesh: Mesh, instance: str, opener: str) -> Path:
    """Write the order of term 2 as an operator could who would rather the eviction were forgotten."""
    policy_hash = codec.decode((await in_order(mesh, opener)).text, Order).policy_hash
    order = Order(mesh.mesh.id, 2, bytes.fromhex(instance), policy_hash, None, EMPTY, NOW)
    act = acts.sign(mesh.anchor, mesh.mesh, acts.act_of(order), [mesh.keys[opener]])
    file = mesh.home / "without.act"
    file.write_bytes(codec.encode(act))
    return file


async def in_order(mesh: Mesh, opener: str) -> acts.Act:
    out = mesh.home / "honest.act"
    words = ("order", "new", "--policy", mesh.file("policy.toml"), "--out", str(out))
    await mesh.data(*words, keys=(opener,), state=f"{opener}s")
    return acts.decode_act(out.read_bytes(), "it")


@pytest.mark.parametrize(("opener", "second"), [("carol", "alice"), ("bob", "alice"), ("bob", "carol")])
async def test_an_order_that_leaves_out_a_revocation_is_refused_by_whoever_signed_that(
    mesh: Mesh, opener: str, second: str
) -> None:
    async with mesh.up(state="alices") as first:
        await mesh.data("mesh", "status", keys=("bob",), state="bobs")
        await evicted_by_alice_and_carol(mesh)
        assert revoked(first) == [CHIP_ID]
        first.stop.cancel()
    async with mesh.coordinator() as coordinator:
        file = await order_without(mesh, coordinator.instance, opener)
        before = file.read_bytes()
        words = ("order", "sign", str(file), "--policy", mesh.file("policy.toml"))
        code, said = await alone(mesh, *words, key=second, state=f"{second}s")
        text = f"it leaves out 1 revocation of what was sent or signed here: the revocation of chip {CHIP_ID}"
        assert (code, text in said) == (2, True), said
        assert file.read_bytes() == before
        # An order that asks for it is signed, and opens a term in which it holds.
        honest = mesh.file("honest.act")
        if opener == "bob":
            return  # who has neither sent nor signed it asks for nothing
        words = ("order", "sign", honest, "--policy", mesh.file("policy.toml"))
        code, said = await alone(mesh, *words, key=second, state=f"{second}s")
        assert (code, "2 of 2 signatures" in said) == (0, True), said
        assert f"to be revoked before the first policy: 1 revocation revocation of chip {CHIP_ID}" in said
        policy = ("--policy", mesh.file("policy.toml"))
        await mesh.data("order", "send", honest, *policy, keys=(opener,), state=f"{opener}s")
        assert revoked(coordinator) == [CHIP_ID]
        assert coordinator.service.core.authority.standing.policy_version == 1


async def test_whoever_came_by_while_it_held_knows_of_a_revocation_and_refuses_too(mesh: Mesh) -> None:
    async with mesh.up(state="alices") as first:
        await evicted_by_alice_and_carol(mesh)
        # Bob has neither signed nor sent it. Whatever he asks the coordinator, he is told.
        await mesh.data("mesh", "status", keys=("bob",), state="bobs")
        await mesh.data("mesh", "status", keys=("bob",), state="bobs")
        kept = Kept(mesh.home / "bobs", mesh.mesh.id)
        assert (kept.memory().revocations, len(kept.known()), kept.revocations()) == (1, 1, [])
        first.stop.cancel()
    async with mesh.coordinator() as coordinator:
        file = await order_without(mesh, coordinator.instance, "carol")
        policy = ("--policy", mesh.file("policy.toml"))
        code, said = await alone(mesh, "order", "sign", str(file), *policy, key="bob", state="bobs")
        assert (code, f"the revocation of chip {CHIP_ID}, which the new term" in said) == (2, True), said
        # He can open the term by himself with whom he likes: he has it whole.
        await mesh.data("mesh", "open", *policy, keys=("bob", "alice"), state="bobs")
        assert revoked(coordinator) == [CHIP_ID]
        assert coordinator.service.core.authority.standing.policy_version == 1


async def test_the_end_of_a_quarantine_that_was_seen_is_in_no_roll_and_ends_it(mesh: Mesh) -> None:
    instance = "ab" * 32
    async with mesh.up(state="alices"):
        for command in ("quarantine", "lift"):
            await mesh.data("agents", command, instance, "--anyway", keys=BOTH, state="alices")
            await mesh.data("mesh", "status", keys=("carol",), state="carols")
            (mesh.home / "order.act").unlink(missing_ok=True)
            words = ("order", "new", "--instance", "cd" * 32, "--out", mesh.file("order.act"))
            told = await mesh.data(*words, keys=("carol",), state="carols")
            asked = [instance] if command == "quarantine" else []
            assert [each["value"] for each in told["roll"]] == asked


async def test_a_lifting_that_too_few_have_signed_ends_nothing(mesh: Mesh) -> None:
    instance = "ab" * 32
    async with mesh.up():
        await mesh.data("agents", "quarantine", instance, "--anyway", keys=BOTH)
        lift = ("agents", "lift", instance, "--out", mesh.file("lift.act"))
        assert (await alone(mesh, *lift, key="alice"))[0] == 1
        words = ("order", "new", "--instance", "cd" * 32, "--out", mesh.file("order.act"))
        told = await mesh.data(*words)
        assert [each["value"] for each in told["roll"]] == [instance]


class LostLine:
    """A line on which nothing arrives."""

    def __init__(self) -> None:
        self.kept: list[Event] = []

    def keep(self, event: Event) -> None:
        self.kept.append(event)

    async def send(self, event: Event) -> None:
        raise UnreachableError("no receipt came")


async def test_the_roll_is_kept_before_the_order_is_sent(mesh: Mesh) -> None:
    # An order that is in force, and whose roll nobody has, would leave its term empty.
    line, roll = LostLine(), acts.roll_event([bytes(32)])
    with pytest.raises(UnreachableError):
        await open_term(line, Event("order", (), None, ()), roll, (), None)  # type: ignore[arg-type]
    assert line.kept == [roll]
    kept = Kept(mesh.home / "state", mesh.mesh.id)
    kept.pend(roll)
    assert kept.roll(roll_hash([bytes(32)])) == roll
    assert kept.roll(roll_hash([])) is None


async def test_what_a_coordinator_shows_and_no_threshold_signed_is_not_kept(mesh: Mesh) -> None:
    async with mesh.up() as coordinator:
        text = codec.encode(RevocationOrder(mesh.mesh.id, CHIP, CHIP_ID, "", NOW))
        order = codec.decode(text, RevocationOrder)
        (one,) = sign_by_operators([mesh.keys["alice"]], mesh.anchor, "revocation", text)
        coordinator.service.core.authority.revocations.enter(order, (one,), 1)
        code, said = await mesh.run("mesh", "status", keys=("bob",), state="bobs")
        assert (code, "that no threshold of operators signed" in said) == (1, True), said
        assert Kept(mesh.home / "bobs", mesh.mesh.id).known() == []


@pytest.mark.usefixtures("impatient")
async def test_a_term_waits_for_what_its_opener_cannot_bring(mesh: Mesh) -> None:
    async with mesh.up(state="alices") as first:
        await evicted_by_alice_and_carol(mesh)
        first.stop.cancel()
    async with mesh.coordinator() as coordinator:
        out, policy = mesh.file("order.act"), mesh.file("policy.toml")
        # Alice signed it and holds her own signature alone: in one step nothing is sent.
        code, said = await mesh.run("mesh", "open", "--policy", policy, keys=BOTH, state="alices")
        assert (code, "too few have signed here what the term would wait for" in said) == (2, True), said
        assert coordinator.service.core.authority.standing.term == 0
        code, said = await mesh.run(
            "order", "new", "--policy", policy, "--out", out, keys=BOTH, state="alices"
        )
        assert (code, "the term waits for what" in said) == (0, True), said
        code, said = await mesh.run("order", "send", out, "--policy", policy, state="alices")
        assert (code, "revocations-missing" in said, "1 of 1 revocation" in said) == (1, True, True), said
        assert "which too few have signed here" in said  # whose turn it is: the file is this console's own
        authority = coordinator.service.core.authority
        assert (authority.standing.term, authority.standing.policy_version) == (2, 0)
        # A console that knows no policy yet is told what it lacks.
        code, said = await mesh.run("mesh", "status", keys=("bob",), state="bobs", wait=1)
        assert (code, "--profile FILE.signed" in said) == (3, True), said
        # Any command of whoever has it whole brings it.
        words = ("mesh", "status", "--profile", mesh.file("policy.toml.signed"))
        code, said = await mesh.run(*words, keys=("carol",), state="carols")
        assert (code, "was told 1 revocation of" in said) == (0, True), said
        await mesh.data("order", "send", out, "--policy", policy, state="alices")
        assert (authority.standing.policy_version, revoked(coordinator)) == (1, [CHIP_ID])


async def test_what_too_few_had_signed_here_is_signed_by_those_who_open_the_term(mesh: Mesh) -> None:
    async with mesh.up(state="alices") as first:
        await evicted_by_alice_and_carol(mesh)
        first.stop.cancel()
    async with mesh.coordinator() as coordinator:
        (file,) = (Kept(mesh.home / "alices", mesh.mesh.id).root / "revocations").iterdir()
        code, said = await alone(mesh, "revoke", "sign", str(file), key="bob", state="alices")
        assert (code, "complete" in said) == (0, True), said
        await mesh.data("mesh", "open", keys=BOTH, state="alices")
        assert revoked(coordinator) == [CHIP_ID]


async def test_what_was_given_up_is_left_out_by_removing_its_file(mesh: Mesh) -> None:
    async with mesh.coordinator() as coordinator:
        policy = mesh.file("policy.toml")
        code, said = await alone(mesh, *EVICT, "--out", mesh.file("evict.act"), key="alice")
        assert code == 1, said
        code, said = await mesh.run("mesh", "open", "--policy", policy, keys=BOTH)
        assert (code, "signed" in said) == (2, True), said
        (file,) = (Kept(mesh.home / "state", mesh.mesh.id).root / "revocations").iterdir()
        file.unlink()
        await mesh.data("mesh", "open", "--policy", policy, keys=BOTH)
        assert coordinator.service.core.authority.standing.policy_version == 1


async def test_opening_a_term_again_brings_the_same_roll(mesh: Mesh) -> None:
    async with mesh.up() as first:
        await mesh.data(*EVICT, "--anyway", keys=BOTH)
        first.stop.cancel()
    async with mesh.coordinator() as coordinator:
        authority = coordinator.service.core.authority
        roll = authority._roll
        await mesh.data("mesh", "open", keys=BOTH)
        # It was killed after the order, and knows of more by now: the term asks for what was ordered.
        roll._wanted = None
        await mesh.data("agents", "evict", "--chip", "d1" * 16, "--anyway", keys=BOTH)
        await mesh.data("mesh", "open", keys=BOTH)
        assert len(roll._wanted or ()) == 1


async def test_an_order_is_shown_with_what_it_asks_for(mesh: Mesh) -> None:
    known = RevocationOrder(mesh.mesh.id, CHIP, CHIP_ID, "", NOW)
    signed = acts.sign(mesh.anchor, mesh.mesh, acts.act_of(known), [mesh.keys["alice"]])
    (mesh.home / "known.act").write_bytes(codec.encode(signed))
    code, said = apart(mesh, "revoke", "sign", mesh.file("known.act"), key="bob")
    assert code == 0, said
    roll = (sha256(codec.encode(known)), b"\xff" * 32)
    order = Order(mesh.mesh.id, 1, bytes(32), None, None, roll_hash(roll), NOW)
    file = mesh.home / "order.act"
    file.write_bytes(codec.encode(acts.act_of(order, roll)))
    code, said = apart(mesh, "order", "sign", str(file), key="bob")
    assert (code, f"revocations {roll_hash(roll).hex()}" in said) == (0, True), said
    assert "to be revoked before the first policy: 2 revocations" in said
    assert f"revocation of chip {CHIP_ID}" in said
    assert f"{'ff' * 32}, which is unknown here" in said
    code, said = apart(mesh, "order", "show", str(file), "--json")
    told = json.loads(said)
    assert told["revocations"] == roll_hash(roll).hex()
    unknown: dict[str, Any] = {"revocation": "ff" * 32, "revokes": None, "value": None}
    assert unknown in told["roll"]
    assert {"revocation": roll[0].hex(), "revokes": "chip", "value": CHIP_ID} in told["roll"]
    # `join` and `sign` keep the roll.
    code, said = apart(mesh, "order", "join", str(file), str(file), "--json")
    assert len(json.loads(said)["roll"]) == 2


def test_an_order_whose_roll_is_another_is_nothing_to_sign(mesh: Mesh) -> None:
    one, two = b"\x01" * 32, b"\x02" * 32
    act = acts.act_of(Order(mesh.mesh.id, 1, bytes(32), None, None, roll_hash([one, two]), NOW), [one, two])
    data = codec.encode(act)
    assert acts.decode_act(data, "it").roll == (one, two)
    for roll in ((), (one,), (two, one), (one, one, two)):
        with pytest.raises(UsageError, match="it is damaged"):
            acts.decode_act(codec.encode(replace(act, roll=roll)), "it")


@pytest.mark.parametrize("value", ["AB" * 32, "ab" * 31, "x"])
def test_what_no_coordinator_takes_is_not_signed(mesh: Mesh, value: str) -> None:
    # The term of an order that asks for it would wait for ever.
    file = mesh.home / "bad.act"
    for kind in (INSTANCE, QUARANTINE):
        file.write_bytes(codec.encode(acts.act_of(RevocationOrder(mesh.mesh.id, kind, value, "", NOW))))
        code, said = apart(mesh, "revoke", "sign", str(file), key="bob")
        assert (code, "names nothing that a coordinator takes" in said) == (2, True), said


@pytest.mark.parametrize("out", ["there.act", "nowhere/revocation.act"])
@pytest.mark.parametrize("words", [EVICT, ("revoke", "new", CHIP, CHIP_ID)], ids=["evict", "new"])
def test_a_command_that_could_not_write_its_file_leaves_no_revocation_behind(
    mesh: Mesh, words: tuple[str, ...], out: str
) -> None:
    (mesh.home / "there.act").write_bytes(b"another's")
    code, said = apart(mesh, *words, "--out", mesh.file(out), key="alice")
    assert (code, out in said) == (2, True), said
    assert Kept(mesh.home / "state", mesh.mesh.id).known() == []
    assert (mesh.home / "there.act").read_bytes() == b"another's"


def test_a_signature_that_could_not_be_written_leaves_no_revocation_behind(mesh: Mesh) -> None:
    act = acts.act_of(RevocationOrder(mesh.mesh.id, CHIP, CHIP_ID, "", NOW))
    file = mesh.home / ("x" * 250)  # one more character, and there is no such file
    file.write_bytes(codec.encode(act))
    code, said = apart(mesh, "revoke", "sign", str(file), key="alice")
    assert (code, "cannot write" in said) == (2, True), said
    assert Kept(mesh.home / "state", mesh.mesh.id).known() == []


def test_a_file_is_as_it_was_if_the_console_cannot_know_of_its_signature(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = mesh.home / "evict.act"
    act = acts.act_of(RevocationOrder(mesh.mesh.id, CHIP, CHIP_ID, "", NOW))
    file.write_bytes(codec.encode(act))

    def full(*_: object) -> None:
        raise UsageError("no space left")

    monkeypatch.setattr(Kept, "keep_known", full)
    code, said = apart(mesh, "revoke", "sign", str(file), key="alice")
    assert (code, "no space left" in said) == (2, True), said
    assert file.read_bytes() == codec.encode(act)
    assert not list(mesh.home.glob(".evict*"))


def test_a_signature_is_given_to_nobody_before_the_console_knows_of_it(mesh: Mesh) -> None:
    kept = Kept(mesh.home / "state", mesh.mesh.id)
    kept.root.mkdir(parents=True)
    (kept.root / "revocations").write_bytes(b"")  # a disk that takes nothing
    out = mesh.home / "evict.act"
    code, said = apart(mesh, *EVICT, "--out", str(out), key="alice")
    assert (code, out.exists()) == (2, False), said


def test_a_lost_memory_beside_what_was_signed_is_damage(mesh: Mesh) -> None:
    code, said = apart(mesh, *EVICT, "--out", mesh.file("evict.act"), key="alice")
    assert code == 1, said
    kept = Kept(mesh.home / "state", mesh.mesh.id)
    assert kept.memory().term == 0
    (kept.root / "seen.cbor").unlink()
    with pytest.raises(UsageError, match="revocations lie beside it"):
        kept.memory()


def test_more_than_an_order_may_ask_for_is_said(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ROLL_MOST >= 10_000
    monkeypatch.setattr(drafts, "ROLL_MOST", 0)
    code, said = apart(mesh, *EVICT, "--out", mesh.file("evict.act"), key="alice")
    words = ("order", "new", "--instance", "ab" * 32, "--out", mesh.file("order.act"))
    code, said = apart(mesh, *words, key="alice")
    assert (code, "1 revocations are known here, and an order asks for 0 at most" in said) == (2, True), said


# What is to hold.


def texts(*documents: tuple[str, str, int]) -> list[bytes]:
    return [
        codec.encode(RevocationOrder(bytes(32), kind, value, "", moment)) for kind, value, moment in documents
    ]


@pytest.mark.parametrize(
    ("sent", "signed", "held"),
    [
        ([(WORKLOAD, "vault", 1)], [(CHIP, "c0", 2)], ["vault", "c0"]),
        ([(WORKLOAD, "vault", 1)], [(WORKLOAD, "vault", 1)], ["vault"]),
        ([(LIFT, "bb", 5)], [], []),
        ([(LIFT, "bb", 5)], [(QUARANTINE, "bb", 4)], []),
        ([(LIFT, "bb", 5)], [(QUARANTINE, "bb", 5)], ["bb"]),
        ([(LIFT, "bb", 5)], [(INSTANCE, "bb", 1)], ["bb"]),
        # A lift that was only signed may have been given up.
        ([(QUARANTINE, "bb", 4)], [(LIFT, "bb", 5)], ["bb"]),
        # Of several the last counts, and none before its time has come.
        ([(LIFT, "bb", 5), (LIFT, "bb", 2)], [(QUARANTINE, "bb", 4)], []),
        ([(LIFT, "bb", 2), (LIFT, "bb", 5)], [(QUARANTINE, "bb", 4)], []),
        ([(LIFT, "bb", NOW + CLOCK_AHEAD)], [(QUARANTINE, "bb", 4)], []),
        ([(LIFT, "bb", NOW + CLOCK_AHEAD + 1)], [(QUARANTINE, "bb", 4)], ["bb"]),
        # No coordinator takes a quarantine of a time to come. All else it takes, and a roll may ask for it.
        ([], [(QUARANTINE, "bb", NOW + AHEAD)], ["bb"]),
        ([(QUARANTINE, "cc", NOW + AHEAD + 1)], [(QUARANTINE, "bb", NOW + AHEAD + 1)], []),
        ([], [(CHIP, "c0", NOW + AHEAD + 1)], ["c0"]),
    ],
)
def test_what_takes_away_holds_unless_operators_ended_it(
    sent: list[tuple[str, str, int]], signed: list[tuple[str, str, int]], held: list[str]
) -> None:
    assert [each.value for each in holding(texts(*sent), texts(*signed), NOW).values()] == held
