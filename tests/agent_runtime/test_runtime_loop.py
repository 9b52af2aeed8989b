"""The event loop's process keeps the memory that large frames free."""

import subprocess
import sys

import pytest

# A process of its own: what an allocator is told cannot be taken back.
PROGRAM = """
import resource
from agent_runtime.loop import run

def one_turn():
    return len([b"x" * 300_000 for _ in range(20)])

async def work():
    one_turn()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        one_turn()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(run(work, fast=False))
"""
PAGES_A_TURN = 20 * 300_000 // 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")
def test_what_large_frames_free_is_not_asked_of_the_kernel_again() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, timeout=60)
    # Without being told to, glibc gives all of it back each turn.
    assert int(done.stdout) < PAGES_A_TURN
