"""An engine for containers, or the reason why there is none.

Without one these tests are skipped; with SEALBUS_ENGINE=required that is a failure.
"""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio
import pytest

from tests.mesh.fixtures import lab_template
from tests.mesh.world import is_alive
from tests.ports import free_ports
from transport import connect

# Before testcontainers is imported, which reads them once. Ports on loopback need no detour through a
# gateway, and a reaper's image cannot be pulled everywhere.
for _name, _value in {
    "TESTCONTAINERS_RYUK_DISABLED": "true",
    "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
    "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
    "TC_POOLING_INTERVAL": "0.1",
}.items():
    os.environ.setdefault(_name, _value)

import docker  # noqa: E402
from docker.errors import DockerException  # noqa: E402
from testcontainers.core.container import DockerContainer  # noqa: E402

__all__ = ["lab_template"]

BROKER = "nats:2.15-alpine"
LABEL = "sealbus-test"  # the process that made it
COMPOSE_LABEL = "com.docker.compose.project"
PROJECT_PREFIX = "sealbus-test-"
DEFAULT_SOCKET = "/var/run/docker.sock"
BROKER_PATIENCE = 120.0
PAUSED = 6.0  # seconds: longer than it takes a client to take the broker for lost


def why_no_engine() -> str | None:
    """Return why no engine can be used; None if one answers."""
    advice = "start one, or join the group that may use it"
    kind, _, path = os.environ.get("DOCKER_HOST", f"unix://{DEFAULT_SOCKET}").partition("://")
    if kind == "unix":
        # Asked first: the client leaves its socket open where it finds nobody.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except OSError as error:
                return f"no container engine answers at {path} ({error.strerror}): {advice}"
    try:
        client = docker.from_env()
        try:
            client.ping()
        finally:
            client.close()
    except DockerException as error:
        # Its own words: no socket, or one that is not for this user.
        return f"no container engine answers ({error}): {advice}"
    return None


@pytest.fixture(scope="session")
def engine() -> None:
    """Skip, or fail if the environment says that one is required, where no engine answers."""
    reason = why_no_engine()
    if reason is None:
        remove_leftovers()
        return
    if os.environ.get("SEALBUS_ENGINE") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def remove_leftovers() -> None:
    """Remove what test processes that were killed have left: nobody else would."""

    def is_left(labels: dict[str, str]) -> bool:
        pid = labels.get(LABEL) or labels.get(COMPOSE_LABEL, "").removeprefix(PROJECT_PREFIX)
        return pid.isdecimal() and not is_alive(int(pid))

    client = docker.from_env()
    try:
        for label in (LABEL, COMPOSE_LABEL):
            for container in client.containers.list(all=True, filters={"label": label}):
                if is_left(container.labels):
                    container.remove(force=True, v=True)
        for network in client.networks.list(filters={"label": COMPOSE_LABEL}):
            if is_left(network.attrs.get("Labels") or {}):
                network.remove()
        for volume in client.volumes.list(filters={"label": COMPOSE_LABEL}):
            if is_left(volume.attrs.get("Labels") or {}):
                volume.remove(force=True)
    finally:
        client.close()


class ContainerBroker:
    """A broker in a container, on a port that a restart does not change."""

    def __init__(self, container: DockerContainer, port: int) -> None:
        self._container = container.get_wrapped_container()
        self.url = f"nats://127.0.0.1:{port}"

    async def begin(self, how: str) -> None:
        """Restart, kill, stop or pause it."""
        await anyio.to_thread.run_sync(getattr(self._container, how))

    async def end(self, how: str) -> None:
        """Bring it back; a pause has to last for anybody to notice."""
        if how == "pause":
            await anyio.sleep(PAUSED)
        if how != "restart":
            await anyio.to_thread.run_sync(
                self._container.unpause if how == "pause" else self._container.start
            )


@contextmanager
def broker_container() -> Iterator[ContainerBroker]:
    port = free_ports()
    container = DockerContainer(BROKER).with_command(["nats-server", "-js", "-p", "4222"])
    container.with_kwargs(labels={LABEL: str(os.getpid())})
    with container.with_bind_ports(4222, port):
        yield ContainerBroker(container, port)


@pytest.fixture(scope="module")
async def container_broker(anyio_backend: str, engine: None) -> AsyncIterator[ContainerBroker]:
    """A broker in a container, which answers."""
    with broker_container() as broker:
        async with connect(broker.url, name="first", patience=BROKER_PATIENCE):
            pass
        yield broker
