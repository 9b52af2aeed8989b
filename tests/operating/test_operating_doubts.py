"""Nobody signs on the command line what it does not show, or what this console has not seen."""

import time

import pytest
from msgspec.structs import replace

from console import cli
from console.documents import SignedPolicy
from console.operating import acts, succession
from console.operating.acts import Document
from console.operating.kept import Kept
from console.operating.memory import NO_HASH, Sighting
from console.operating.succession import Change
from schemas import codec
from schemas.documents import BreakGlass, Operators, Order, Renewal, RevocationOrder
from schemas.messages import LIFT, WORKLOAD, Event, Succession
from schemas.policy import Policy, compiled
from schemas.rules import Rule
from sealing.context import sha256
from sealing.roll import EMPTY
from tests.operating.world import Mesh

NOW = time.time_ns() // 1_000_000
ROOT, OTHER = b"r" * 32, b"o" * 32


def order_of(mesh: Mesh, **changes: object) -> Order:
    digest = sha256(compiled(mesh.policy))
    return replace(Order(mesh.mesh.id, 4, b"i" * 32, digest, None, EMPTY, NOW), **changes)


def remember(mesh: Mesh) -> Order:
    """Make the console one that has seen the mesh's policy, and term 4 by its order."""
    order = order_of(mesh)
    digest = sha256(compiled(mesh.policy))
    seen = Sighting(4, b"k" * 32, 1, digest, 100, ROOT, 1, 0, NO_HASH, sha256(codec.encode(order)))
    kept = Kept(mesh.home / "state", mesh.mesh.id)
    kept.note(seen)
    kept.keep_policy((mesh.home / "policy.toml.signed").read_bytes())
    return order


def run(mesh: Mesh, *words: str) -> tuple[int, str]:
    mesh.capture.readouterr()
    options = ("--key", mesh.file("bob.key"), "--passphrase-file", mesh.file("phrase"))
    code = cli.run([*words, *options, "--state", mesh.file("state")])
    said = mesh.capture.readouterr()
    return code, " ".join((said.out + said.err).split())


def write_change(mesh: Mesh, *again: Document, policy: Policy | None = None) -> None:
    """Write a change by which carol goes, as an operator could with a program of his own."""
    operators = tuple(each for each in mesh.anchor.operators if each.name != "carol")
    said = Operators(mesh.mesh.id, 1, mesh.anchor.digest, operators, 2, "carol has left", NOW)
    change = Change(
        Succession(codec.encode(said), ()),
        None if policy is None else compiled(policy),
        SignedPolicy((), ()),
        tuple(map(acts.act_of, again)),
    )
    (mesh.home / "operators.change").write_bytes(codec.encode(change))


def gifts(mesh: Mesh) -> dict[str, Document]:
    glass = BreakGlass(mesh.mesh.id, 4, "planner", "call", "pseudonym", "x", NOW, NOW + 60_000)
    return {
        "break-glass": glass,
        "renewal": Renewal(mesh.mesh.id, 4, NOW),
        "lift": RevocationOrder(mesh.mesh.id, LIFT, "bb" * 32, "", NOW),
        "second order": order_of(mesh, term=9),
    }


@pytest.mark.parametrize("gift", ["break-glass", "renewal", "lift", "second order"])
@pytest.mark.parametrize("command", ["show", "sign"])
def test_a_change_of_operators_carries_nothing_that_gives(mesh: Mesh, gift: str, command: str) -> None:
    order = remember(mesh)
    write_change(mesh, order, gifts(mesh)[gift], policy=mesh.policy)
    before = (mesh.home / "operators.change").read_bytes()
    code, said = run(mesh, "operators", command, mesh.file("operators.change"))
    assert (code, "more signed again than the order in force and revocations" in said) == (2, True), said
    assert (mesh.home / "operators.change").read_bytes() == before


def test_what_this_console_saw_in_force_is_signed_again(mesh: Mesh) -> None:
    order = remember(mesh)
    write_change(mesh, order, policy=mesh.policy)
    code, said = run(mesh, "operators", "sign", mesh.file("operators.change"))
    assert (code, "bob has signed" in said) == (0, True), said
    assert f"order of term 4 coordinator {order.instance.hex()}" in said
    assert f"hash {sha256(compiled(mesh.policy)).hex()} the one that was seen in force here" in said


