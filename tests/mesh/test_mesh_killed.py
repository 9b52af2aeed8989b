"""A lab whose process is killed leaves nothing behind, and its directory can be used at once."""

import subprocess
import sys
from pathlib import Path

import anyio
import msgspec
import pytest

from lab.facts import LabFacts
from tests.mesh.world import copy_lab, eventually, is_alive

pytestmark = pytest.mark.anyio


UP = [sys.executable, "-c", "from console.cli import main; main()", "lab", "up", "--json", "--dir"]


async def killed(lab: Path) -> dict[str, int]:
    """Bring a lab up in a process of its own and kill that; return the processes that there were."""
    async with await anyio.open_process([*UP, str(lab)], stderr=subprocess.DEVNULL) as up:
        assert up.stdout is not None
        with anyio.fail_after(120):
            pids = msgspec.json.decode(await up.stdout.receive(), type=LabFacts).pids
        assert all(is_alive(pid) for pid in pids.values())
        up.kill()
        await up.wait()
    return pids


@pytest.mark.slow
async def test_no_process_outlives_a_lab_that_is_killed(lab_template: Path, tmp_path: Path) -> None:
    lab = copy_lab(lab_template, tmp_path)
    pids = await killed(lab)
    assert {"broker", "coordinator", "scheduler", "counter"} <= set(pids)
    await eventually(lambda: not any(map(is_alive, pids.values())))
    # Its directory is free at once, and tells no lies about a lab that is up.
    again = await killed(lab)
    assert not set(pids.values()) & set(again.values())
