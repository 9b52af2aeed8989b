"""`python -m scheduler`: exit codes, one line per event, the status file, an end on SIGTERM."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from lab.accounts import access_for
from lab.broker import Broker, BrokerUser, make_nkey
from scheduler import __main__ as program
from scheduler.status import StatusFile
from schemas.codec import encode
from schemas.errors import UsageError
from schemas.scheduling import Load
from schemas.subjects import Kind, Party, subject
from tests.scheduler.script import HOUR, NOW, RED, task, token
from transport import Credentials, connect

MESH = b"p" * 32


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave logging and the environment to other tests as they were."""
    monkeypatch.delenv("SEALBUS_NATS_URL", raising=False)
    monkeypatch.delenv("SEALBUS_NKEY_SEED", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "arguments", [[], ["--mesh", "xyz"], ["--mesh", "00" * 16], ["--mesh", MESH.hex(), "more"]]
)
def test_wrong_arguments_are_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        program.main(arguments)
    assert exit_.value.code == 2


@pytest.mark.parametrize(
    ("environment", "next_step"),
    [
        ({}, "set SEALBUS_NATS_URL"),
        ({"SEALBUS_NATS_URL": "not a url"}, "URL"),
        ({"SEALBUS_NATS_URL": "nats://127.0.0.1:4222", "SEALBUS_NKEY_SEED": "not a seed"}, "seed"),
    ],
)
def test_a_wrong_environment_is_usage_and_says_what_to_mend(
    environment: dict[str, str],
    next_step: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert program.main(["--mesh", MESH.hex()]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert next_step.lower() in msgspec.json.decode(line)["error"].lower()
    assert "not a seed" not in line


def test_a_broker_that_is_not_there_is_said_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unused_port: int
) -> None:
    monkeypatch.setenv("SEALBUS_NATS_URL", f"nats://127.0.0.1:{unused_port}")
    monkeypatch.setattr(program, "PATIENCE", 0.3)
    assert program.main(["--mesh", MESH.hex()]) == 3
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on: the discard service's, which needs root to be taken."""
    return 9


def test_a_status_file_that_cannot_be_written_is_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--status-file"):
        StatusFile(tmp_path / "absent" / "status.json").write({"done": 1})


def test_a_status_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    status = StatusFile(path)
    for number in range(3):
        status.write({"done": number})
        assert msgspec.json.decode(path.read_bytes()) == {"done": number}
    assert os.listdir(tmp_path) == ["status.json"]


@pytest.mark.anyio
async def test_it_works_within_its_account_and_stops_on_sigterm(anyio_backend: str, tmp_path: Path) -> None:
    parties = (Party.SCHEDULER, Party.AGENT)
    seeds = {party: make_nkey() for party in parties}
    users = [
        BrokerUser(name=party.value, nkey_public=seeds[party][1], access=access_for(party, MESH))
        for party in parties
    ]
    status_file = tmp_path / "status.json"
    async with Broker(tmp_path / "broker", users=users) as broker:
        seed = seeds[Party.SCHEDULER][0]
        process = await start(broker.url, "--status-file", str(status_file), seed=seed)
        try:
            agent = Credentials(seed=seeds[Party.AGENT][0])
            async with connect(broker.url, name="agent", credentials=agent) as transport:
                assigned = anyio.Event()

                async def on_assign(_: object) -> None:
                    assigned.set()

                await transport.subscribe(subject(MESH, Kind.ASSIGN, token(1, "a")), on_assign)
                with anyio.fail_after(90):
                    said = await hear(process, "started")
                    data = task(1, deadline=NOW + 100 * 365 * 24 * HOUR)
                    await transport.append(subject(MESH, Kind.TASK, RED), data, message_id="1")
                    while not assigned.is_set():
                        load = Load(token(1, "a"), (RED,), 4, 0, (), False)
                        await transport.publish(subject(MESH, Kind.LOAD, token(1)), encode(load))
                        with anyio.move_on_after(0.1):
                            await assigned.wait()
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            errors = TextReceiveStream(process.stderr)
            lines = (said + "".join([part async for part in errors])).splitlines()
            assert await process.wait() == 0
        finally:
            await end(process)
    [stopped] = [event for line in lines if (event := msgspec.json.decode(line))["event"] == "stopped"]
    assert stopped["totals"]["assigned"] == 1
    assert msgspec.json.decode(status_file.read_bytes())["received"] == 1
    assert "Traceback" not in "".join(lines)


@pytest.mark.anyio
async def test_it_can_be_stopped_while_it_waits_for_its_broker(anyio_backend: str, unused_port: int) -> None:
    process = await start(f"nats://127.0.0.1:{unused_port}")
    try:
        with anyio.fail_after(90):
            await hear(process, "connecting")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        await end(process)


async def hear(process: Process, event: str) -> str:
    """Return what a process says up to an event."""
    assert process.stderr is not None
    said, errors = "", TextReceiveStream(process.stderr)
    while event not in said:
        said += await errors.receive()
    return said


async def start(url: str, *arguments: str, seed: str | None = None) -> Process:
    """Start the program."""
    account = {"SEALBUS_NKEY_SEED": seed} if seed else {}
    return await anyio.open_process(
        [sys.executable, "-m", "scheduler", "--mesh", MESH.hex(), *arguments],
        env={**os.environ, **account, "SEALBUS_NATS_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


async def end(process: Process) -> None:
    """Leave nothing running, whatever the test did."""
    if process.returncode is None:
        process.kill()
    await process.aclose()
