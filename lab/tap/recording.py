"""The recording: every frame that passed a tap, in the order in which it passed, in one growing file.

Each record is a length (u32, big-endian) and msgpack. A reader in another process can follow it: a record
that is not there to its end has not happened yet.
"""

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from lab.tap.stream import MAX_PAYLOAD, Frame, FrameError, Splitter, Towards
from schemas.errors import UsageError

_LENGTH = struct.Struct(">I")
_CHUNK = 4 * 1024 * 1024
_LARGEST = 4 * MAX_PAYLOAD  # a frame and what went on in its place


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One frame. `sent` is what went on in its place; None if that was the frame itself."""

    time: int  # milliseconds since 1970, by the tap's host
    connection: int
    party: str
    towards: Towards
    arrived: bytes  # empty for what the tap said of its own accord
    sent: tuple[bytes, ...] | None = None

    def frame(self) -> Frame:
        """Return the frame that arrived, or the first that was sent in its place."""
        data = self.arrived or (self.sent or (b"",))[0]
        frames = Splitter(self.towards).feed(data)
        if len(frames) != 1:
            raise FrameError("a record is one frame")
        return frames[0]


class Recorder:
    """Writes a recording."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        self._file: BinaryIO = path.open("wb")
        path.chmod(0o600)
        self._encoder = msgspec.msgpack.Encoder()
        self.frames = 0
        self.messages = 0  # from parties to the broker: what the broker counts as `in_msgs`
        self.delivered = 0  # from the broker to parties
        self.size = 0  # bytes of frames, both ways

    def write(
        self, connection: int, party: str, towards: Towards, arrived: bytes, sent: tuple[Frame, ...] | None
    ) -> None:
        """Append one record."""
        forwarded = tuple(frame.encode() for frame in sent) if sent is not None else None
        record = Record(time.time_ns() // 1_000_000, connection, party, towards, arrived, forwarded)
        data = self._encoder.encode(record)
        self._file.write(_LENGTH.pack(len(data)) + data)
        self.frames += 1
        self.size += len(arrived)

    def count(self, towards: Towards, frames: int) -> None:
        """Count messages that went on."""
        if towards is Towards.BROKER:
            self.messages += frames
        else:
            self.delivered += frames

    def flush(self) -> None:
        """Let readers see what was written."""
        self._file.flush()

    def close(self) -> None:
        """End the recording."""
        self._file.close()


def records(path: Path, start: int = 0) -> Iterator[tuple[int, Record]]:
    """Yield (offset behind it, record) for each record from `start` on; memory stays flat."""
    decoder = msgspec.msgpack.Decoder(Record)
    with path.open("rb") as file:
        file.seek(start)
        held = b""
        position = start
        while chunk := file.read(_CHUNK):
            held += chunk
            at = 0
            while len(held) - at >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(held, at)
                if length > _LARGEST:
                    raise UsageError(f"{path} is no recording of a tap, or is damaged at byte {position}")
                end = at + _LENGTH.size + length
                if len(held) < end:
                    break
                try:
                    record = decoder.decode(held[at + _LENGTH.size : end])
                except msgspec.MsgspecError as error:
                    raise UsageError(
                        f"{path} is no recording of a tap, or is damaged at byte {position}"
                    ) from error
                position += end - at
                yield position, record
                at = end
            held = held[at:]


def measured(path: Path) -> tuple[int, int]:
    """Return what a recording holds: messages that went to the broker, and bytes of frames, both ways."""
    messages = size = 0
    for _, record in records(path):
        size += len(record.arrived)
        if record.towards is not Towards.BROKER:
            continue
        if record.sent is None:
            messages += record.frame().is_message
        else:
            sent = (Splitter(record.towards).feed(each) for each in record.sent)
            messages += sum(frame.is_message for frames in sent for frame in frames)
    return messages, size


def payloads(path: Path) -> Iterator[bytes]:
    """Yield every byte string that anybody sent: whole frames, subjects, replies and headers included."""
    for _, record in records(path):
        if record.arrived:
            yield record.arrived
        yield from record.sent or ()
