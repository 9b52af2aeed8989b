"""What every transport promises about subjects."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from schemas.errors import UsageError
from transport import ClosedError, Delivery, State, TooLargeError, Transport
from transport.interface import HEADER_ROOM

pytestmark = pytest.mark.anyio
Connect = Callable[[str], AbstractAsyncContextManager[Transport]]


class Collector:
    """A handler that keeps what it gets; awaiting `first` waits for that many."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self._more = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> None:
        self.got.append(delivery)
        self._more.set()

    async def first(self, count: int) -> list[bytes]:
        async with asyncio.timeout(90):
            while len(self.got) < count:
                self._more.clear()
                await self._more.wait()
        return [delivery.payload for delivery in self.got]


async def test_what_is_published_after_subscribe_returned_arrives(
    alice: Transport, bob: Transport, unique: str
) -> None:
    for attempt in range(20):
        collector = Collector()
        await alice.subscribe(f"{unique}.{attempt}", collector)
        await bob.publish(f"{unique}.{attempt}", b"hello")
        assert await collector.first(1) == [b"hello"]
        assert collector.got[0].subject == f"{unique}.{attempt}"


async def test_what_nobody_listens_to_comes_back_as_its_hint_alone(
    alice: Transport, bob: Transport, unique: str
) -> None:
    collector, hints, all_there = Collector(), list[str](), asyncio.Event()

    def unheard(hint: str) -> None:
        hints.append(hint)
        if hint == "last":
            all_there.set()

    await alice.on_unheard(unheard)
    await bob.subscribe(f"{unique}.heard", collector)
    await alice.publish(f"{unique}.heard", b"1", "heard")
    alice.post(f"{unique}.heard", b"2", hint="heard")
    await alice.publish(f"{unique}.nobody", b"3", "published")
    alice.post(f"{unique}.nobody", b"4", hint="posted")
    alice.post(f"{unique}.nobody", b"5")
    alice.post(f"{unique}.nobody", b"6", hint="last")
    alice.push()
    async with asyncio.timeout(90):
        await all_there.wait()
    assert hints == ["published", "posted", "last"]
    assert await collector.first(2) == [b"1", b"2"]


async def test_messages_of_one_publisher_arrive_in_order(
    alice: Transport, bob: Transport, unique: str
) -> None:
    collector = Collector()
    await alice.subscribe(unique, collector)
    sent = [b"%d" % number for number in range(2000)]
    for payload in sent:
        await bob.publish(unique, payload)
    assert await collector.first(len(sent)) == sent


async def test_every_byte_arrives_as_it_was_sent(alice: Transport, bob: Transport, unique: str) -> None:
    collector = Collector()
    await alice.subscribe(unique, collector)
    payloads = [b"", bytes(range(256)), b"\r\nPING\r\n", b"MSG a 1 3\r\nabc\r\n", b"x" * alice.max_payload]
    for payload in payloads:
        await bob.publish(unique, payload)
    assert await collector.first(len(payloads)) == payloads


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.*.c", "a.b.c", True),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.b", "a.b.c", False),
        ("*.b", "a.b", True),
    ],
)
async def test_wildcards_match_whole_tokens(
    alice: Transport, bob: Transport, unique: str, pattern: str, subject: str, expected: bool
) -> None:
    collector, marker = Collector(), Collector()
    await alice.subscribe(f"{unique}.{pattern}", collector)
    await alice.subscribe(f"{unique}-end", marker)
    await bob.publish(f"{unique}.{subject}", b"x")
    await bob.publish(f"{unique}-end", b"end")
    await marker.first(1)
    assert [delivery.payload for delivery in collector.got] == ([b"x"] if expected else [])


async def test_each_subscriber_gets_every_message(alice: Transport, bob: Transport, unique: str) -> None:
    one, two, own = Collector(), Collector(), Collector()
    await alice.subscribe(unique, one)
    await alice.subscribe(unique, two)
    await bob.subscribe(unique, own)
    await bob.publish(unique, b"x")
    assert await one.first(1) == await two.first(1) == await own.first(1) == [b"x"]


