"""A file system in user space that behaves as configfs-tsm does, and misbehaves as a script says.

    python configfs_server.py MOUNTPOINT

`report/` is the kernel's directory: mkdir makes attributes, every write counts a generation, a binary
attribute is committed when it is closed and its errors are lost then, a report is made at the first read
after a write. Beside it, for the test: `script` takes faults as JSON, `journal` says what was done, `held` is
read to its end when a read of outblob waits, writing to `go` lets it, `empty` is read to its end when no
directory is left.
"""

import contextlib
import errno
import json
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mfusepy

PATIENCE = 20.0  # seconds for a test to go on
PAGE = 4096  # the most that one read gives
FOREIGN = b"\xee" * 64  # what another writer asks for
BINARY = ("inblob", "outblob", "auxblob")
WRITABLE = ("inblob", "privlevel")
CONTROLS = ("script", "journal", "held", "go", "empty")


@dataclass
class Script:
    """How to behave; hexadecimal where it is bytes."""

    provider: str = "sev_guest"  # none: no driver is loaded
    template: str = ""  # a report, into which report data goes
    data_at: int = 0x50
    table: str = ""
    floor: int = 0  # the guest's own privilege level
    answer: str | None = None  # instead of all that
    texts: dict[str, str] = field(default_factory=dict)  # what text attributes say
    errors: dict[str, list[int]] = field(default_factory=dict)  # per operation or attribute, one each
    races: int = 0  # how often another writer comes between the write and the read
    theft: bool = False  # another's report, with a generation that does not show it
    hold: bool = False  # outblob is not made before `go`


@dataclass
class Entry:
    """One directory of reports."""

    generation: int = 0
    asked: bytes = b""
    options: dict[str, bytes] = field(default_factory=dict)
    made: tuple[int, bytes] | None = None


