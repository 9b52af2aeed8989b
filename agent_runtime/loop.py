"""The event loop of an agent or client: uvloop's where it is installed, else asyncio's own.

uvloop is an optional extra (`sealbus[uvloop]`) and part of what is measured: an enclave has it if its image
names it (docs/decisions/0028-handlers-run-in-the-read-and-on-uvloop.md).
"""

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


def run(work: Callable[..., Awaitable[T]], *arguments: Any, fast: bool = True) -> T:
    """Run `work` to its end; `fast` False leaves uvloop out even where it is installed."""
    use_uvloop = fast and find_spec("uvloop") is not None
    return anyio.run(work, *arguments, backend_options={"use_uvloop": use_uvloop})