async def test_a_queue_group_shares_its_messages(alice: Transport, bob: Transport, unique: str) -> None:
    members, all_of_it = [Collector(), Collector()], Collector()
    await alice.subscribe(unique, members[0], queue="group")
    await bob.subscribe(unique, members[1], queue="group")
    await bob.subscribe(unique, all_of_it)
    sent = [b"%d" % number for number in range(200)]
    for payload in sent:
        await alice.publish(unique, payload)
    await alice.flush()
    await all_of_it.first(len(sent))
    async with asyncio.timeout(90):
        while sum(len(member.got) for member in members) < len(sent):
            await asyncio.wait(
                [asyncio.ensure_future(m._more.wait()) for m in members], return_when="FIRST_COMPLETED"
            )
            for member in members:
                member._more.clear()
    shares = [{delivery.payload for delivery in member.got} for member in members]
    assert shares[0] | shares[1] == set(sent)
    assert not shares[0] & shares[1]
    assert all(shares)


async def test_a_handler_is_awaited_one_message_at_a_time(
    alice: Transport, bob: Transport, unique: str
) -> None:
    running, most = 0, 0
    done = asyncio.Event()

    async def handler(delivery: Delivery) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1
        if delivery.payload == b"last":
            done.set()

    await alice.subscribe(unique, handler)
    for _ in range(20):
        await bob.publish(unique, b"x")
    await bob.publish(unique, b"last")
    async with asyncio.timeout(90):
        await done.wait()
    assert most == 1


async def test_a_closed_subscription_gets_nothing_more(alice: Transport, bob: Transport, unique: str) -> None:
    collector, marker = Collector(), Collector()
    subscription = await alice.subscribe(unique, collector)
    await alice.subscribe(f"{unique}-end", marker)
    await bob.publish(unique, b"1")
    await collector.first(1)
    await subscription.close()
    await subscription.close()
    await alice.flush()
    await bob.publish(unique, b"2")
    await bob.publish(f"{unique}-end", b"end")
    await marker.first(1)
    assert len(collector.got) == 1


async def test_a_handler_may_close_its_own_subscription(
    alice: Transport, bob: Transport, unique: str
) -> None:
    seen: list[bytes] = []
    finished = asyncio.Event()

    async def handler(delivery: Delivery) -> None:
        await subscription.close()
        seen.append(delivery.payload)
        finished.set()

    subscription = await alice.subscribe(unique, handler)
    for payload in (b"1", b"2", b"3"):
        await bob.publish(unique, payload)
    async with asyncio.timeout(90):
        await finished.wait()
    await alice.flush()
    assert seen == [b"1"]


# What else a taker raises asyncio reports by itself, and the test's runner with it.
@pytest.mark.parametrize(
    ("error", "how"), [(ZeroDivisionError, "subscribe"), (OSError, "subscribe"), (OSError, "listen")]
)
async def test_a_handler_that_raises_ends_the_transport_with_its_error(
    connector: Connect, unique: str, error: type[Exception], how: str
) -> None:
    async def handler(delivery: Delivery) -> None:
        raise error("a bug")

    def taker(payload: memoryview) -> None:
        raise error("a bug")

    async def use() -> None:
        async with connector("carol") as carol:
            if how == "listen":
                await carol.listen(unique, taker)
            else:
                await carol.subscribe(unique, handler)
            await carol.publish(unique, b"x")
            async with asyncio.timeout(90):
                await asyncio.Event().wait()

    with pytest.raises(error, match="a bug"):
        await use()


async def test_an_error_of_the_block_comes_out_as_itself(connector: Connect) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with connector("carol"):
            raise KeyError("mine")


async def test_what_is_too_large_is_refused_here(alice: Transport, unique: str) -> None:
    assert alice.max_payload == 1024 * 1024 - HEADER_ROOM
    with pytest.raises(TooLargeError):
        await alice.publish(unique, b"x" * (alice.max_payload + 1))
    with pytest.raises(TooLargeError):
        await alice.append(unique, b"x" * (alice.max_payload + 1), message_id="1")


