"""The test's side of the file system that plays configfs-tsm."""

import ctypes.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("configfs_server.py")
CAP_SYS_ADMIN = 21
PATIENCE = 10.0  # seconds for the server to end


class Kernel:
    """A mounted file system."""

    def __init__(self, mount: Path) -> None:
        self._mount = mount
        self.reports = mount / "report"

    def script(self, **behaviour: Any) -> None:
        """Say how to behave from now on; see `configfs_server.Script`."""
        self._write("script", json.dumps(behaviour).encode())

    def journal(self) -> list[str]:
        """Return what was done since the script was written."""
        return (self._mount / "journal").read_text().split()

    def wait_until_held(self) -> None:
        """Wait until a read of outblob waits."""
        (self._mount / "held").read_bytes()

    def go(self) -> None:
        """Let it go on."""
        self._write("go", b"1")

    def wait_until_empty(self) -> None:
        """Wait until no directory is left."""
        (self._mount / "empty").read_bytes()

    def left(self) -> list[str]:
        """Return the directories that are there."""
        return os.listdir(self.reports)

    def _write(self, name: str, data: bytes) -> None:
        descriptor = os.open(self._mount / name, os.O_WRONLY)
        try:
            assert os.write(descriptor, data) == len(data)
        finally:
            os.close(descriptor)


def missing() -> str | None:
    """Say what a file system in user space lacks here, or None."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no access to /dev/fuse"
    if not (ctypes.util.find_library("fuse3") or ctypes.util.find_library("fuse")):
        return "no libfuse3: on Debian, apt-get install libfuse3-3 fuse3"
    if shutil.which("fusermount3") is None and not _may_mount():
        return "no fusermount3, and this process may not mount: on Debian, apt-get install fuse3"
    if os.geteuid() == 0 and not _may_mount():
        return "this container may not mount"
    return None


def _may_mount() -> bool:
    status = Path("/proc/self/status").read_text("ascii")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> CAP_SYS_ADMIN & 1)


@contextmanager
def mounted(mount: Path) -> Iterator[Kernel]:
    """Mount the file system."""
    with subprocess.Popen(
        [sys.executable, str(SERVER), str(mount)], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n", "the file system did not come up"
            yield Kernel(mount)
        finally:
            server.terminate()
            try:
                server.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                server.kill()
                subprocess.run(["umount", "--lazy", mount], check=False)