@pytest.mark.parametrize("strange", ["order", "policy", "revocation"])
def test_what_this_console_never_saw_is_signed_only_by_who_says_so(mesh: Mesh, strange: str) -> None:
    order, policy = remember(mesh), mesh.policy
    rule = Rule(role="requester", may="call", what="pseudonym")
    evil = mesh.successor(policy, rules=(*policy.rules, rule))
    evicted = RevocationOrder(mesh.mesh.id, WORKLOAD, "vault", "", NOW)
    said_again = {
        "order": ((order_of(mesh, instance=b"e" * 32),), policy, "the order of term 4 is not the one"),
        "policy": ((order,), evil, "was not seen in force here"),
        "revocation": (
            (order, evicted),
            policy,
            "the revocation of workload vault was neither sent nor signed",
        ),
    }
    again, named, text = said_again[strange]
    write_change(mesh, *again, policy=named)
    file = mesh.file("operators.change")
    before = (mesh.home / "operators.change").read_bytes()
    code, said = run(mesh, "operators", "sign", file)
    assert (code, text in said) == (2, True), said
    assert (mesh.home / "operators.change").read_bytes() == before
    code, said = run(mesh, "operators", "sign", file, "--anyway")
    assert (code, "bob has signed" in said) == (0, True), said
    if strange == "policy":
        assert "newly permitted: requester may call the tool pseudonym" in said, said


def test_a_revocation_that_was_sent_from_here_and_a_policy_that_is_named_are_known(mesh: Mesh) -> None:
    order = remember(mesh)
    evicted = RevocationOrder(mesh.mesh.id, WORKLOAD, "vault", "", NOW)
    signed = acts.sign(mesh.anchor, mesh.mesh, acts.act_of(evicted), list(mesh.keys.values())[:2])
    Kept(mesh.home / "state", mesh.mesh.id).pend(Event("revocation", signed.signatures, None, ()))
    second = mesh.successor(mesh.policy)
    mesh.write("second.toml", second)
    write_change(mesh, order, evicted, policy=second)
    words = ("operators", "sign", mesh.file("operators.change"))
    code, said = run(mesh, *words)
    assert (code, "name it with --policy" in said) == (2, True), said
    code, said = run(mesh, *words, "--policy", mesh.file("second.toml"))
    assert (code, "bob has signed" in said) == (0, True), said


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"term": 3}, "it orders term 3, and term 4 was seen here"),
        ({"term": 5 + 2**20}, f"it orders term {5 + 2**20}, far beyond term 4"),
        ({"term": 2**31 - 1}, "far beyond term 4"),
        ({"policy_hash": OTHER}, f"its policy {OTHER.hex()} is not version 1"),
        ({"policy_hash": None}, "it names no policy"),
        ({"log_head": OTHER}, f"the log's head {OTHER.hex()} is not the one"),
        ({"time": 1}, "1970-01-01"),
        ({"time": NOW + 3_600_000}, "which is not now"),
    ],
)
def test_an_order_has_to_follow_what_was_seen_here(mesh: Mesh, changes: dict[str, object], text: str) -> None:
    remember(mesh)
    file = mesh.home / "order.act"
    file.write_bytes(codec.encode(acts.act_of(order_of(mesh, **{"term": 5, **changes}))))
    before = file.read_bytes()
    code, said = run(mesh, "order", "sign", str(file))
    assert (code, text in said) == (2, True), said
    assert file.read_bytes() == before
    code, said = run(mesh, "order", "sign", str(file), "--anyway")
    assert (code, "bob has signed" in said) == (0, True), said


@pytest.mark.parametrize("term", [1, 2, 7])
def test_a_console_that_has_seen_nothing_signs_the_first_order_alone(mesh: Mesh, term: int) -> None:
    file = mesh.home / "order.act"
    file.write_bytes(codec.encode(acts.act_of(order_of(mesh, term=term, policy_hash=None))))
    code, said = run(mesh, "order", "sign", str(file))
    assert (code, f"it orders term {term}, and this console has seen none" in said) == (
        (0, False) if term == 1 else (2, True)
    ), said
    assert run(mesh, "order", "sign", str(file), "--anyway")[0] == 0