@pytest.mark.parametrize(
    "subject", ["", "a b", "a..b", ".a", "a.", "a.*", "a.>", "a\r\nPUB b", "ä", "$JS.API", "a" * 600]
)
async def test_no_other_subject_can_be_published_to(alice: Transport, subject: str) -> None:
    with pytest.raises(UsageError, match="subject"):
        await alice.publish(subject, b"")
    with pytest.raises(UsageError, match="subject"):
        await alice.append(subject, b"", message_id="1")


@pytest.mark.parametrize("subject", ["", "a b", "a..b", "a.>.b", "a>", "a*", "a\n", "$SYS.>"])
async def test_no_other_filter_can_be_subscribed_to(alice: Transport, subject: str) -> None:
    with pytest.raises(UsageError, match="filter"):
        await alice.subscribe(subject, Collector())


async def test_a_queue_has_a_plain_name(alice: Transport, unique: str) -> None:
    with pytest.raises(UsageError, match="name"):
        await alice.subscribe(unique, Collector(), queue="a b")


async def test_after_close_everything_says_so(connector: Connect, unique: str) -> None:
    states: list[State] = []
    async with connector("carol") as carol:
        states.append(carol.state)
        await carol.close()
        await carol.close()
        states.append(carol.state)
        with pytest.raises(ClosedError):
            await carol.publish(unique, b"")
        with pytest.raises(ClosedError):
            await carol.flush()
        with pytest.raises(ClosedError):
            await carol.subscribe(unique, Collector())
        with pytest.raises(ClosedError):
            await carol.append(unique, b"", message_id="1")
        with pytest.raises(ClosedError):
            await carol.kv_get(unique, "key")
        with pytest.raises(ClosedError):
            await carol.wait_connected()
    assert states == [State.CONNECTED, State.CLOSED]


async def test_what_was_published_before_close_arrives(
    connector: Connect, bob: Transport, unique: str
) -> None:
    collector = Collector()
    await bob.subscribe(unique, collector)
    async with connector("carol") as carol:
        for number in range(100):
            await carol.publish(unique, b"%d" % number)
    assert len(await collector.first(100)) == 100


async def test_a_handler_may_close_the_transport(connector: Connect, unique: str) -> None:
    closed = asyncio.Event()
    async with connector("carol") as carol:

        async def handler(delivery: Delivery) -> None:
            try:
                await carol.close()
            finally:
                closed.set()

        await carol.subscribe(unique, handler)
        await carol.publish(unique, b"x")
        async with asyncio.timeout(90):
            await closed.wait()
        assert carol.state is State.CLOSED


async def test_a_listener_hears_each_message_once_and_in_order_until_it_closes(
    alice: Transport, bob: Transport, unique: str
) -> None:
    heard: list[bytes] = []
    # What it is given is there until it returns.
    listening = await alice.listen(unique, lambda payload: heard.append(bytes(payload)))
    collector = Collector()
    await alice.subscribe(f"{unique}.end", collector)
    sent = [b"%d" % number for number in range(500)]
    for payload in sent:
        bob.post(unique, payload[:1], payload[1:])
    bob.post(f"{unique}.end", b"end")
    bob.push()
    assert await collector.first(1) == [b"end"]
    assert heard == sent
    await listening.close()
    await listening.close()
    bob.post(unique, b"late")
    bob.post(f"{unique}.end", b"end")
    bob.push()
    assert await collector.first(2) == [b"end", b"end"]
    assert len(heard) == len(sent)


async def test_what_is_posted_is_checked_as_what_is_published(alice: Transport) -> None:
    with pytest.raises(UsageError):
        alice.post("a b", b"")
    with pytest.raises(TooLargeError):
        alice.post("a", bytes(alice.max_payload), b"x")
    await alice.close()
    with pytest.raises(ClosedError):
        alice.post("a", b"")


async def test_who_posts_without_end_can_wait_for_room(alice: Transport, bob: Transport, unique: str) -> None:
    collector = Collector()
    await alice.subscribe(unique, collector)
    for _ in range(64):
        if bob.post(unique, bytes(100_000)):
            await bob.breathe()
    assert len(await collector.first(64)) == 64
