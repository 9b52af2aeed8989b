"""The recording: whole records in order, a torn end is not yet there, and all that anybody sent is in it."""

import stat
import tracemalloc
from pathlib import Path

import pytest

from lab.tap import Frame, Towards, payloads, records
from lab.tap.recording import Recorder
from schemas.errors import UsageError

FRAMES = [Frame("PUB", subject=f"a.{number}", body=b"payload %d" % number) for number in range(50)]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    recorder = Recorder(tmp_path / "wire")
    for number, frame in enumerate(FRAMES):
        recorder.write(number, "party", Towards.BROKER, frame.encode(), None)
    recorder.write(
        99, "party", Towards.PARTY, b"", (Frame("MSG", subject="said", sid="1", body=b"injected"),)
    )
    recorder.write(99, "party", Towards.BROKER, FRAMES[0].encode(), ())
    recorder.close()
    return tmp_path / "wire"


def test_records_come_back_in_order(recording: Path) -> None:
    found = [record for _, record in records(recording)]
    assert [record.frame() for record in found[:50]] == FRAMES
    assert [record.connection for record in found[:50]] == list(range(50))
    assert found[50].frame().body == b"injected"
    assert found[51].sent == ()


def test_one_can_go_on_from_where_one_was(recording: Path) -> None:
    offsets = [offset for offset, _ in records(recording)]
    for place, offset in enumerate(offsets):
        rest = [record for _, record in records(recording, offset)]
        assert len(rest) == len(offsets) - place - 1


def test_a_torn_end_has_not_happened_yet(recording: Path) -> None:
    whole = recording.read_bytes()
    offsets = [offset for offset, _ in records(recording)]
    for cut in range(offsets[-2], offsets[-1]):
        recording.write_bytes(whole[:cut])
        assert len(list(records(recording))) == len(offsets) - 1
    recording.write_bytes(whole)
    assert len(list(records(recording))) == len(offsets)


@pytest.mark.parametrize("junk", [b"\xff" * 50, b"\0\0\0\x04junk", b"<html>" * 9], ids=repr)
def test_what_is_no_recording_is_said_to_be_none(recording: Path, junk: bytes) -> None:
    whole = len(list(records(recording)))
    end = recording.stat().st_size
    recording.write_bytes(recording.read_bytes() + junk)
    read = records(recording)
    assert [next(read) for _ in range(whole)][-1][0] == end
    with pytest.raises(UsageError, match=f"damaged at byte {end}"):
        next(read)


def test_memory_stays_flat_however_long_it_is(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "long")
    frame = Frame("PUB", subject="a", body=bytes(100_000)).encode()
    for _ in range(1000):
        recorder.write(1, "party", Towards.BROKER, frame, None)
    recorder.close()
    assert (tmp_path / "long").stat().st_size > 100_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in payloads(tmp_path / "long")) == 1000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * 2**20


def test_everything_that_was_sent_is_among_the_payloads(recording: Path) -> None:
    everything = list(payloads(recording))
    assert everything[:50] == [frame.encode() for frame in FRAMES]
    assert any(b"injected" in payload for payload in everything)


def test_only_its_owner_reads_it(recording: Path) -> None:
    assert stat.S_IMODE(recording.stat().st_mode) == 0o600
