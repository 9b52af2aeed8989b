"""What a console knows of revocations is not steered by the one operator who writes their files."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from console.documents import make_anchor
from console.operating import acts, succession
from console.operating.acts import Act, Document
from console.operating.desk import Desk
from console.operating.kept import Kept
from console.operating.roll import AHEAD
from schemas import codec
from schemas.documents import BreakGlass, OperatorKey, Order, Renewal, RevocationOrder
from schemas.errors import UsageError
from schemas.limits import CLOCK_AHEAD, DAY
from schemas.messages import CHIP, INSTANCE, LIFT, QUARANTINE
from sealing import cose
from sealing.context import SUITE_GCM, sha256
from sealing.documents import open_anchor
from sealing.keys import SigningKey
from sealing.roll import roll_hash
from tests.operating.test_operating_roll import BOTH, CHIP_ID, alone, apart, revoked
from tests.operating.world import Mesh
from tests.sealing.world import signed_anew

pytestmark = pytest.mark.anyio

NOW = time.time_ns() // 1_000_000
YEAR = 365 * DAY
SOMEBODY = "ab" * 32
PEOPLE = ("alice", "bob", "carol", "dave", "erin")
KEYS = {name: SigningKey(os.urandom(32)) for name in PEOPLE}


def desk_of(folder: Path, names: tuple[str, ...] = PEOPLE, threshold: int = 3) -> Desk:
    people = [(name, KEYS[name].public) for name in names]
    council, mesh = open_anchor(make_anchor(people, threshold, ["ab" * 32], NOW - DAY, SUITE_GCM))
    kept = Kept(folder, mesh.id)
    return Desk(folder / "anchor.cbor", council, mesh, (KEYS["alice"],), kept, None, None, None, 1.0)


def said(desk: Desk | Mesh, kind: str, moment: int, value: str = SOMEBODY) -> Act:
    return acts.act_of(RevocationOrder(desk.mesh.id, kind, value, "", moment))


def by(desk: Desk, act: Act, *names: str) -> Act:
    return acts.sign(desk.council, desk.mesh, act, [KEYS[name] for name in names])


def another(key: SigningKey, desk: Desk | Mesh, act: Act) -> bytes:
    return signed_anew(key, desk.mesh, act.kind, act.text)


# One operator counts once.


def test_two_signatures_of_one_operator_do_not_make_the_end_of_a_quarantine_whole(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    desk.keep_known(by(desk, said(desk, QUARANTINE, NOW - 2), "alice", "bob", "dave"))
    lift = said(desk, LIFT, NOW - 1)
    # Carol hands in her draft again and again, as no other program would sign it.
    for _ in range(3):
        mine = replace(lift, signatures=(another(KEYS["carol"], desk, lift),))
        desk.keep_known(by(desk, mine, "alice"))
    (known,) = (act for act in desk.kept.known() if act.text == lift.text)
    assert len(known.signatures) == 2
    assert [each.kind for each in desk.holding().values()] == [QUARANTINE]
    desk.keep_known(by(desk, lift, "bob"))
    assert desk.holding() == {}


def test_a_file_that_has_two_signatures_of_one_operator_already_is_sent_with_one(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, threshold=3)
    act = said(desk, CHIP, NOW, "c0")
    twice = (another(KEYS["carol"], desk, act), another(KEYS["carol"], desk, act))
    digest = sha256(act.text)
    # Three signatures of two are not enough, and the file that is to be signed can be.
    desk.kept.keep_known(
        replace(by(desk, act, "alice"), signatures=(*by(desk, act, "alice").signatures, *twice))
    )
    assert desk.revocations([digest]) == []
    (file,) = desk.lacking([digest])
    to_sign = acts.decode_act(file.read_bytes(), "it")
    assert acts.signers(desk.council, desk.mesh, by(desk, to_sign, "bob")) == ("alice", "bob", "carol")
    # Four of three are, and go out as three.
    whole = (*twice, *by(desk, act, "alice", "bob").signatures)
    desk.kept.keep_known(replace(act, signatures=whole))
    (event,) = desk.revocations([digest])
    assert len(event.documents) == 3
    assert desk.lacking([digest]) == []


async def test_nobodys_second_signature_stops_anothers_next_term(mesh: Mesh) -> None:
    file = mesh.home / "evict.act"
    async with mesh.up(state="state") as first:
        act = said(mesh, CHIP, NOW, CHIP_ID)
        file.write_bytes(codec.encode(acts.sign(mesh.anchor, mesh.mesh, act, [mesh.keys["carol"]])))
        code, told = await alone(mesh, "revoke", "sign", str(file), key="alice", state="alices")
        assert code == 0, told
        (alices, _) = acts.decode_act(file.read_bytes(), "it").signatures
        # Carol sends it with another signature of hers, which the coordinator shows to alice.
        other = replace(act, signatures=(alices, another(mesh.keys["carol"], mesh, act)))
        file.write_bytes(codec.encode(other))
        await mesh.data("revoke", "send", str(file), "--anyway", keys=("carol",), state="carols")
        await mesh.data("mesh", "status", keys=("alice",), state="alices")
        first.stop.cancel()
    async with mesh.coordinator() as coordinator:
        await mesh.data("mesh", "open", "--policy", mesh.file("policy.toml"), keys=BOTH, state="alices")
        assert revoked(coordinator) == [CHIP_ID]
        assert coordinator.service.core.authority.standing.policy_version == 1


# What is of a time to come.


def gift(mesh: Mesh, moment: int) -> BreakGlass:
    return BreakGlass(mesh.mesh.id, 1, "planner", "call", "pseudonym", "x", moment, moment + 1)


def written(mesh: Mesh, document: Document, *signers: str) -> str:
    act = acts.sign(mesh.anchor, mesh.mesh, acts.act_of(document), [mesh.keys[name] for name in signers])
    file = mesh.home / "it.act"
    file.write_bytes(codec.encode(act))
    return str(file)


@pytest.mark.parametrize("moment", [NOW + YEAR, NOW + AHEAD + DAY, 1], ids=["a year", "a day", "long ago"])
@pytest.mark.parametrize("kind", [QUARANTINE, LIFT, CHIP, "renewal", "glass"])
def test_what_is_not_of_now_is_signed_only_by_who_says_so(mesh: Mesh, kind: str, moment: int) -> None:
    made: dict[str, Document] = {"renewal": Renewal(mesh.mesh.id, 1, moment), "glass": gift(mesh, moment)}
    document = made.get(kind) or RevocationOrder(mesh.mesh.id, kind, SOMEBODY, "", moment)
    file, group = written(mesh, document, "carol"), kind if kind in made else "revoke"
    before = Path(file).read_bytes()
    code, told = apart(mesh, group, "sign", file, key="alice")
    assert (code, "which is not now" in told) == (2, True), told
    assert Path(file).read_bytes() == before
    code, told = apart(mesh, group, "sign", file, "--anyway", key="alice")
    assert (code, "alice has signed" in told) == (0, True), told


def test_the_end_of_a_quarantine_has_the_least_room(mesh: Mesh) -> None:
    soon = time.time_ns() // 1_000_000 + CLOCK_AHEAD + AHEAD // 2
    for kind, done in ((QUARANTINE, 0), (LIFT, 2)):
        file = written(mesh, RevocationOrder(mesh.mesh.id, kind, SOMEBODY, "", soon), "carol")
        assert apart(mesh, "revoke", "sign", file, key="alice")[0] == done


def test_what_this_console_knows_may_be_as_old_as_it_likes(mesh: Mesh) -> None:
    # After a change of operators what was revoked long ago is signed anew.
    document = RevocationOrder(mesh.mesh.id, CHIP, CHIP_ID, "", 1)
    kept = Kept(mesh.home / "state", mesh.mesh.id)
    path = kept.keep_known(acts.act_of(document))
    code, told = apart(mesh, "revoke", "sign", str(path), key="alice")
    assert code == 0, told


def test_a_lifting_of_a_time_to_come_ends_nothing_here(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    for kind, moment in ((LIFT, NOW + YEAR), (QUARANTINE, NOW)):
        desk.keep_known(by(desk, said(desk, kind, moment), "alice", "bob", "carol"))
    assert [each.kind for each in desk.holding().values()] == [QUARANTINE]


def test_a_lifting_of_a_time_to_come_is_not_sent(mesh: Mesh) -> None:
    file = written(mesh, RevocationOrder(mesh.mesh.id, LIFT, SOMEBODY, "", NOW + YEAR), *BOTH)
    code, told = apart(mesh, "revoke", "send", file, key="alice")
    assert (code, "no coordinator takes it before; nothing was sent" in told) == (2, True), told


async def test_a_quarantine_of_a_time_to_come_stops_no_term(mesh: Mesh) -> None:
    early = RevocationOrder(mesh.mesh.id, QUARANTINE, SOMEBODY, "", NOW + YEAR)
    policy = ("--policy", mesh.file("policy.toml"))
    file = written(mesh, early, "carol")
    code, told = await alone(mesh, "revoke", "sign", file, "--anyway", key="alice", state="alices")
    assert code == 0, told
    async with mesh.coordinator() as coordinator:
        standing = coordinator.service.core.authority.standing
        # An order that asks for it is doubted and not sent.
        roll = [sha256(codec.encode(early))]
        instance = bytes.fromhex(coordinator.instance)
        order = Order(mesh.mesh.id, 1, instance, None, None, roll_hash(roll), NOW)
        act = acts.sign(mesh.anchor, mesh.mesh, acts.act_of(order, roll), [mesh.keys["carol"]])
        asking = mesh.home / "order.act"
        asking.write_bytes(codec.encode(act))
        words = ("order", "sign", str(asking))
        code, told = await alone(mesh, *words, key="alice", state="alices")
        assert (code, "what no coordinator takes before its time" in told) == (2, True), told
        code, told = await alone(mesh, *words, "--anyway", key="alice", state="alices")
        assert code == 0, told
        code, told = await mesh.run("order", "send", str(asking), *policy, keys=("alice",), state="alices")
        assert (code, "nothing was sent" in told) == (2, True), told
        assert coordinator.service.core.authority.standing == standing
        # Her own does without.
        await mesh.data("mesh", "open", *policy, keys=BOTH, state="alices")
        assert coordinator.service.core.authority.standing.policy_version == 1


# Operators who follow.


def test_what_was_lifted_stays_lifted_when_operators_follow(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, ("alice", "bob", "carol"), 2)
    for kind, moment in ((QUARANTINE, NOW - 2), (LIFT, NOW - 1)):
        desk.keep_known(by(desk, said(desk, kind, moment), "alice", "bob"))
    assert desk.holding() == {}
    people = succession.replaced(desk.council, ["carol"], [OperatorKey("dave", KEYS["dave"].public)])
    change = succession.make(desk.council, people, None, reason="r", time=NOW, policy=None, again=[])
    change = succession.sign(desk.council, change, [KEYS[name] for name in ("alice", "bob", "dave")])
    after = desk.of(succession.follow(desk.council, change))
    assert after.holding() == {}
    # Nor do too few who sign it again take that back; and half of one set and half of another are none.
    after.keep_known(by(after, said(desk, LIFT, NOW - 1), "dave"))
    assert after.holding() == {}
    other = "cd" * 32
    after.keep_known(by(after, said(desk, QUARANTINE, NOW - 2, other), "alice", "dave"))
    after.keep_known(by(desk, said(desk, LIFT, NOW - 1, other), "alice"))
    after.keep_known(by(after, said(desk, LIFT, NOW - 1, other), "dave"))
    assert [each.value for each in after.holding().values()] == [other]


def test_keys_that_were_replaced_end_nothing_that_was_quarantined_since(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, ("alice", "bob", "carol"), 2)
    come = [OperatorKey(name, KEYS[name].public) for name in ("dave", "erin")]
    people = succession.replaced(desk.council, ["bob", "carol"], come)
    made = NOW - 1000
    change = succession.make(desk.council, people, None, reason="r", time=made, policy=None, again=[])
    change = succession.sign(desk.council, change, list(KEYS.values()))
    after = desk.of(succession.follow(desk.council, change))
    former, latter = said(desk, QUARANTINE, made - 1), said(desk, QUARANTINE, made + 1)
    desk.keep_known(by(desk, former, "bob", "carol"))
    after.keep_known(by(after, latter, "alice", "dave"))
    # Learned of a coordinator that went by the former set, when this console did too.
    late = said(desk, LIFT, made + 2)
    desk.keep_known(by(desk, late, "bob", "carol"))
    assert after.holding().keys() == {sha256(former.text), sha256(latter.text)}
    # What they ended in their time stays ended, and whatever they date back ends nothing of later.
    desk.keep_known(by(desk, said(desk, LIFT, made), "bob", "carol"))
    assert after.holding().keys() == {sha256(latter.text)}
    # Those of now end it with the same text.
    after.keep_known(by(after, late, "alice", "erin"))
    assert after.holding() == {}


def test_after_many_changes_a_revocation_is_kept_without_a_search_for_who_signed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = desk_of(tmp_path, ("alice", "bob", "carol"), 2)
    council, changes = first.council, 8
    for number in range(changes):
        gone, come = ("carol", "dave") if number % 2 == 0 else ("dave", "carol")
        people = succession.replaced(council, [gone], [OperatorKey(come, KEYS[come].public)])
        change = succession.make(council, people, None, reason="r", time=NOW, policy=None, again=[])
        change = succession.sign(council, change, [KEYS[name] for name in ("alice", "bob", come)])
        council = succession.follow(council, change)
    desk, tried = first.of(council), []

    def counted(data: bytes, public: bytes, *rest: Any) -> bytes:
        tried.append(public)
        return opened(data, public, *rest)

    opened = cose.open_signed
    monkeypatch.setattr(cose, "open_signed", counted)
    act = said(desk, CHIP, NOW, "c0")
    both = [*by(first, act, "alice", "bob").signatures, *by(desk, act, "alice", "bob").signatures]
    tried.clear()
    desk.keep_known(replace(act, signatures=tuple(both)))
    (known,) = desk.kept.known()
    assert known.signatures == (*both[2:], *both[:2])
    # Each key of each set once for each signature, at most.
    assert len(tried) <= len(both) * 3 * (changes + 1)
    tried.clear()
    assert acts.signed(council, act.kind, both[:2])[1] == ("alice", "bob")
    assert len(tried) <= len(both) * 3 * (changes + 1)


def test_signatures_for_operators_who_are_about_to_follow_are_kept(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, ("alice", "bob", "carol"), 2)
    evicted = said(desk, CHIP, NOW, "c0")
    desk.keep_known(by(desk, evicted, "alice", "bob"))
    people = succession.replaced(desk.council, ["carol"], [OperatorKey("dave", KEYS["dave"].public)])
    change = succession.make(desk.council, people, None, reason="r", time=NOW, policy=None, again=[evicted])
    change = succession.sign(desk.council, change, [KEYS[name] for name in ("alice", "bob", "dave")])
    desk.keep_known(*change.acts)
    after = desk.of(succession.follow(desk.council, change))
    (event,) = after.revocations([sha256(evicted.text)])
    assert len(event.documents) == 3


@pytest.mark.parametrize("command", ["show", "sign"])
def test_a_change_of_operators_carries_nothing_that_no_coordinator_takes(mesh: Mesh, command: str) -> None:
    people = succession.replaced(mesh.anchor, ["bob"], [OperatorKey("dave", KEYS["dave"].public)])
    evicted = said(mesh, INSTANCE, NOW)
    change = succession.make(mesh.anchor, people, None, reason="r", time=NOW, policy=None, again=[evicted])
    file = mesh.home / "operators.change"
    bad = {
        "names nothing that a coordinator takes": said(mesh, INSTANCE, NOW, "zz"),
        "is damaged": replace(evicted, roll=(bytes(32),)),
    }
    for text, act in bad.items():
        file.write_bytes(codec.encode(replace(change, acts=(act,))))
        more = ("--anyway",) if command == "sign" else ()
        code, told = apart(mesh, "operators", command, str(file), *more, key="alice")
        assert (code, text in told) == (2, True), told
    assert Kept(mesh.home / "state", mesh.mesh.id).known() == []


def test_only_an_order_has_a_roll(mesh: Mesh) -> None:
    for document in (RevocationOrder(mesh.mesh.id, CHIP, "c0", "", NOW), Renewal(mesh.mesh.id, 1, NOW)):
        act = replace(acts.act_of(document), roll=(bytes(32),))
        with pytest.raises(UsageError, match="it is damaged"):
            acts.decode_act(codec.encode(act), "it")
