"""What attesters behind an ioctl share: the numbers of requests, and memory that the kernel fills.

Requests hold addresses of other memory, so this is ctypes: `fcntl.ioctl` passes on a copy of what it is
given, which suits no structure that is read back after a failure.
"""

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attestation.errors import AttesterError
from schemas.errors import Reason

# Descriptor, request, address of its argument. Raises `OSError`.
Ioctl = Callable[[int, int, int], None]

_READ_WRITE = 3  # asm-generic/ioctl.h, as x86-64 and arm64 have it
_DIRECTION_AT, _SIZE_AT, _KIND_AT = 30, 16, 8


def iowr(kind: int, number: int, size: int) -> int:
    """Return the number of a request with an argument of `size` bytes that goes both ways (`_IOWR`)."""
    return _READ_WRITE << _DIRECTION_AT | size << _SIZE_AT | kind << _KIND_AT | number


def kernel_ioctl(descriptor: int, request: int, address: int) -> None:
    """Make the system call ioctl(2); raise `OSError` where it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = ctypes.c_int(descriptor), ctypes.c_ulong(request), ctypes.c_void_p(address)
    if libc.ioctl(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Memory:
    """Memory of a fixed size and place, which the kernel reads and may write."""

    __slots__ = ("_buffer", "address", "size")

    def __init__(self, content: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(content, len(content))
        self.address = ctypes.addressof(self._buffer)
        self.size = len(content)

    def read(self) -> bytes:
        """Return what is in it now."""
        return self._buffer.raw


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a device, or raise `AttesterError`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise AttesterError(Reason.UNAVAILABLE, f"cannot open {path}: {advice(error)}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def advice(error: OSError) -> str:
    """Return what an error of a device's file means for its user."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "permission denied: run as root, or give this user the device"
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return "it is not there: load the guest driver, or see `sealbus doctor`"
    return os.strerror(error.errno) if error.errno else "it failed"
