"""A stored audit log: every byte of it counts, and what does not fit is named where it is."""

import contextlib
import json
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from console.audit_fetch import ForkError, following, stored_head
from console.audit_log import StoredLog, entry_line, head_line, read_log
from console.audit_proof import check_proof, make_proof
from console.cli import run
from schemas import codec
from schemas.audit import AuditEntry, open_entry
from schemas.documents import LogHead
from schemas.errors import MalformedError, PeerError, UsageError
from schemas.messages import LogPage
from sealing.audit import leaf, sign_head
from sealing.context import Mesh, sha256
from sealing.council import founders
from sealing.log_tree import LogTree
from tests.console.audit_world import Line, fetch, line, up
from tests.coordinator.world import Party, World


@pytest.fixture
def mesh() -> tuple[World, Party]:
    return up()


@pytest.fixture
def world(mesh: tuple[World, Party]) -> World:
    return mesh[0]


@pytest.fixture
def source(mesh: tuple[World, Party]) -> Line:
    return line(*mesh)


@pytest.fixture
def file(tmp_path: Path, world: World, source: Line) -> Path:
    """A stored log with two heads, and the anchor where the commands look for it."""
    (tmp_path / "anchor.cbor").write_bytes(codec.encode(world.anchor))
    fetch(tmp_path, source)
    Party.enclave(world, "vault").join()
    return fetch(tmp_path, source).path


def read(world: World, data: bytes) -> StoredLog:
    return read_log(data, world.council, world.mesh)


def codes(log: StoredLog) -> list[str]:
    return [finding.code for finding in log.findings]


# What fits.


def test_a_fetched_log_verifies_and_holds_every_decision(world: World, file: Path) -> None:
    log = read(world, file.read_bytes())
    assert log.findings == []
    assert [entry.decision for _, entry in log.entries if entry] == [
        json.loads(each)["decision"] for each in world.log
    ]
    assert [head.claims.size for head in log.heads] == [len(world.log) - 1, len(world.log)]
    assert log.last is not None
    assert log.last.claims.root == world.core.authority.audit.root


def test_fetching_again_brings_what_is_new_and_nothing_twice(
    tmp_path: Path, world: World, source: Line, file: Path
) -> None:
    before = file.read_bytes()
    assert fetch(tmp_path, source).size == len(world.log)
    assert file.read_bytes() == before
    for _ in range(3):
        Party.enclave(world, "planner").join()
    fetched = fetch(tmp_path, source)
    assert (fetched.before, fetched.size) == (len(world.log) - 3, len(world.log))
    assert file.read_bytes().startswith(before)
    assert read(world, file.read_bytes()).findings == []


