"""A client that is killed in the middle of a job: the next process of it has every result."""

import json
import signal
import subprocess
import sys
import urllib.request
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from agent_runtime import Client, TaskFailedError
from lab.attached import BROKER_URL
from lab.client import lab_client
from lab.mesh import RunningMesh
from schemas.errors import Reason
from tests.mesh.world import eventually
from transport import ConsumerSpec

pytestmark = pytest.mark.anyio

# Half of the tasks are held: fewer than the slots of one worker, for a mesh may know of one alone so far.
TASKS, COLLECTED = 6, 2
FORGOTTEN = 4  # of those that a process has collected, the first so many
DONE_WITHIN = 120.0
AT_ONCE = ConsumerSpec(stream="", subject="").ack_wait / 2  # without having to wait until the broker gives up


@pytest.fixture
def shown(mesh: RunningMesh, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a mesh that other processes find."""
    monkeypatch.setenv(BROKER_URL, mesh.url)
    return mesh.state.root


@asynccontextmanager
async def leaving(shown: Path, journal: Path, name: str) -> AsyncIterator[Process]:
    """Run a client that submits and collects a little, and kill it at the end."""
    command = [sys.executable, "-m", "tests.mesh.leaving_client"]
    arguments = [str(shown), str(journal), name, str(TASKS), str(COLLECTED)]
    async with await anyio.open_process([*command, *arguments], stderr=subprocess.DEVNULL) as client:
        assert client.stdout is not None
        said = b""
        with anyio.fail_after(90):
            while b"collected\n" not in said:
                said += await client.stdout.receive()
        try:
            yield client
        finally:
            client.kill()
            await client.wait()
    assert said.decode().splitlines() == [
        *(f"{name} {2 * number}" for number in range(COLLECTED)),
        "collected",
    ]


async def release(client: Client, name: str) -> None:
    for number in range(1, TASKS, 2):
        await client.context.call("release", f"{name} {number}", type(None))


def unanswered(mesh: RunningMesh, journal: Path) -> int:
    """Return how many results the broker has sent to a journal's processes and not heard of again."""
    head = json.loads(journal.read_text("utf-8").partition("\n")[0])
    name = f"reply-{b64decode(head['reply_to']).hex()}"
    assert mesh.broker is not None
    with urllib.request.urlopen(f"{mesh.broker.monitor_url}/jsz?consumers=true", timeout=5) as answer:  # noqa: S310
        told = json.load(answer)
    streams = [stream for account in told["account_details"] for stream in account["stream_detail"]]
    consumers = [consumer for stream in streams for consumer in stream.get("consumer_detail") or ()]
    return sum(consumer["num_ack_pending"] for consumer in consumers if consumer["name"] == name)


async def test_the_next_process_of_a_killed_client_collects_all_results(
    mesh: RunningMesh, shown: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "job.journal"
    async with leaving(shown, journal, "job"):
        pass
    assert journal.stat().st_mode & 0o777 == 0o600
    async with lab_client(shown, "desk", journal=journal) as client:
        tasks = client.resume()
        assert [task.label for task in tasks] == [f"job {number}" for number in range(TASKS)]
        await release(client, "job")
        with anyio.fail_after(DONE_WITHIN):
            for number, task in enumerate(tasks):
                if number % 2:
                    assert await task.result(int) >= 1
                else:
                    assert await task.result(str) == f"job {number}"
                # Of those that do not go a third process is told again.
                if number < FORGOTTEN:
                    task.forget()
    # Each ran in one place: nothing was submitted twice.
    async with lab_client(shown, "desk", journal=journal) as client:
        arrivals = await client.context.call("read", "job", dict[str, list[int]])
        assert {name: count for name, (_, count) in arrivals.items()} == {
            f"job {number}": 1 for number in range(1, TASKS, 2)
        }
        again = client.resume()
        assert [task.label for task in again] == [f"job {number}" for number in range(FORGOTTEN, TASKS)]
        with anyio.fail_after(DONE_WITHIN):
            assert await again[0].result(str) == again[0].label
        for task in again:
            task.forget()
    async with lab_client(shown, "desk", journal=journal) as client:
        assert client.resume() == ()
    assert "job 4" not in journal.read_text()


async def test_results_that_a_killed_client_had_been_sent_and_not_read_come_to_the_next_process_at_once(
    mesh: RunningMesh, shown: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "sent.journal"
    async with leaving(shown, journal, "sent") as client:
        client.send_signal(signal.SIGSTOP)
        async with lab_client(shown, "desk") as other:
            await release(other, "sent")
        await eventually(lambda: unanswered(mesh, journal) >= TASKS // 2)
    async with lab_client(shown, "desk", journal=journal) as client:
        with anyio.fail_after(AT_ONCE):
            for number, task in enumerate(client.resume()):
                assert await task.result(int if number % 2 else str)


async def test_a_task_whose_epoch_closed_while_its_client_was_away_ends_and_says_so(
    mesh: RunningMesh, shown: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "job.journal"
    async with leaving(shown, journal, "left"):
        pass
    (process,) = [agent for agent in mesh.admitted() if agent.name == "worker-2"]
    await mesh.operators.revoke("instance", process.instance, "test")
    await eventually(lambda: "worker-2" in mesh.refused)
    async with lab_client(shown, "desk", journal=journal) as client:
        held = [task for number, task in enumerate(client.resume()) if number % 2]
        for task in held:
            with anyio.fail_after(DONE_WITHIN), pytest.raises(TaskFailedError) as failure:
                await task.result(int)
            assert failure.value.reason is Reason.EPOCH_CLOSED
