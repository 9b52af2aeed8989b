"""The lab's state directory: whole or not there, private, and one lab's at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.state import ANCHOR, State, make_state, open_state
from schemas.errors import UsageError

SEED = bytes(range(32))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / ".sealbus" / "lab"


def make(root: Path) -> None:
    with make_state(root) as state:
        state.save(ANCHOR, b"an anchor")
        state.save_root("tdx", {"root.pem": b"key", "root.der": b"certificate"})
        state.save_key("operators", "first", SEED)
        state.save_key("operators", "second", SEED[::-1])


def make_badly(root: Path) -> None:
    with make_state(root) as state:
        state.save_key("operators", "first", SEED)
        state.save_key("operators", "second", b"short")


def test_what_was_saved_is_loaded(root: Path) -> None:
    make(root)
    with open_state(root) as state:
        assert state.load(ANCHOR) == b"an anchor"
        assert state.load_root("tdx") == {"root.der": b"certificate", "root.pem": b"key"}
        assert state.load_keys("operators") == {"first": SEED, "second": SEED[::-1]}
        assert state.load_keys("clients") == {}
        assert state.has(ANCHOR)
        assert not state.has("policy.toml")


def test_saving_replaces(root: Path) -> None:
    make(root)
    with open_state(root) as state:
        state.save(ANCHOR, b"another")
        assert state.load(ANCHOR) == b"another"
        assert not [path for path in root.iterdir() if path.name.startswith(".")]


def test_a_write_that_fails_leaves_what_was_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(root)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with open_state(root) as state:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UsageError, match="No space left"):
            state.save(ANCHOR, b"another")
        assert state.load(ANCHOR) == b"an anchor"
        assert not [path for path in root.iterdir() if path.name.startswith(".")]


def test_nothing_is_open_to_other_users(root: Path) -> None:
    make(root)
    for path in [root, *root.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_directory_open_to_others_is_refused(root: Path) -> None:
    make(root)
    root.chmod(0o750)
    with pytest.raises(UsageError, match="chmod 700"), open_state(root):
        pass


def test_there_is_no_lab_before_one_is_made(root: Path) -> None:
    with pytest.raises(UsageError, match="sealbus lab init"), open_state(root):
        pass


def test_a_lab_is_not_made_over_another(root: Path) -> None:
    make(root)
    with pytest.raises(UsageError, match="exists already"), make_state(root):
        pass


def test_a_lab_that_could_not_be_finished_leaves_no_keys(root: Path) -> None:
    with pytest.raises(UsageError, match="32 bytes"):
        make_badly(root)
    assert not root.exists()
    assert not list(root.parent.rglob("*.key"))


KILLED = """
import os, signal, sys
from pathlib import Path
from lab.state import make_state
with make_state(Path(sys.argv[1])) as state:
    state.save_key("operators", "third", bytes(32))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_lab_killed_while_it_was_made_is_detected_and_made_afresh(root: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False).returncode == -9
    with pytest.raises(UsageError, match="begun and not finished"), open_state(root):
        pass
    make(root)
    with open_state(root) as state:
        assert set(state.load_keys("operators")) == {"first", "second"}


def test_a_directory_of_another_version_is_refused(root: Path) -> None:
    make(root)
    (root / "version").write_text("sealbus lab 0")
    with pytest.raises(UsageError, match="another version"), open_state(root):
        pass


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(UsageError, match="not a lab's directory"), open_state(tmp_path):
        pass


def test_two_labs_do_not_share_a_directory(root: Path) -> None:
    make(root)
    with open_state(root), pytest.raises(UsageError, match=f"process {os.getpid()}"), open_state(root):
        pass


def test_two_labs_are_not_made_in_one_place(root: Path) -> None:
    with make_state(root), pytest.raises(UsageError, match=f"process {os.getpid()}"), make_state(root):
        pass


def test_a_client_reads_while_a_lab_runs(root: Path) -> None:
    make(root)
    with open_state(root), open_state(root, exclusive=False) as state:
        assert state.load(ANCHOR) == b"an anchor"


def test_a_lock_ends_with_its_process(root: Path) -> None:
    make(root)
    text = "import os, sys; from pathlib import Path; from lab.state import open_state\n"
    text += "with open_state(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", text, str(root)], check=False).returncode == -9
    with open_state(root):
        pass


@pytest.mark.parametrize("name", ["../anchor.cbor", "/etc/passwd", "", "a//b", ".hidden", "a/..", "a\0b"])
def test_no_name_leaves_the_directory(root: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a file"):
        State(root).save(name, b"")


def test_what_is_missing_or_damaged_is_named_with_the_next_step(root: Path) -> None:
    make(root)
    with open_state(root) as state:
        with pytest.raises(UsageError, match=r"lacks profile\.signed.*sealbus lab init"):
            state.load("profile.signed")
        with pytest.raises(UsageError, match=r"no root for nitro.*sealbus lab init"):
            state.load_root("nitro")
        with pytest.raises(UsageError, match="32 bytes"):
            state.save_key("operators", "short", b"short")
        state.save("operators/third.key", b"cut")
        with pytest.raises(UsageError, match=r"third\.key is damaged"):
            state.load_keys("operators")