def test_a_log_of_many_pages_is_fetched_whole(
    tmp_path: Path, world: World, source: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.audit.PAGE_BYTES", 500)
    fetched = fetch(tmp_path, source)
    assert fetched.size == len(world.log)
    assert read(world, fetched.path.read_bytes()).findings == []


def test_agents_and_clients_may_not_read_the_log(world: World) -> None:
    for party in (Party.enclave(world, "vault"), Party.client(world)):
        with pytest.raises(Exception, match="role-not-permitted"):
            world_page(world, party.join())


def world_page(world: World, party: Party) -> LogPage:
    return anyio.run(line(world, party).log, 0)


# What was changed.


def test_every_changed_byte_is_found_at_its_entry(world: World, file: Path) -> None:
    data = file.read_bytes()
    lines = data.splitlines(keepends=True)
    starts = [0]
    for each in lines:
        starts.append(starts[-1] + len(each))
    number = 0
    for position in range(len(data)):
        while position >= starts[number + 1]:
            number += 1
        if lines[number].startswith((b"sealbus", b"head")) and position % 7:
            continue  # long keys and signatures, of which each seventh byte does
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        log = read(world, bytes(changed))
        assert log.findings, position
        assert log.findings[0].line == number + 1, (position, log.findings[0])
        if lines[number].startswith(b"entry"):
            index = sum(each.startswith(b"entry") for each in lines[:number])
            assert log.findings[0].entry == index


def test_a_log_cut_anywhere_is_truncated_or_ends_at_a_head(world: World, file: Path) -> None:
    data = file.read_bytes()
    whole = data.index(b"head", data.index(b"head") + 1)
    first = data.index(b"\n") + 1
    for length in range(0, len(data), 3):
        log = read(world, data[:length])
        assert (not log.findings) == (length in (first, whole)), length
        assert set(codes(log)) <= {"torn", "truncated"}
        assert log.unfinished == bool(log.findings)


def test_fetching_goes_on_after_a_write_that_was_interrupted(
    tmp_path: Path, world: World, source: Line, file: Path
) -> None:
    data = file.read_bytes()
    for length in range(0, len(data), 501):
        file.write_bytes(data[:length])
        assert fetch(tmp_path, source).size == len(world.log)
        assert read(world, file.read_bytes()).findings == []


def entries_of(world: World) -> tuple[bytes, ...]:
    return world.core.authority.audit.page("0")


def test_entries_that_no_head_covers_are_told(world: World, file: Path) -> None:
    size = len(world.log)
    more = codec.encode(AuditEntry(1, size, world.now, "expired", {"instance": "00" * 32}))
    log = read(world, file.read_bytes() + entry_line(world.mesh, more))
    assert codes(log) == ["extended"]
    assert log.findings[0].entry == size


def test_an_entry_changed_with_its_leaf_hash_breaks_the_head_that_covers_it(world: World, file: Path) -> None:
    victim = entries_of(world)[1]
    entry = open_entry(victim)
    forged = codec.encode(replace(entry, time=entry.time + 1))
    data = file.read_bytes().replace(entry_line(world.mesh, victim), entry_line(world.mesh, forged))
    log = read(world, data)
    assert codes(log) == ["head", "head"]
    assert log.findings[0].entry == 0
    assert log.last is None


def test_entries_in_another_order_are_told(world: World, file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    lines[3], lines[4] = lines[4], lines[3]
    assert read(world, b"".join(lines)).findings[0].entry == 1


def test_a_log_of_another_mesh_is_of_no_order(world: World, file: Path) -> None:
    anchor = replace(world.anchor, issued=world.now + 1)
    mesh = Mesh(sha256(codec.encode(anchor)), anchor.suite)
    # No entry of it was changed, so none is named.
    assert codes(read_log(file.read_bytes(), founders(anchor, mesh), mesh)) == ["term", "entry"]


def test_heads_by_another_key_than_the_one_that_was_ordered_are_told(world: World, file: Path) -> None:
    stranger = World()
    assert stranger.mesh == world.mesh
    head = sign_head(stranger.keys.signing, world.mesh, LogHead(1, 2, bytes(32), 0))
    log = read(world, file.read_bytes() + head_line(head))
    assert codes(log) == ["head"]


# Forks.


class TwoFaced(Line):
    """A coordinator, or who has its key, that shows this operator another history."""

    def turn(self, size: int) -> None:
        """Have a log of so many entries, of which the second is another than the one that was shown."""
        entries = list(entries_of(self.world))
        second = open_entry(entries[1])
        entries[1] = codec.encode(replace(second, time=second.time + 1))
        self.entries = entries[:size]
        tree = LogTree()
        for entry in self.entries:
            tree.append(leaf(self.world.mesh, entry))
        claims = LogHead(1, tree.size, tree.root(), self.world.now)
        self.head = sign_head(self.world.keys.signing, self.world.mesh, claims)

    async def log(self, first: int) -> LogPage:
        return LogPage(self.head, tuple(self.entries[first:]))


@pytest.mark.parametrize("further", [-1, 0, 1])
def test_another_history_is_refused_and_both_heads_are_kept(
    tmp_path: Path, world: World, source: Line, file: Path, further: int, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = len(world.log)
    Party.enclave(world, "planner").join()
    other = TwoFaced(world, source.operator, source.term_proof)
    other.turn(stored + further)
    before = file.read_bytes()
    with pytest.raises(ForkError) as fork:
        fetch(tmp_path, other)
    assert [head.claims.size for head in fork.value.finding.heads] == [stored, stored + further]
    assert file.read_bytes() == before + head_line(other.head, apart=True)
    # Offline it is told again, with both heads.
    assert run(["audit", "verify", "--dir", str(tmp_path), "--json"]) == 1
    (told,) = json.loads(capsys.readouterr().out)["logs"]
    assert [each["code"] for each in told["findings"]] == ["fork"]
    signed = {each["signed"] for each in told["findings"][0]["heads"]}
    assert len(signed) == 2
    assert other.head.hex() in signed
    # Nothing is fetched into it any more.
    with pytest.raises(UsageError, match="move it away"):
        fetch(tmp_path, source)


@pytest.mark.parametrize("further", [-1, 0])
def test_two_operators_copies_that_are_each_fine_show_the_fork_between_them(
    tmp_path: Path, world: World, source: Line, file: Path, further: int, capsys: pytest.CaptureFixture[str]
) -> None:
    other = TwoFaced(world, source.operator, source.term_proof)
    other.turn(len(world.log) + further)
    theirs = fetch(tmp_path / "theirs", other).path
    anchor = ["--anchor", str(tmp_path / "anchor.cbor")]
    for copy in (file, theirs):
        assert run(["audit", "verify", str(copy), *anchor]) == 0
    capsys.readouterr()
    for copies in ((file, theirs), (theirs, file)):
        assert run(["audit", "verify", *map(str, copies), *anchor]) == 1
        told = capsys.readouterr().out
        assert "two logs are kept" in told
        assert other.head.hex() in told.replace("\n", "")


def test_one_term_of_two_coordinators_is_a_fork(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = fetch(tmp_path / "theirs", line(*up())).path
    anchor = ["--anchor", str(tmp_path / "anchor.cbor")]
    assert run(["audit", "verify", str(theirs), *anchor]) == 0
    assert run(["audit", "verify", str(file), str(theirs), *anchor]) == 1
    assert "ordered for two coordinators" in capsys.readouterr().out


def test_two_copies_of_one_log_of_which_one_is_older_are_one_log(
    tmp_path: Path, world: World, source: Line, file: Path
) -> None:
    older = tmp_path / "older.log"
    older.write_bytes(file.read_bytes())
    Party.enclave(world, "planner").join()
    fetch(tmp_path, source)
    anchor = ["--anchor", str(tmp_path / "anchor.cbor")]
    assert run(["audit", "verify", str(file), str(older), *anchor]) == 0


def test_a_coordinator_that_has_fewer_entries_than_it_signed_for_is_refused(
    tmp_path: Path, world: World, source: Line
) -> None:
    other = TwoFaced(world, source.operator, source.term_proof)
    other.turn(4)
    other.entries = other.entries[:2]
    with pytest.raises(MalformedError, match="fewer entries"):
        fetch(tmp_path, other)


def test_one_follows_at_a_time(tmp_path: Path, world: World, source: Line) -> None:
    with (
        following(tmp_path, world.council, world.mesh, source.term_proof),
        pytest.raises(UsageError, match="being followed"),
    ):
        fetch(tmp_path, source)


def test_the_next_order_can_name_the_newest_head_that_is_stored(
    tmp_path: Path, world: World, file: Path
) -> None:
    head = stored_head(tmp_path, 1, world.council, world.mesh)
    assert head is not None
    assert head.claims.root == world.core.authority.audit.root
    assert stored_head(tmp_path, 2, world.council, world.mesh) is None


# Proofs.


def test_every_entry_is_proved_without_the_log(world: World, file: Path) -> None:
    log = read(world, file.read_bytes())
    for index, data in enumerate(entries_of(world)):
        proof = msgspec.json.encode(make_proof(log, index, world.mesh))
        entry, head = check_proof(proof, world.council, world.mesh)
        assert (codec.encode(entry), head.size) == (data, len(world.log))


def with_another_end(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def test_a_proof_with_anything_changed_proves_nothing(world: World, file: Path) -> None:
    proof = make_proof(read(world, file.read_bytes()), 2, world.mesh)
    other = make_proof(read(world, file.read_bytes()), 3, world.mesh)
    for changed in (
        msgspec.structs.replace(proof, index=3),
        msgspec.structs.replace(proof, entry=other.entry),
        msgspec.structs.replace(proof, entry=other.entry, index=3, says=other.says),
        msgspec.structs.replace(proof, says=other.says),
        # What only looks the same is another file: 3.0 for 3, true for 1, hexadecimal in capitals.
        msgspec.structs.replace(proof, says={**proof.says, "index": float(proof.index)}),
        msgspec.structs.replace(proof, entry=proof.entry.upper()),
        msgspec.structs.replace(proof, head=proof.head.upper()),
        msgspec.structs.replace(proof, path=proof.path[:-1]),
        msgspec.structs.replace(proof, path=("zz",)),
        msgspec.structs.replace(proof, mesh="00" * 32),
        msgspec.structs.replace(proof, head=with_another_end(proof.head)),
        msgspec.structs.replace(proof, term=with_another_end(proof.term)),
        msgspec.structs.replace(proof, format="another"),
    ):
        with pytest.raises(PeerError):
            check_proof(msgspec.json.encode(changed), world.council, world.mesh)


@given(st.binary(max_size=200))
def test_whatever_lies_in_a_file_is_read_without_an_error_or_told(data: bytes) -> None:
    world = World()
    assert read(world, data).findings
    with pytest.raises(PeerError):
        check_proof(data, world.council, world.mesh)
    with contextlib.suppress(MalformedError):
        open_entry(data)


LINES = st.lists(
    st.tuples(
        st.sampled_from(["sealbus-audit-1", "head", "apart", "entry", "", "x"]),
        st.lists(st.binary(max_size=40).map(bytes.hex) | st.just("0" * 64), max_size=3),
    )
)


@given(LINES)
def test_lines_that_look_like_a_log_are_no_log(lines: list[tuple[str, list[str]]]) -> None:
    text = "".join(" ".join([word, *rest]) + "\n" for word, rest in lines)
    assert read(World(), text.encode()).findings


# The commands.


def test_show_filters_by_decision_instance_and_reason(
    tmp_path: Path, world: World, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(*options: str) -> list[dict[str, object]]:
        assert run(["audit", "show", "--dir", str(tmp_path), "--json", *options]) == 0
        return list(json.loads(capsys.readouterr().out)["shown"])

    everything = shown()
    assert [each["index"] for each in everything] == list(range(len(world.log)))
    admitted = shown("--kind", "admitted")
    assert {each["decision"] for each in admitted} == {"admitted"}
    last = str(admitted[-1]["instance"])
    assert [each["instance"] for each in shown("--instance", last[:12])] == [last]
    assert shown("--reason", "no-such-reason") == []


def test_the_commands_tell_people_what_they_find(
    tmp_path: Path, world: World, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof = tmp_path / "proof.json"
    where = ["--dir", str(tmp_path)]
    assert run(["audit", "verify", *where]) == 0
    assert "verified" in capsys.readouterr().out
    assert run(["audit", "show", *where]) == 0
    assert "2027-01-15T" in capsys.readouterr().out
    assert run(["audit", "prove", "1", *where, "--out", str(proof)]) == 0
    assert run(["audit", "verify", *where, "--proof", str(proof)]) == 0
    assert "entry 1 is in the log" in capsys.readouterr().out
    proof.write_text(proof.read_text().replace('"index": 1', '"index": 2'))
    assert run(["audit", "verify", *where, "--proof", str(proof)]) == 1
    assert run(["audit", "prove", "99", *where]) == 2
    file.write_bytes(file.read_bytes().replace(b"entry", b"entrY", 1))
    assert run(["audit", "verify", *where]) == 1
    assert "at entry 0" in capsys.readouterr().out
    assert run(["audit", "show", *where]) == 1
    assert run(["audit", "prove", "1", *where]) == 2


@pytest.mark.parametrize("command", [["verify"], ["show"], ["prove", "0"]])
def test_a_folder_without_anchor_or_log_is_a_usage_error(
    tmp_path: Path, command: list[str], world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", *command, "--dir", str(tmp_path)]) == 2
    assert "--anchor" in capsys.readouterr().err
    (tmp_path / "anchor.cbor").write_bytes(codec.encode(world.anchor))
    assert run(["audit", *command, "--dir", str(tmp_path)]) == 2
    assert "no log is stored" in capsys.readouterr().err


def test_what_names_no_entry_is_told(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anchor = ["--anchor", str(tmp_path / "anchor.cbor")]
    assert run(["audit", "show", str(file), "--instance", "zz", *anchor]) == 2
    assert "--instance zz: name it by hexadecimal digits" in capsys.readouterr().err
    assert run(["audit", "show", str(file), "--reason", "none", *anchor]) == 0
    told = capsys.readouterr()
    assert (told.out, "no entry of the log is like that" in told.err) == ("", True)


def test_one_signed_head_is_one(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    heads = [number for number, each in enumerate(lines) if each.startswith(b"head")]
    file.write_bytes(b"".join(lines[: heads[1]]))
    assert run(["audit", "verify", str(file), "--anchor", str(tmp_path / "anchor.cbor")]) == 0
    assert ", 1 signed head," in " ".join(capsys.readouterr().out.split())
