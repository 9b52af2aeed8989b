"""What a host keeps of the Evidence that it minted."""

from pathlib import Path

import pytest

from lab.evidence import KEPT, Minted, keep, kept, relied_on
from schemas.errors import UsageError
from schemas.evidence import Evidence


def minted(time: int) -> Minted:
    return Minted(time, b"k" * 64, b"c" * 32, Evidence("a/type", b"%d" % time), {"root.der": b"r"})


def test_evidence_is_kept_as_it_was_minted_and_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "evidence" / "vault"
    keep(folder, minted(1))
    assert list(kept(folder)) == [minted(1)]
    assert folder.stat().st_mode & 0o077 == 0
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600]


def test_a_machine_keeps_the_last_and_forgets_the_oldest(tmp_path: Path) -> None:
    for time in range(KEPT + 3):
        keep(tmp_path, minted(time))
    assert [each.time for each in kept(tmp_path)] == list(range(3, KEPT + 3))


def test_what_cannot_be_read_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    keep(tmp_path, minted(1))
    keep(tmp_path, minted(2))
    first, _ = sorted(tmp_path.iterdir())
    first.write_bytes(first.read_bytes()[:-1])
    assert list(kept(tmp_path)) == [minted(2)]
    assert list(kept(tmp_path / "nowhere")) == []


def test_an_admission_rests_on_the_last_that_was_minted_before_it() -> None:
    made = [minted(time) for time in (10, 20, 30)]
    assert relied_on(made, 25) == minted(20)
    assert relied_on(made, 20) == minted(20)
    assert relied_on(made, 9) is None
    assert relied_on(made, None) == minted(30)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="make room"):
        keep(tmp_path / "file" / "vault", minted(1))