def test_a_term_not_too_far_ahead_is_no_jump(mesh: Mesh) -> None:
    remember(mesh)
    file = mesh.home / "order.act"
    file.write_bytes(codec.encode(acts.act_of(order_of(mesh, term=4 + 2**20))))
    assert run(mesh, "order", "sign", str(file))[0] == 0


def known_revocations(mesh: Mesh, *documents: Document) -> None:
    """Have this console know of revocations that it sent."""
    for each in documents:
        signed = acts.sign(mesh.anchor, mesh.mesh, acts.act_of(each), list(mesh.keys.values())[:2])
        event = Event("revocation", signed.signatures, None, ())
        Kept(mesh.home / "state", mesh.mesh.id).pend(event)


@pytest.mark.parametrize("left_out", ["order", "policy", "revocation"])
def test_what_a_change_leaves_out_is_named(mesh: Mesh, left_out: str) -> None:
    order = remember(mesh)
    evicted = RevocationOrder(mesh.mesh.id, WORKLOAD, "vault", "", NOW)
    lift = RevocationOrder(mesh.mesh.id, LIFT, "bb" * 32, "", NOW)  # is signed again by itself, or not at all
    known_revocations(mesh, evicted, lift)
    again: dict[str, Document] = {"order": order, "revocation": evicted}
    again.pop(left_out, None)
    write_change(mesh, *again.values(), policy=None if left_out == "policy" else mesh.policy)
    words = ("operators", "sign", mesh.file("operators.change"))
    code, said = run(mesh, *words)
    text = {
        "order": "it signs no order again, and that of term 4 was seen here",
        "policy": "it signs no policy again, and version 1 was seen in force here",
        "revocation": "it does not sign again 1 revocation of what was sent or signed here: the revocation "
        "of workload vault",
    }[left_out]
    assert (code, f"not signed: {text}. `show`" in said) == (2, True), said
    assert run(mesh, *words, "--anyway")[0] == 0


def test_a_break_glass_is_shown_with_its_term(mesh: Mesh) -> None:
    file = mesh.home / "glass.act"
    file.write_bytes(codec.encode(acts.act_of(gifts(mesh)["break-glass"])))
    _, said = run(mesh, "glass", "show", str(file))
    assert "whatever the policy says in term 4 until" in said


def test_an_order_that_follows_is_signed_and_shown_whole(mesh: Mesh) -> None:
    remember(mesh)
    file = mesh.home / "order.act"
    order = order_of(mesh, term=5, log_head=ROOT)
    file.write_bytes(codec.encode(acts.act_of(order)))
    code, said = run(mesh, "order", "sign", str(file))
    assert code == 0, said
    for each in (order.instance, order.policy_hash, order.log_head):
        assert each is not None
        assert each.hex() in said
    code, said = run(mesh, "order", "sign", str(file), "--json")
    assert f'"log_head": "{ROOT.hex()}"' in said


def test_a_change_that_is_made_here_leaves_out_the_end_of_a_quarantine(mesh: Mesh) -> None:
    order = remember(mesh)
    lift = RevocationOrder(mesh.mesh.id, LIFT, "bb" * 32, "", NOW)
    evicted = RevocationOrder(mesh.mesh.id, WORKLOAD, "vault", "", NOW)
    kept = Kept(mesh.home / "state", mesh.mesh.id)
    for each in (order, lift, evicted):
        signed = acts.sign(mesh.anchor, mesh.mesh, acts.act_of(each), list(mesh.keys.values())[:2])
        kept.pend(Event(signed.kind, signed.signatures, None, ()))
    out = mesh.home / "operators.change"
    words = ("--remove", "carol", "--reason", "x", "--mesh", mesh.file("anchor.cbor"), "--out", str(out))
    code, said = run(mesh, "operators", "new", *words)
    assert code == 0, said
    change = succession.decode(out.read_bytes(), "it", NOW)
    assert [acts.document(act) for act in change.acts] == [order, evicted]