class Configfs(mfusepy.Operations):  # type: ignore[misc]  # mfusepy has no types
    """The operations."""

    use_ns = True

    def __init__(self) -> None:
        self.script = Script()
        self.entries: dict[str, Entry] = {}
        self.journal: list[str] = []
        self.pending: dict[int, bytes] = {}
        self.handles = 0
        self.condition = threading.Condition()
        self.held = False
        self.released = False

    def init(self, path: str) -> None:
        """Say that the mount is there."""
        print("ready", flush=True)

    def getattr(self, path: str, fh: Any = None) -> dict[str, int]:
        """Give sizes as configfs does: none for binary attributes, a page for text."""
        parts = path.strip("/").split("/")
        with self.condition:
            if path in ("/", "/report") or (
                len(parts) == 2 and parts[0] == "report" and parts[1] in self.entries
            ):
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
            if len(parts) == 1 and parts[0] in CONTROLS:
                return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": 0}
            if len(parts) == 3 and parts[1] in self.entries and parts[2] in self.attributes():
                mode = 0o200 if parts[2] in WRITABLE else 0o400
                size = 0 if parts[2] in BINARY else PAGE
                return {"st_mode": stat.S_IFREG | mode, "st_nlink": 1, "st_size": size}
        raise mfusepy.FuseOSError(errno.ENOENT)

    def attributes(self) -> tuple[str, ...]:
        """List what the provider shows."""
        common = ("inblob", "outblob", "provider", "generation")
        return (
            (*common, "auxblob", "privlevel", "privlevel_floor")
            if self.script.provider == "sev_guest"
            else common
        )

    def readdir(self, path: str, fh: Any) -> list[str]:
        """List a directory."""
        with self.condition:
            if path == "/":
                return [".", "..", "report", *CONTROLS]
            return [".", "..", *(self.entries if path == "/report" else self.attributes())]

    def mkdir(self, path: str, mode: int) -> int:
        """Make an instance, if there is a provider."""
        with self.condition:
            self.note("mkdir")
            if not self.script.provider:
                raise mfusepy.FuseOSError(errno.ENXIO)
            name = path.rpartition("/")[2]
            if name in self.entries:
                raise mfusepy.FuseOSError(errno.EEXIST)
            self.entries[name] = Entry()
            return 0

    def rmdir(self, path: str) -> int:
        """Remove an instance with its attributes."""
        with self.condition:
            self.note("rmdir")
            del self.entries[path.rpartition("/")[2]]
            self.condition.notify_all()
            return 0

    def open(self, path: str, fi: Any) -> int:
        """Open past every cache."""
        with self.condition:
            self.handles += 1
            fi.fh = self.handles
            fi.direct_io = 1
        return 0

    def truncate(self, path: str, length: int, fh: Any = None) -> int:
        """Do nothing, as configfs does."""
        return 0

    def read(self, path: str, size: int, offset: int, fi: Any) -> bytes:
        """Give a page at most."""
        with self.condition:
            data = self.control(path) if path.count("/") == 1 else self.attribute(path, offset)
        return data[offset : offset + min(size, PAGE)]

    def write(self, path: str, data: bytes, offset: int, fi: Any) -> int:
        """Take a text attribute at once, and keep a binary one until it is closed."""
        with self.condition:
            if path == "/script":
                self.script = Script(**json.loads(data))
                self.journal.clear()
                self.held = self.released = False
            elif path == "/go":
                self.released = True
                self.condition.notify_all()
            elif path.endswith("/inblob"):
                self.note("inblob")
                self.pending[fi.fh] = self.pending.get(fi.fh, b"") + data
            else:
                self.note("privlevel")
                if not self.script.floor <= int(data) <= 3:
                    raise mfusepy.FuseOSError(errno.EINVAL)
                entry = self.entry(path)
                entry.options["privlevel"] = data
                entry.generation += 1
        return len(data)

    def flush(self, path: str, fi: Any) -> int:
        """Commit a binary attribute: too late for its writer to hear of errors."""
        with self.condition:
            data = self.pending.pop(fi.fh, None)
            if data is not None and len(data) <= 64:
                entry = self.entry(path)
                entry.asked = data
                entry.generation += 1
        return 0

    def control(self, path: str) -> bytes:
        """Read one of the files for the test."""
        if path == "/held":
            self.wait(lambda: self.held)
        elif path == "/empty":
            self.wait(lambda: not self.entries)
        elif path == "/journal":
            return "\n".join(self.journal).encode()
        return b""

    def attribute(self, path: str, offset: int) -> bytes:
        """Read an attribute."""
        name, entry = path.rpartition("/")[2], self.entry(path)
        if name in self.script.texts:
            return self.script.texts[name].encode()
        if name == "provider":
            return f"{self.script.provider}\n".encode()
        if name == "privlevel_floor":
            return f"{self.script.floor}\n".encode()
        if name == "generation":
            return f"{entry.generation}\n".encode()
        if offset == 0:
            self.note(name)
        if not entry.asked:
            raise mfusepy.FuseOSError(errno.EINVAL)
        if name == "auxblob":
            return bytes.fromhex(self.script.table)
        if self.script.hold:
            self.held = True
            self.condition.notify_all()
            self.wait(lambda: self.released)
        return self.report(entry)

    def report(self, entry: Entry) -> bytes:
        """Make a report over what is asked now, once for each generation."""
        if entry.made is None or entry.made[0] != entry.generation:
            if self.script.races:
                self.script.races -= 1
                entry.asked = FOREIGN
                entry.generation += 1
            asked = FOREIGN if self.script.theft else entry.asked
            template = bytes.fromhex(self.script.template)
            at = self.script.data_at
            made = template[:at] + asked.ljust(64, b"\0") + template[at + 64 :]
            if "privlevel" in entry.options:
                made = made[:0x30] + int(entry.options["privlevel"]).to_bytes(4, "little") + made[0x34:]
            if self.script.answer is not None:
                made = bytes.fromhex(self.script.answer)
            entry.made = (entry.generation, made)
        return entry.made[1]

    def entry(self, path: str) -> Entry:
        """Return the instance that a path is in."""
        return self.entries[path.split("/")[2]]

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait, but not without end: a test that hangs in the kernel can't be stopped."""
        if not self.condition.wait_for(until, PATIENCE):
            raise mfusepy.FuseOSError(errno.ETIMEDOUT)

    def note(self, what: str) -> None:
        """Write down what is done, and fail where the script wants that."""
        self.journal.append(what)
        errors = self.script.errors.get(what)
        if errors:
            raise mfusepy.FuseOSError(errors.pop(0))


if __name__ == "__main__":
    uncached = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
    with contextlib.suppress(RuntimeError):  # the end by a signal, which is how a test ends it
        mfusepy.FUSE(Configfs(), sys.argv[1], raw_fi=True, foreground=True, max_threads=16, **uncached)
