"""Calls that sit in the kernel: one at a time, given up in time, and never more than one left behind."""

import threading

import anyio
import pytest
from anyio import to_thread

from attestation import AttesterError
from attestation.attesters.blocking import OneAtATime
from schemas.errors import Reason


class Kernel:
    """Something that blocks until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.left = threading.Event()

    def call(self) -> str:
        self.entered.set()
        self.go.wait()
        self.left.set()
        return "done"


@pytest.mark.anyio
async def test_what_a_call_returns_or_raises_comes_back() -> None:
    device = OneAtATime()
    assert await device.run(lambda: "answer") == "answer"
    with pytest.raises(AttesterError, match="too-large"):
        await device.run(_fail)
    assert await device.run(lambda: "again") == "again"


def _fail() -> None:
    raise AttesterError(Reason.TOO_LARGE)


@pytest.mark.anyio
async def test_calls_wait_for_each_other() -> None:
    device, kernel = OneAtATime(), Kernel()
    seen: list[str] = []

    async def second() -> None:
        seen.append(await device.run(lambda: "second" if kernel.left.is_set() else "at the same time"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(device.run, kernel.call)
        await to_thread.run_sync(kernel.entered.wait)
        tasks.start_soon(second)
        await anyio.lowlevel.checkpoint()
        kernel.go.set()
    assert seen == ["second"]


@pytest.mark.anyio
async def test_after_the_deadline_the_device_is_refused_until_the_kernel_lets_go() -> None:
    device, kernel = OneAtATime(deadline=0.5), Kernel()
    with pytest.raises(AttesterError, match="in time"):
        await device.run(kernel.call)
    await to_thread.run_sync(kernel.entered.wait)
    with pytest.raises(AttesterError, match="given up"):
        await device.run(lambda: "never")
    kernel.go.set()
    # Its thread has yet to say that it is through.
    await to_thread.run_sync(device._at_work.acquire)
    device._at_work.release()
    assert await device.run(lambda: "answer") == "answer"
