"""What ends is started again, ever more slowly if it does not last; what was refused for good is let be."""

import os
import signal
from pathlib import Path
from typing import cast

import anyio
import pytest

from agent_runtime.errors import EXIT_REFUSED
from lab import keeping
from lab.broker import Broker
from lab.keeping import RESTART_MOST, RESTART_PAUSE, SETTLED, keep_broker, keep_machines
from lab.launch import Exited, Rack
from lab.machine import Machine
from lab.plan import COORDINATOR
from lab.state import State
from schemas.errors import UsageError


class Racked:
    """A rack that only notes what it is told to start."""

    def __init__(self) -> None:
        self.started: list[str] = []

    async def start(self, machine: Machine) -> int:
        self.started.append(cast("str", machine))
        return 1


@pytest.mark.anyio
async def test_only_an_agent_that_was_refused_for_good_is_let_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RESTART_PAUSE", 0.0)
    state = State(tmp_path)
    state.logs.mkdir()
    (state.logs / "barred.log").write_text("2026-01-01 sealbus.agent measurement-not-in-policy\n")
    rack, refused, again = Racked(), dict[str, str](), list[str]()
    # A bug ends an interpreter with 1 as well; a coordinator is not refused by itself.
    statuses = {"bug": 1, "usage": 2, "account": 3, "killed": -9, "ended": 0, COORDINATOR: EXIT_REFUSED}
    names = ["barred", *statuses]
    send, exits = anyio.create_memory_object_stream[Exited](16)

    async def told(name: str) -> None:
        again.append(name)
        if len(again) == len(statuses):
            send.close()

    with exits, send:
        send.send_nowait(Exited("barred", EXIT_REFUSED))
        for name, status in statuses.items():
            send.send_nowait(Exited(name, status))
        machines = {name: cast("Machine", name) for name in names}
        with anyio.fail_after(90):
            await keep_machines(
                state, cast("Rack", rack), machines, exits, refused=refused.__setitem__, again=told
            )
    assert sorted(rack.started) == sorted(again) == sorted(statuses)
    assert refused == {"barred": "measurement-not-in-policy"}


@pytest.mark.anyio
async def test_a_broker_is_started_again_also_when_its_port_is_taken_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping, "RESTART_PAUSE", 0.01)
    async with Broker(tmp_path) as broker:
        start, taken, again = broker.start, [UsageError("port is taken")], anyio.Event()

        async def started() -> None:
            if taken:
                raise taken.pop()
            await start()

        monkeypatch.setattr(broker, "start", started)
        with anyio.fail_after(120):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keep_broker, broker, again.set)
                os.kill(broker.pid, signal.SIGKILL)
                await again.wait()
                tasks.cancel_scope.cancel()
        assert broker.is_running
    assert "port is taken" in caplog.text


def test_what_does_not_last_is_started_again_ever_more_slowly_to_a_bound() -> None:
    pauses, now, taken = keeping._Pauses(), 0.0, []
    for _ in range(7):
        taken.append(pauses.next("agent", now))
        now += taken[-1] + 0.1
    assert taken == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert taken[-1] == RESTART_MOST
    assert pauses.next("another", now) == RESTART_PAUSE
    # What ran for a while before it ended has not failed at its start.
    assert pauses.next("agent", now + RESTART_MOST + SETTLED) == RESTART_PAUSE
