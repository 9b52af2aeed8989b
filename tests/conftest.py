"""What every test may use: asyncio, a real broker per module, both transports behind one fixture."""

import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lab.broker import Broker
from transport import MemoryBroker, Transport, connect

# How long an example takes says how busy the machine is, nothing about the code.
_UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("brief", _UNHURRIED, max_examples=40)
settings.register_profile("thorough", _UNHURRIED)  # what `make ci` names
settings.load_profile("brief")

# Folders whose tests wait for processes more than they compute.
WAITING = {"invariants", "mesh", "operating"}

Connect = Callable[[str], AbstractAsyncContextManager[Transport]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files whose tests wait over the whole run, where workers take files in this order.

    What waits runs beside what computes then; at the end, all of it would leave the processors idle.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    files = list(dict.fromkeys(item.path for item in items))
    places: dict[Path, float] = {}
    for waits in (True, False):
        alike = [path for path in files if (path.parent.name in WAITING) is waits]
        # The last tenth is for what is short.
        places |= {path: (0.9 if waits else 1) * place / len(alike) for place, path in enumerate(alike)}
    items.sort(key=lambda item: places[item.path])


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run tests marked `anyio` on asyncio, which nats-py needs."""
    return "asyncio"


@pytest.fixture(scope="module")
async def broker(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """A real nats-server with JetStream on a free port of loopback, shared by the tests of a module.

    Its streams and subjects are shared too: name them by `unique`.
    """
    async with Broker(tmp_path_factory.mktemp("broker"), monitor=True) as started:
        yield started


@pytest.fixture(params=["memory", "nats"])
def connector(request: pytest.FixtureRequest) -> Connect:
    """Connect a party to one broker by name: in memory, then once more to a real one."""
    if request.param == "memory":
        memory = MemoryBroker()
        return lambda name: memory.connect(name=name)
    broker: Broker = request.getfixturevalue("broker")
    return lambda name: connect(broker.url, name=name)


@pytest.fixture
async def alice(anyio_backend: str, connector: Connect) -> AsyncIterator[Transport]:
    """A party."""
    async with connector("alice") as transport:
        yield transport


@pytest.fixture
async def bob(anyio_backend: str, connector: Connect) -> AsyncIterator[Transport]:
    """Another party of the same broker."""
    async with connector("bob") as transport:
        yield transport


@pytest.fixture(scope="session")
def name_counter() -> "itertools.count[int]":
    """What makes names unique."""
    return itertools.count()


@pytest.fixture
def unique(name_counter: "itertools.count[int]") -> str:
    """A name for streams and subjects that no other test uses."""
    return f"t{next(name_counter)}"
