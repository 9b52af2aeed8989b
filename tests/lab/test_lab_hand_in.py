"""A lab whose operators changed: it signs with the keys of those of now, and says whose it lacks."""

import os
from pathlib import Path

import pytest

from console.council_files import CHAIN
from console.documents import make_anchor, open_signed_policy, sign_policy
from console.operating.kept import Kept
from console.operating.memory import Sighting
from lab.council import (
    SEEN,
    MissingKeysError,
    hand_in,
    held_keys,
    lab_council,
    operator_keys,
    signed_policy,
    written_policy,
)
from lab.keys import PASSPHRASE, export_keys
from lab.state import ANCHOR, POLICY, POLICY_TEXT, State
from schemas import codec
from schemas.documents import OperatorKey, Operators
from schemas.errors import UsageError
from schemas.evidence import PlatformValues
from schemas.messages import Succession
from schemas.pinning import Pinned
from schemas.policy import Policy, Workload, dump
from sealing import keyfile
from sealing.context import SUITE_GCM
from sealing.council import Council, add_signatures, succeed
from sealing.documents import open_anchor
from sealing.keys import SigningKey

NAMES = ("alice", "bob", "carol")
ROOT = "ab" * 32
MEASURED = Pinned(measurements={"measurement": "00" * 48, "host_data": "00" * 32})


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """A lab that was just made, as far as its operators go."""
    monkeypatch.setattr(keyfile.lock, "__kwdefaults__", {"operations": 1, "memory": 8192})
    state = State(tmp_path / "lab")
    state.root.mkdir()
    seeds = {name: os.urandom(32) for name in NAMES}
    for name, seed in seeds.items():
        state.save_key("operators", name, seed)
    people = [(name, SigningKey(seed).public) for name, seed in seeds.items()]
    state.save(ANCHOR, make_anchor(people, 2, [ROOT], 1, SUITE_GCM))
    _, mesh = lab_council(state)
    policy = Policy(
        mesh=mesh.id.hex(),
        version=1,
        issued=2,
        platforms={"sev-snp": PlatformValues(lab_roots=(ROOT,))},
        coordinators={"sev-snp": MEASURED},
        workloads={"w": Workload(roles=("r",), on={"sev-snp": MEASURED})},
    )
    state.save(POLICY_TEXT, dump(policy).encode())
    state.save(POLICY, codec.encode(sign_policy(lab_council(state)[0], operator_keys(state), policy)))
    return state


def replaced(state: State, folder: Path) -> Council:
    """Have others replace carol by dave and erin; their keys are in a folder, as operators have them."""
    before, _ = lab_council(state)
    folder.mkdir()
    (folder / "passphrase").write_text(f"{PASSPHRASE}\n")
    keys = [SigningKey(seed) for name, seed in state.load_keys("operators").items() if name != "carol"]
    people = list(before.operators[:2])
    for name in ("dave", "erin"):
        seed = os.urandom(32)
        locked = keyfile.lock(name, seed, PASSPHRASE, salt=os.urandom(16), nonce=os.urandom(24))
        (folder / f"{name}.key").write_bytes(locked)
        keys.append(SigningKey(seed))
        people.append(OperatorKey(name, keys[-1].public))
    said = Operators(before.mesh.id, 1, before.digest, tuple(people), 3, "carol lost her key", 5)
    after = succeed(before, add_signatures(before, Succession(codec.encode(said), ()), keys))
    (folder / CHAIN).write_bytes(codec.encode(after.chain))
    return after


def test_a_lab_learns_of_a_change_like_a_console_and_says_whose_keys_it_lacks(
    state: State, tmp_path: Path
) -> None:
    after = replaced(state, tmp_path / "desk")
    kept = Kept(state.root / SEEN, after.mesh.id)
    kept.note(Sighting(0, bytes(32), 0, bytes(32), 0, None))
    kept.keep_council(after)
    assert lab_council(state)[0] == after
    with pytest.raises(MissingKeysError, match=r"keys of 2 of its operators, and 3 have to sign.*hand-in"):
        operator_keys(state)
    # What the former ones signed can still be read; nobody takes it for what those of now say.
    assert written_policy(state).policy.version == 1
    with pytest.raises(MissingKeysError):
        signed_policy(state)


def test_handed_in_keys_sign_and_the_former_ones_do_not(state: State, tmp_path: Path) -> None:
    after = replaced(state, tmp_path / "desk")
    assert hand_in(state, tmp_path / "desk") == ["dave", "erin"]
    assert lab_council(state)[0] == after
    assert {after.name_of(key.public) for key in operator_keys(state)} == {"alice", "bob", "dave"}
    assert len(held_keys(state, after)) == 4
    assert open_signed_policy(after, after.mesh, state.load(POLICY)).policy.version == 1
    assert hand_in(state, tmp_path / "desk") == []
    # And is given to consoles again, without carol's.
    export_keys(state, tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").glob("*.key")} == {
        "alice.key",
        "bob.key",
        "dave.key",
        "erin.key",
    }
    assert (tmp_path / "again" / CHAIN).read_bytes() == codec.encode(after.chain)


def test_a_replaced_key_of_the_same_name_takes_the_place_of_the_former(state: State, tmp_path: Path) -> None:
    before, _ = lab_council(state)
    folder, seed = tmp_path / "desk", os.urandom(32)
    folder.mkdir()
    (folder / "passphrase").write_text(f"{PASSPHRASE}\n")
    locked = keyfile.lock("carol", seed, PASSPHRASE, salt=os.urandom(16), nonce=os.urandom(24))
    (folder / "carol.key").write_bytes(locked)
    keys = [SigningKey(each) for name, each in state.load_keys("operators").items() if name != "carol"]
    keys.append(SigningKey(seed))
    people = (*before.operators[:2], OperatorKey("carol", keys[-1].public))
    said = Operators(before.mesh.id, 1, before.digest, people, 3, "a new key", 5)
    after = succeed(before, add_signatures(before, Succession(codec.encode(said), ()), keys))
    (folder / CHAIN).write_bytes(codec.encode(after.chain))
    assert hand_in(state, folder) == ["carol"]
    assert {key.public for key in operator_keys(state)} == {key.public for key in keys}


def test_what_is_no_change_of_this_mesh_is_not_handed_in(state: State, tmp_path: Path) -> None:
    replaced(state, tmp_path / "desk")
    (tmp_path / "desk" / CHAIN).write_bytes(b"\x80\x80")
    with pytest.raises(UsageError, match=r"operators\.signed"):
        hand_in(state, tmp_path / "desk")
    assert not state.has(CHAIN)
    (tmp_path / "desk" / CHAIN).unlink()
    (tmp_path / "desk" / "passphrase").write_text("another\n")
    with pytest.raises(UsageError, match=r"dave\.key"):
        hand_in(state, tmp_path / "desk")


def test_the_anchor_alone_is_version_0(state: State) -> None:
    assert lab_council(state)[0] == open_anchor(state.load(ANCHOR))[0]
