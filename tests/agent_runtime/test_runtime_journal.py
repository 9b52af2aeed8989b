"""A client's journal: what a killed process leaves behind, whole, private, and one process's at a time."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent_runtime import Identity, connect_client
from agent_runtime import journal as module
from agent_runtime.journal import KEPT, JournalError, Sent, open_journal
from schemas.errors import UsageError
from schemas.limits import MINUTE

MESH, CLIENT = b"m" * 32, b"c" * 32
NOW = 1_800_000_000_000


def sent(number: int, token: int = 1, expires: int = NOW + MINUTE) -> Sent:
    return Sent(bytes([number]) * 16, "plan", f"task {number}", NOW, expires, bytes([token]) * 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "client.journal"


def test_what_was_written_is_there_for_the_next_process_with_the_same_secret(path: Path) -> None:
    with open_journal(path, MESH, CLIENT, now=NOW) as journal:
        head = journal.head
        journal.sent(sent(1))
        journal.sent(sent(1, token=2))
        journal.sent(sent(2))
        journal.ended(sent(2).id, b"frame")
        journal.sent(sent(3))
        journal.forget(sent(3).id)
    with open_journal(path, MESH, CLIENT, now=NOW) as journal:
        assert journal.head == head
        entries = journal.entries()
        assert list(entries) == [sent(1).id, sent(2).id]
        assert entries[sent(1).id].sent == [sent(1), sent(1, token=2)]
        ended = entries[sent(2).id].ended
        assert ended is not None
        assert ended.frame == b"frame"


def test_nobody_else_may_read_it_and_nothing_of_it_shows(path: Path) -> None:
    with open_journal(path, MESH, CLIENT, now=NOW) as journal:
        assert path.stat().st_mode & 0o777 == 0o600
        assert repr(journal.head.secret) not in repr(journal.head)
        assert journal.head.secret.hex() not in repr(journal.head)


def test_two_journals_have_nothing_in_common(path: Path, tmp_path: Path) -> None:
    with (
        open_journal(path, MESH, CLIENT, now=NOW) as one,
        open_journal(tmp_path / "other", MESH, CLIENT, now=NOW) as other,
    ):
        assert one.head.secret != other.head.secret
        assert one.head.reply_to != other.head.reply_to


def test_one_process_at_a_time_has_it(path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from agent_runtime.journal import open_journal\n"
        f"with open_journal(Path(sys.argv[1]), {MESH!r}, {CLIENT!r}, now={NOW}): print('held')"
    )
    with open_journal(path, MESH, CLIENT, now=NOW):
        with pytest.raises(JournalError, match="in use by another process"):
            open_journal(path, MESH, CLIENT, now=NOW).__enter__()
        other = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
        assert (other.returncode, other.stdout) == (1, "")
        assert "in use by another process" in other.stderr
    assert subprocess.run([sys.executable, "-c", script, path], capture_output=True).stdout == b"held\n"


@pytest.mark.parametrize(("mesh", "client"), [(b"x" * 32, CLIENT), (MESH, b"x" * 32)])
def test_anothers_journal_is_refused_and_left_as_it_is(path: Path, mesh: bytes, client: bytes) -> None:
    with open_journal(path, MESH, CLIENT, now=NOW) as journal:
        journal.sent(sent(1))
    before = path.read_bytes()
    with (
        pytest.raises(JournalError, match="another client or mesh"),
        open_journal(path, mesh, client, now=NOW),
    ):
        pass
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_line_that_a_killed_process_was_writing_is_passed_over(path: Path) -> None:
    with open_journal(path, MESH, CLIENT, now=NOW) as journal:
        journal.sent(sent(1))
        journal.sent(sent(2))
    path.write_bytes(path.read_bytes()[:-7])
    with open_journal(path, MESH, CLIENT, now=NOW) as journal:
        assert list(journal.entries()) == [sent(1).id]
        journal.sent(sent(3))
    with open_journal(path, MESH, CLIENT, now=NOW) as journal:
        assert list(journal.entries()) == [sent(1).id, sent(3).id]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"not a journal\n",
        lambda data: b"\n" + data,
        lambda data: data.split(b"\n", 1)[1],
        lambda data: data + data,
        lambda data: data + b'{"type":"ended","id":"AAAAAAAAAAAAAAAAAAAAAA==","frame":""}\n',
        lambda data: data.replace(b'"task_class"', b'"class"'),
        lambda data: data + b"\xff\n",
    ],
    ids=["text", "an empty line", "no head", "twice", "an end of nothing", "a field", "no text"],
)
def test_a_damaged_journal_is_told_and_left_as_it_is(path: Path, damage: Callable[[bytes], bytes]) -> None:
    with open_journal(path, MESH, CLIENT, now=NOW) as journal:
        journal.sent(sent(1))
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(JournalError, match="name another file"):
        open_journal(path, MESH, CLIENT, now=NOW).__enter__()
    assert path.read_bytes() == before


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_a_journal_or_an_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        with open_journal(path, MESH, CLIENT, now=NOW):
            pass
    except JournalError:
        return


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("/etc/passwd")])
def test_what_cannot_be_a_journal_is_a_usage_error(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    with pytest.raises(JournalError, match="cannot open"), open_journal(path, MESH, CLIENT, now=NOW):
        pass


def test_what_expired_long_ago_is_let_go(path: Path) -> None:
    with open_journal(path, MESH, CLIENT, now=NOW) as journal:
        journal.sent(sent(1))
        journal.sent(sent(2, expires=NOW + 2 * MINUTE))
    with open_journal(path, MESH, CLIENT, now=NOW + MINUTE + KEPT) as journal:
        assert list(journal.entries()) == [sent(2).id]


def test_it_does_not_grow_with_what_was_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLACK", 4096)
    with open_journal(path, MESH, CLIENT, now=NOW) as journal:
        journal.sent(sent(255))
        for number in range(250):
            journal.sent(sent(number))
            journal.ended(sent(number).id, bytes(100))
            journal.forget(sent(number).id)
            assert path.stat().st_size < 8192
        with pytest.raises(JournalError, match="in use"):
            open_journal(path, MESH, CLIENT, now=NOW).__enter__()
        assert list(journal.entries()) == [sent(255).id]
    with open_journal(path, MESH, CLIENT, now=NOW) as journal:
        assert list(journal.entries()) == [sent(255).id]
    assert list(path.parent.iterdir()) == [path]


def test_only_a_client_keeps_a_journal(path: Path) -> None:
    async def connect() -> None:
        async with connect_client("nats://127.0.0.1:1", Identity(b"", ("worker",)), journal=path):
            pass

    with pytest.raises(UsageError, match="only a client"):
        anyio.run(connect)
    assert not path.exists()


def test_a_full_disk_is_told() -> None:
    with pytest.raises(JournalError, match="No space left"):
        module._write_all(Path("journal"), os.open("/dev/full", os.O_WRONLY), b"line")


class Killed(RuleBasedStateMachine):
    """However often its process is killed, a journal knows exactly what was written and not forgotten."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal"
        self.known: dict[bytes, tuple[int, bytes | None]] = {}
        self.reopen()

    def reopen(self) -> None:
        self.manager = open_journal(self.path, MESH, CLIENT, now=NOW)
        self.journal = self.manager.__enter__()

    @rule(number=st.integers(0, 7), token=st.integers(0, 255))
    def send(self, number: int, token: int) -> None:
        """Write down a task, or another sealing of it."""
        self.journal.sent(sent(number, token))
        count, frame = self.known.get(sent(number).id, (0, None))
        self.known[sent(number).id] = count + 1, frame

    @rule(number=st.integers(0, 7), frame=st.binary(max_size=64))
    def end(self, number: int, frame: bytes) -> None:
        """Write down a result."""
        self.journal.ended(sent(number).id, frame)
        if sent(number).id in self.known:
            self.known[sent(number).id] = self.known[sent(number).id][0], frame

    @rule(number=st.integers(0, 7))
    def forget(self, number: int) -> None:
        """Forget a task."""
        self.journal.forget(sent(number).id)
        self.known.pop(sent(number).id, None)

    @rule(torn=st.binary(max_size=40).filter(lambda data: b"\n" not in data))
    def kill(self, torn: bytes) -> None:
        """End the process in the middle of a line."""
        self.manager.__exit__(None, None, None)
        with self.path.open("ab") as file:
            file.write(torn)
        self.reopen()

    @precondition(lambda self: hasattr(self, "journal"))
    @invariant()
    def knows(self) -> None:
        """See that it knows what was written."""
        entries = self.journal.entries()
        assert {
            key: (len(entry.sent), entry.ended.frame if entry.ended else None)
            for key, entry in entries.items()
        } == self.known

    def teardown(self) -> None:
        """Clean up."""
        if hasattr(self, "manager"):
            self.manager.__exit__(None, None, None)
            self.folder.cleanup()


Killed.TestCase.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestKilled = Killed.TestCase
