"""A lab whose operators change while it is up: agents go on, those of now order the next coordinator."""

import os
import time
from pathlib import Path

import pytest

from console.council_files import CHAIN
from console.operating import acts, succession
from console.operating.acts import Act
from console.operating.kept import Kept
from console.operator import operator_line
from lab.council import PASSPHRASE_FILE, hand_in, held_keys
from lab.keys import PASSPHRASE
from lab.mesh import RunningMesh
from lab.plan import COORDINATOR
from schemas import codec
from schemas.documents import OperatorKey
from schemas.subjects import Party
from sealing import cose, keyfile
from sealing.council import Council
from sealing.keys import SigningKey
from tests.mesh.world import client_identity, eventually, joined

pytestmark = pytest.mark.anyio


async def replaced(mesh: RunningMesh, desk: Path) -> Council:
    """Have dave and erin take carol's place, from a console of its own; their keys are at the desk."""
    before = mesh.operators.council
    keys = held_keys(mesh.state, before)[:2]
    people = []
    for name in ("dave", "erin"):
        seed = os.urandom(32)
        locked = keyfile.lock(name, seed, PASSPHRASE, salt=os.urandom(16), nonce=os.urandom(24))
        (desk / f"{name}.key").write_bytes(locked)
        keys.append(SigningKey(seed))
        people.append(OperatorKey(name, keys[-1].public))
    policy = mesh.operators.policy
    async with operator_line(
        mesh.url,
        council=before,
        profile=policy.profile,
        key=keys[0],
        kept=Kept(desk / "state", before.mesh.id),
        credentials=mesh.credentials(Party.CLIENT),
    ) as line:
        order = Act(acts.ORDER, cose.unverified_payload(line.term_proof.order[0]), ())
        made = succession.make(
            before,
            succession.replaced(before, ["carol"], people),
            None,
            reason="carol lost her key",
            time=time.time_ns() // 1_000_000,
            policy=policy.policy,
            again=[order],
        )
        change = succession.sign(before, made, keys)
        after = succession.follow(before, change)
        await line.send(succession.event_of(after, change, running=True))
    (desk / CHAIN).write_bytes(codec.encode(after.chain))
    return after


@pytest.fixture
def desk_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a passphrase, under which keys are cheap to lock."""
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / PASSPHRASE_FILE).write_text(f"{PASSPHRASE}\n")
    monkeypatch.setattr(keyfile.lock, "__kwdefaults__", {"operations": 1, "memory": 8192})
    return folder


async def test_the_next_coordinator_waits_for_the_keys_of_who_came_and_is_ordered_by_them(
    mesh: RunningMesh, desk_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(mesh, client_identity(mesh)) as desk:
        after = await replaced(mesh, desk_folder)
        await eventually(lambda: desk.membership.witness.council == after)
        # The lab's operators learn of it by their own line, so that none of them orders by those of before.
        await eventually(lambda: mesh.operators.council == after)
        term = desk.membership.term
        await mesh.rack.kill(COORDINATOR)
        await eventually(lambda: "hand the others' in" in caplog.text)
        assert hand_in(mesh.state, desk_folder) == ["dave", "erin"]
        await eventually(lambda: desk.membership.term == term + 1 and desk.membership.live())
        assert desk.membership.witness.council == after
