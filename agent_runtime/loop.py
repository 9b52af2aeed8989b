"""The event loop of an agent or client: uvloop's where it is installed, else asyncio's own.

uvloop is an optional extra (`sealbus[uvloop]`) and part of what is measured: an enclave has it if its image
names it (docs/decisions/0028-handlers-run-in-the-read-and-on-uvloop.md).

Memory is kept as well: a frame of some hundred KiB is freed as soon as it is sent, and glibc
would give its pages back to the kernel and ask for them anew, frame by frame.
"""

import ctypes
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any, TypeVar

import anyio

# mallopt(3). What is freed at the heap's end goes back to the kernel above so many bytes; below so many, no
# allocation is a mapping of its own.
_TRIM_THRESHOLD, _KEPT = -1, 64 * 1024 * 1024
_MMAP_THRESHOLD, _ON_HEAP = -3, 4 * 1024 * 1024

T = TypeVar("T")


def run(work: Callable[..., Awaitable[T]], *arguments: Any, fast: bool = True) -> T:
    """Run `work` to its end; `fast` False leaves uvloop out even where it is installed."""
    keep_memory()
    use_uvloop = fast and find_spec("uvloop") is not None
    return anyio.run(work, *arguments, backend_options={"use_uvloop": use_uvloop})


def keep_memory() -> None:
    """Let the allocator keep up to 64 MiB of what is freed, where it is glibc's."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_TRIM_THRESHOLD, _KEPT)
        libc.mallopt(_MMAP_THRESHOLD, _ON_HEAP)
