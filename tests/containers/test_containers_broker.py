"""What the transport promises, of a broker in a container; and that nothing acknowledged is lost with it."""

import asyncio
import itertools

import anyio
import pytest

from tests.containers.conftest import BROKER_PATIENCE, ContainerBroker
from transport import (
    BucketSpec,
    Consumer,
    ConsumerSpec,
    Delivery,
    Retention,
    StreamSpec,
    Transport,
    TransportError,
    connect,
)

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]
MEBIBYTE = 1024 * 1024
FAULTS = ("restart", "kill", "stop", "pause")
BEFORE, AFTER = 200, 100


def stream(name: str) -> StreamSpec:
    return StreamSpec(
        name=name, subjects=(f"{name}.>",), max_bytes=16 * MEBIBYTE, retention=Retention.WORK_QUEUE
    )


def workers(name: str) -> ConsumerSpec:
    return ConsumerSpec(stream=name, subject=f"{name}.>", durable="workers")


async def test_subjects_streams_and_buckets_work(container_broker: ContainerBroker, unique: str) -> None:
    async with (
        connect(container_broker.url, name="alice") as alice,
        connect(container_broker.url, name="bob") as bob,
    ):
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def hear(delivery: Delivery) -> None:
            heard.put_nowait(delivery.payload)

        await bob.subscribe(f"{unique}-said.*", hear)
        await alice.publish(f"{unique}-said.hello", b"hello")
        assert await asyncio.wait_for(heard.get(), 90) == b"hello"

        await alice.ensure_stream(stream(unique))
        for number in (1, 2, 2, 3):
            await alice.append(f"{unique}.a", b"%d" % number, message_id=f"{unique}-{number}")
        consumer = await bob.consume(workers(unique))
        assert [await taken(consumer) for _ in range(3)] == [b"1", b"2", b"3"]

        await alice.ensure_bucket(BucketSpec(name=f"{unique}-kv", max_bytes=MEBIBYTE))
        await alice.kv_put(f"{unique}-kv", "key", b"value")
        entry = await bob.kv_get(f"{unique}-kv", "key")
        assert entry is not None
        assert entry.value == b"value"


@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_acknowledged_is_lost(
    container_broker: ContainerBroker, unique: str, fault: str
) -> None:
    acknowledged: list[int] = []
    enough, again = anyio.Event(), anyio.Event()

    async def work(transport: Transport) -> None:
        for number in itertools.count():
            # Unanswered is not refused: it is said again under the same id until it is acknowledged.
            while True:
                try:
                    await transport.append(
                        f"{unique}.a", b"%d" % number, message_id=f"{unique}-{number}", deadline=2
                    )
                    break
                except TransportError:
                    await anyio.sleep(0.05)
            acknowledged.append(number)
            if len(acknowledged) == BEFORE:
                enough.set()
            if again.is_set():
                return

    async with connect(container_broker.url, name="alice") as alice:
        await alice.ensure_stream(stream(unique))
        with anyio.fail_after(90):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work, alice)
                await enough.wait()
                await container_broker.begin(fault)
                await container_broker.end(fault)
                back = len(acknowledged)
                while len(acknowledged) < back + AFTER:  # noqa: ASYNC110 - the count is of another task
                    await anyio.sleep(0.02)
                again.set()
    async with connect(container_broker.url, name="bob", patience=BROKER_PATIENCE) as bob:
        consumer = await bob.consume(workers(unique))
        read = [int(await taken(consumer)) for _ in acknowledged]
    assert read == acknowledged == list(range(len(acknowledged)))


async def taken(consumer: Consumer) -> bytes:
    async with asyncio.timeout(90):
        item = await anext(consumer)
    await item.ack()
    return bytes(item.payload)
