"""What every transport promises about streams."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest

from schemas.errors import UsageError
from transport import (
    ClosedError,
    ConflictError,
    Consumer,
    ConsumerSpec,
    FullError,
    Retention,
    Start,
    StreamDelivery,
    StreamSpec,
    Transport,
    UnavailableError,
)

pytestmark = pytest.mark.anyio
Connect = Callable[[str], AbstractAsyncContextManager[Transport]]
MEBIBYTE = 1024 * 1024


def stream(
    name: str, *, retention: Retention = Retention.LIMITS, max_bytes: int = 8 * MEBIBYTE
) -> StreamSpec:
    return StreamSpec(name=name, subjects=(f"{name}.>",), max_bytes=max_bytes, retention=retention)


def durable(name: str, *, ack_wait: float = 30.0, max_pending: int = 4096, batch: int = 256) -> ConsumerSpec:
    return ConsumerSpec(
        stream=name,
        subject=f"{name}.>",
        durable="workers",
        ack_wait=ack_wait,
        max_pending=max_pending,
        batch=batch,
    )


async def fill(transport: Transport, name: str, count: int) -> list[bytes]:
    payloads = [b"%d" % number for number in range(count)]
    for number, payload in enumerate(payloads):
        await transport.append(f"{name}.a", payload, message_id=f"{name}-{number}")
    return payloads


async def take(consumer: Consumer, count: int) -> list[StreamDelivery]:
    async with asyncio.timeout(90):
        return [await anext(consumer) for _ in range(count)]


async def payloads_of(consumer: Consumer, count: int) -> list[bytes]:
    items = await take(consumer, count)
    for item in items:
        await item.ack()
    return [item.payload for item in items]


async def is_empty(transport: Transport, consumer: Consumer, name: str) -> bool:
    """Append a last message; what comes before it would have been there."""
    await transport.append(f"{name}.end", b"end", message_id=f"{name}-end")
    [item] = await take(consumer, 1)
    await item.ack()
    return item.payload == b"end"


async def test_what_was_acknowledged_is_read_in_order_later_and_by_others(
    alice: Transport, bob: Transport, unique: str
) -> None:
    await alice.ensure_stream(stream(unique))
    sent = await fill(alice, unique, 50)
    for reader in (alice, bob):
        consumer = await reader.consume(ConsumerSpec(stream=unique, subject=f"{unique}.>"))
        assert await payloads_of(consumer, 50) == sent
        await consumer.close()


async def test_many_appends_may_be_in_flight(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    await asyncio.gather(
        *(alice.append(f"{unique}.a", b"%d" % number, message_id=str(number)) for number in range(1000))
    )
    consumer = await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.a"))
    assert sorted(await payloads_of(consumer, 1000), key=int) == [b"%d" % number for number in range(1000)]


async def test_a_message_id_is_stored_once(alice: Transport, bob: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    for transport in (alice, alice, bob):
        await transport.append(f"{unique}.a", b"once", message_id="same")
    await alice.append(f"{unique}.a", b"next", message_id="other")
    consumer = await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.>"))
    assert await payloads_of(consumer, 2) == [b"once", b"next"]


async def test_a_message_id_is_forgotten_after_the_window(alice: Transport, unique: str) -> None:
    spec = StreamSpec(name=unique, subjects=(f"{unique}.>",), max_bytes=MEBIBYTE, duplicate_window=0.2)
    await alice.ensure_stream(spec)
    consumer = await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.>"))
    await alice.append(f"{unique}.a", b"x", message_id="same")
    await take(consumer, 1)
    second = asyncio.ensure_future(take(consumer, 1))
    async with asyncio.timeout(90):
        while not second.done():
            await alice.append(f"{unique}.a", b"x", message_id="same")
            await asyncio.wait((second,), timeout=0.05)
    assert second.result()[0].payload == b"x"


async def test_a_subject_that_no_stream_stores_is_unavailable(alice: Transport, unique: str) -> None:
    with pytest.raises(UnavailableError):
        await alice.append(unique, b"x", message_id="1", deadline=0.3)


async def test_a_stream_that_does_not_exist_cannot_be_read(alice: Transport, unique: str) -> None:
    with pytest.raises(UnavailableError):
        await alice.consume(durable(unique))


async def test_appended_messages_reach_subscribers_and_published_ones_the_stream(
    alice: Transport, unique: str
) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    await alice.ensure_stream(stream(unique))
    await alice.subscribe(f"{unique}.>", lambda delivery: heard.put(delivery.payload))
    await alice.append(f"{unique}.a", b"appended", message_id="1")
    await alice.publish(f"{unique}.a", b"published")
    consumer = await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.>"))
    assert await payloads_of(consumer, 2) == [b"appended", b"published"]
    async with asyncio.timeout(90):
        assert [await heard.get(), await heard.get()] == [b"appended", b"published"]


async def test_making_a_stream_twice_is_making_it_once(alice: Transport, bob: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    await fill(alice, unique, 1)
    await bob.ensure_stream(stream(unique))
    await bob.ensure_stream(stream(unique, max_bytes=4 * MEBIBYTE))
    consumer = await bob.consume(durable(unique))
    assert await payloads_of(consumer, 1) == [b"0"]


async def test_a_stream_cannot_become_another_kind(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    with pytest.raises(ConflictError):
        await alice.ensure_stream(stream(unique, retention=Retention.WORK_QUEUE))


async def test_two_streams_do_not_store_one_subject(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    with pytest.raises(ConflictError):
        await alice.ensure_stream(
            StreamSpec(name=f"{unique}b", subjects=(f"{unique}.a",), max_bytes=MEBIBYTE)
        )


async def test_a_full_stream_refuses_and_keeps_what_it_has(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique, max_bytes=8192))
    appends = [alice.append(f"{unique}.a", b"x" * 1000, message_id=str(number)) for number in range(20)]
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    stored = outcomes.count(None)
    assert 0 < stored < 9
    assert all(outcome is None or isinstance(outcome, FullError) for outcome in outcomes)
    consumer = await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.>"))
    assert len(await payloads_of(consumer, stored)) == stored


async def test_the_sharers_of_a_durable_get_each_message_once(
    alice: Transport, bob: Transport, unique: str
) -> None:
    await alice.ensure_stream(stream(unique))
    consumers = [await party.consume(durable(unique, batch=4)) for party in (alice, bob)]
    got: list[bytes] = []
    enough = asyncio.Event()

    async def work(consumer: Consumer) -> None:
        async for item in consumer:
            got.append(item.payload)
            await item.ack()
            if len(got) == 100:
                enough.set()

    workers = [asyncio.ensure_future(work(consumer)) for consumer in consumers]
    sent = await fill(alice, unique, 100)
    async with asyncio.timeout(90):
        await enough.wait()
    for consumer in consumers:
        await consumer.close()
    await asyncio.gather(*workers)
    assert sorted(got, key=int) == sent


async def test_what_is_not_acknowledged_in_time_comes_again(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    consumer = await alice.consume(durable(unique, ack_wait=1.0))
    await fill(alice, unique, 1)
    [first] = await take(consumer, 1)
    [second] = await take(consumer, 1)
    assert (first.payload, second.payload) == (b"0", b"0")
    assert (first.delivered, second.delivered) == (1, 2)
    await second.ack()
    assert await is_empty(alice, consumer, unique)


async def test_in_progress_keeps_a_message(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    # Long enough that a machine which stands still for a second does not let it run out.
    consumer = await alice.consume(durable(unique, ack_wait=1.5))
    await fill(alice, unique, 1)
    [item] = await take(consumer, 1)
    again = asyncio.ensure_future(take(consumer, 1))
    for _ in range(20):
        await asyncio.wait((again,), timeout=0.1)
        assert not again.done()
        await item.in_progress()
    [late] = await again
    assert late.delivered == 2


async def test_a_message_handed_back_comes_again(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    consumer = await alice.consume(durable(unique))
    await fill(alice, unique, 1)
    [item] = await take(consumer, 1)
    await item.nak()
    [item] = await take(consumer, 1)
    assert item.delivered == 2
    asked = asyncio.get_running_loop().time()
    await item.nak(0.3)
    [item] = await take(consumer, 1)
    assert item.delivered == 3
    assert asyncio.get_running_loop().time() - asked >= 0.29


async def test_a_message_handed_back_can_go_to_another(alice: Transport, bob: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    first = await alice.consume(durable(unique))
    await fill(alice, unique, 3)
    await take(first, 1)
    await first.close()
    second = await bob.consume(durable(unique))
    # One was taken and never answered; the two that were only fetched ahead are there at once.
    assert sorted(await payloads_of(second, 2)) == [b"1", b"2"]


async def test_no_more_than_max_pending_are_out(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    consumer = await alice.consume(durable(unique, max_pending=2))
    await fill(alice, unique, 5)
    items = await take(consumer, 2)
    third = asyncio.ensure_future(take(consumer, 1))
    await asyncio.wait((third,), timeout=0.2)
    assert not third.done()
    await items[0].ack()
    assert (await third)[0].payload == b"2"


async def test_a_work_queue_forgets_what_was_acknowledged(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique, retention=Retention.WORK_QUEUE, max_bytes=8192))
    consumer = await alice.consume(durable(unique))
    # More than the queue holds at once: it takes them only because it forgets.
    for number in range(40):
        await alice.append(f"{unique}.a", b"x" * 1000, message_id=str(number))
        [item] = await take(consumer, 1)
        await item.ack()
        await alice.flush()


async def test_a_work_queue_has_one_reader_per_subject(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique, retention=Retention.WORK_QUEUE))
    await alice.consume(durable(unique))
    with pytest.raises(ConflictError):
        await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.a", durable="others"))
    with pytest.raises(ConflictError):
        await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.a"))


async def test_a_durable_goes_on_where_it_was(connector: Connect, alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    sent = await fill(alice, unique, 10)
    async with connector("carol") as carol:
        assert await payloads_of(await carol.consume(durable(unique, batch=4)), 4) == sent[:4]
    async with connector("carol") as carol:
        rest = await payloads_of(await carol.consume(durable(unique)), 6)
    assert sorted(rest) == sent[4:]


async def test_the_sole_reader_of_a_durable_has_at_once_what_the_former_one_took(
    connector: Connect, alice: Transport, unique: str
) -> None:
    await alice.ensure_stream(stream(unique, retention=Retention.WORK_QUEUE))
    sent = await fill(alice, unique, 4)
    spec = msgspec.structs.replace(durable(unique), sole=True)
    async with connector("carol") as carol:
        first, *_unanswered = await take(await carol.consume(spec), 3)
        await first.ack()
        await carol.flush()
    async with connector("carol") as carol, asyncio.timeout(spec.ack_wait / 2):
        consumer = await carol.consume(spec)
        assert [item.payload for item in await take(consumer, 3)] == sent[1:]


async def test_a_consumer_gets_what_its_filter_covers(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    for number, token in enumerate(["a", "b", "a", "c"]):
        await alice.append(f"{unique}.{token}", b"%d" % number, message_id=str(number))
    consumer = await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.a"))
    assert [(item.subject, item.payload) for item in await take(consumer, 2)] == [
        (f"{unique}.a", b"0"),
        (f"{unique}.a", b"2"),
    ]


async def test_a_new_consumer_begins_where_it_is_told(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    for number, token in enumerate(["a", "b", "a"]):
        await alice.append(f"{unique}.{token}", b"%d" % number, message_id=str(number))
    new = await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.>", start=Start.NEW))
    last = await alice.consume(
        ConsumerSpec(stream=unique, subject=f"{unique}.>", start=Start.LAST_PER_SUBJECT)
    )
    await alice.append(f"{unique}.b", b"3", message_id="3")
    assert [item.payload for item in await take(new, 1)] == [b"3"]
    assert [item.payload for item in await take(last, 3)] == [b"1", b"2", b"3"]


async def test_a_stream_forgets_by_age(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(
        StreamSpec(
            name=unique, subjects=(f"{unique}.>",), max_bytes=MEBIBYTE, max_age=0.2, duplicate_window=0.1
        )
    )
    await alice.append(f"{unique}.a", b"old", message_id="old")
    async with asyncio.timeout(90):
        # What a new consumer sees first is the eldest there is: in the end a later one than the first.
        for later in itertools.count():
            await alice.append(f"{unique}.a", b"later", message_id=f"later-{later}")
            consumer = await alice.consume(ConsumerSpec(stream=unique, subject=f"{unique}.>"))
            first = await anext(consumer)
            await consumer.close()
            if first.payload == b"later":
                break
    assert later > 0


async def test_closing_a_consumer_ends_its_iterations(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    consumer = await alice.consume(durable(unique))

    async def read() -> int:
        return len([item async for item in consumer])

    readers = [asyncio.ensure_future(read()) for _ in range(3)]
    await asyncio.sleep(0)
    await consumer.close()
    await consumer.close()
    async with asyncio.timeout(90):
        assert await asyncio.gather(*readers) == [0, 0, 0]


async def test_closing_the_transport_is_an_error_to_who_reads(connector: Connect, unique: str) -> None:
    async with connector("carol") as carol:
        await carol.ensure_stream(stream(unique))
        consumer = await carol.consume(durable(unique))
        reader = asyncio.ensure_future(anext(consumer))
        await asyncio.sleep(0)
        await carol.close()
        with pytest.raises(ClosedError):
            await reader


async def test_a_cancelled_reader_loses_nothing(alice: Transport, unique: str) -> None:
    await alice.ensure_stream(stream(unique))
    consumer = await alice.consume(durable(unique))
    reader = asyncio.ensure_future(anext(consumer))
    await asyncio.wait((reader,), timeout=0.05)
    reader.cancel()
    await asyncio.wait((reader,))
    await fill(alice, unique, 1)
    assert await payloads_of(consumer, 1) == [b"0"]


@pytest.mark.parametrize("message_id", ["", "a b", "a\r\nb", "x" * 129])
async def test_a_message_id_is_printable(alice: Transport, unique: str, message_id: str) -> None:
    with pytest.raises(UsageError, match="message id"):
        await alice.append(unique, b"", message_id=message_id)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", "x" * 65])
async def test_a_stream_has_a_plain_name(alice: Transport, name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        await alice.ensure_stream(StreamSpec(name=name, subjects=("a",), max_bytes=1))
    with pytest.raises(UsageError, match="name"):
        await alice.consume(ConsumerSpec(stream=name, subject="a"))
