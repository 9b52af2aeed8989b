"""The log that a lab's operators keep of a whole mesh: it verifies, and says who was admitted and put out."""

import json
from pathlib import Path

import pytest
from anyio import to_thread

from console.audit_fetch import file_of
from console.audit_log import StoredLog, read_log
from console.cli import run
from console.operating.kept import STATE
from lab.mesh import RunningMesh
from lab.plan import COORDINATOR
from lab.state import ANCHOR, POLICY
from schemas.subjects import Party
from sealing import keyfile
from sealing.documents import open_anchor
from tests.mesh.world import client_identity, enclave_identity, eventually, joined

pytestmark = pytest.mark.anyio
PASSPHRASE = "of a key in a test"


def stored(mesh: RunningMesh, term: int) -> StoredLog:
    """Read the log of a term as it is stored at this moment."""
    path = file_of(mesh.state.root, term)
    return read_log(path.read_bytes() if path.exists() else b"", *open_anchor(mesh.state.load(ANCHOR)))


def instances(log: StoredLog, decision: str) -> set[str]:
    return {
        str(entry.facts["instance"])
        for _, entry in log.entries
        if entry is not None and entry.decision == decision
    }


async def test_the_operators_log_verifies_and_holds_every_admission(
    mesh: RunningMesh, capsys: pytest.CaptureFixture[str]
) -> None:
    admitted = {agent.instance for agent in mesh.admitted()}
    assert admitted
    await eventually(lambda: admitted <= instances(stored(mesh, 1), "admitted"))
    log = stored(mesh, 1)
    assert log.findings == []
    # It says what the coordinator's own lines said, entry by entry, and more than one head vouches for it.
    lines = mesh.audit()[: len(log.entries)]
    assert [entry.decision for _, entry in log.entries if entry] == [each["decision"] for each in lines]
    assert run(["audit", "verify", "--dir", str(mesh.state.root)]) == 0
    assert "verified" in capsys.readouterr().out


async def test_a_member_that_renews_has_the_whole_log_proved_that_it_saw(mesh: RunningMesh) -> None:
    async with joined(mesh, client_identity(mesh)) as desk:
        witness = desk.membership.witness
        first = witness._log
        async with joined(mesh, enclave_identity(mesh, "worker-1", "worker")):
            await eventually(lambda: witness._log[0] > first[0])
            seen = witness._log
            await desk.coordination.renew()
        assert (witness.fork, witness.unproved()) == (None, ())
        assert witness._proved[0] >= seen[0]


async def test_the_command_fetches_the_same_log_with_another_operators_key(
    mesh: RunningMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = mesh.state.load_keys("operators")
    name = sorted(keys)[-1]  # whose key the lab does not use
    salt, nonce = bytes(keyfile.SALT_SIZE), bytes(keyfile.NONCE_SIZE)
    (tmp_path / "mine.key").write_bytes(keyfile.lock(name, keys[name], PASSPHRASE, salt=salt, nonce=nonce))
    (tmp_path / "phrase").write_text(f"{PASSPHRASE}\n")
    for file in (ANCHOR, POLICY):
        (tmp_path / file).write_bytes(mesh.state.load(file))
    credentials = mesh.credentials(Party.CLIENT)
    assert credentials is not None
    monkeypatch.setenv("SEALBUS_NKEY_SEED", credentials.seed)
    monkeypatch.setenv(STATE, str(tmp_path / "seen"))
    command = ["audit", "fetch", "--dir", str(tmp_path), "--url", mesh.url, "--json"]
    command += ["--key", str(tmp_path / "mine.key"), "--passphrase-file", str(tmp_path / "phrase")]
    for _ in range(2):
        assert await to_thread.run_sync(run, command) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["ok"]
    # It is the log that the lab's operators keep, as far as both have come.
    mine, theirs = file_of(tmp_path, 1), stored(mesh, 1)
    log = read_log(mine.read_bytes(), *open_anchor(mesh.state.load(ANCHOR)))
    assert (log.findings, told["entries"]) == ([], len(log.entries))
    both = min(len(log.entries), len(theirs.entries))
    assert both > len(mesh.machines)
    assert log.entries[:both] == theirs.entries[:both]


async def test_an_eviction_is_in_the_log_with_its_reason(
    mesh: RunningMesh, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = mesh.admitted()[-1]
    await mesh.operators.revoke("instance", agent.instance, "audited")
    await eventually(lambda: agent.instance in instances(stored(mesh, 1), "evicted"))
    where = ["--dir", str(mesh.state.root), "--json"]
    assert run(["audit", "show", *where, "--instance", agent.instance, "--kind", "revoked"]) == 0
    (revoked,) = json.loads(capsys.readouterr().out)["shown"]
    assert (revoked["value"], revoked["reason"]) == (agent.instance, "audited")


async def test_the_log_of_the_next_term_begins_where_the_stored_one_ends(mesh: RunningMesh) -> None:
    async with joined(mesh, client_identity(mesh)):
        await mesh.rack.kill(COORDINATOR)
        await eventually(lambda: "admitted" in {e.decision for _, e in stored(mesh, 2).entries if e})
    old, new = stored(mesh, 1), stored(mesh, 2)
    assert (old.findings, new.findings, new.term) == ([], [], 2)
    assert old.last is not None
    (opened,) = [entry for _, entry in new.entries if entry is not None and entry.decision == "term"]
    assert opened.facts["log_head"] == old.last.claims.root.hex()


async def test_no_entry_holds_a_key_or_anything_sealed(mesh: RunningMesh, lab: Path) -> None:
    log = stored(mesh, 1)
    text = "\n".join(repr(entry.facts) for _, entry in log.entries if entry is not None)
    for name in mesh.state.load_keys("clients").values():
        assert name.hex() not in text
    async with joined(mesh, client_identity(mesh)) as desk:
        keys = desk.membership.keys
        assert keys.kem.public.hex() not in text
        assert keys.signing.public.hex() not in text
