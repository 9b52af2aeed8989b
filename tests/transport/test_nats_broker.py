"""What only a real broker can do: go away, come back, refuse."""

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab.broker import Broker, BrokerUser, make_nkey
from schemas.errors import UsageError
from transport import (
    Access,
    BucketSpec,
    ConsumerSpec,
    Credentials,
    Delivery,
    FullError,
    KvEntry,
    NotPermittedError,
    Retention,
    State,
    StreamSpec,
    Transport,
    UnavailableError,
    appending,
    connect,
    consuming,
    creating_bucket,
    creating_stream,
    publishing,
    reading_bucket,
    subscribing,
    writing_bucket,
)

pytestmark = pytest.mark.anyio
MEBIBYTE = 1024 * 1024
STREAM = StreamSpec(
    name="work", subjects=("work.>",), max_bytes=64 * MEBIBYTE, retention=Retention.WORK_QUEUE
)
WORKERS = ConsumerSpec(stream="work", subject="work.>", durable="workers")


@pytest.fixture
async def mortal(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Broker]:
    """A broker that a test may kill."""
    async with Broker(tmp_path / "mortal") as broker:
        yield broker


class States:
    """Keeps what `on_state` said; awaiting `until` waits for one."""

    def __init__(self) -> None:
        self.seen: list[State] = []
        self._more = asyncio.Event()

    def __call__(self, state: State) -> None:
        self.seen.append(state)
        self._more.set()

    async def until(self, state: State) -> None:
        async with asyncio.timeout(90):
            while not self.seen or self.seen[-1] is not state:
                self._more.clear()
                await self._more.wait()


async def test_a_killed_broker_is_found_again_with_all_subscriptions(mortal: Broker) -> None:
    states, heard = States(), asyncio.Queue[bytes]()

    async def hear(delivery: Delivery) -> None:
        heard.put_nowait(delivery.payload)

    async with connect(mortal.url, name="alice", on_state=states) as alice:
        await alice.subscribe("a.*", hear)
        shared = await alice.subscribe("b", hear, queue="group")
        await mortal.kill()
        await states.until(State.DISCONNECTED)
        assert alice.state is State.DISCONNECTED
        await mortal.start()
        async with asyncio.timeout(90):
            await alice.wait_connected()
        async with connect(mortal.url, name="bob") as bob:
            await bob.publish("a.1", b"1")
            await bob.publish("b", b"2")
        async with asyncio.timeout(90):
            assert [await heard.get(), await heard.get()] == [b"1", b"2"]
        assert shared.dropped == 0
    assert states.seen == [State.CONNECTED, State.DISCONNECTED, State.CONNECTED, State.CLOSED]


async def test_what_is_published_during_an_outage_arrives_in_order(mortal: Broker) -> None:
    states, heard = States(), list[bytes]()
    enough = asyncio.Event()

    async def hear(delivery: Delivery) -> None:
        heard.append(delivery.payload)
        if delivery.payload == b"199":
            enough.set()

    async with connect(mortal.url, name="alice", on_state=states) as alice:
        await alice.subscribe("a", hear)
        await mortal.kill()
        await states.until(State.DISCONNECTED)
        for number in range(100):
            await alice.publish("a", b"%d" % number)
        await mortal.start()
        await states.until(State.CONNECTED)
        for number in range(100, 200):
            await alice.publish("a", b"%d" % number)
        async with asyncio.timeout(90):
            await enough.wait()
    assert heard == [b"%d" % number for number in range(200)]


async def test_an_outage_keeps_so_much_and_no_more_and_closing_tells_of_what_it_loses(
    mortal: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    states = States()
    async with connect(mortal.url, name="alice", on_state=states) as alice:
        await mortal.kill()
        await states.until(State.DISCONNECTED)
        for _ in range(16):
            await alice.publish("a", b"x" * 500_000)
        with pytest.raises(FullError):
            await alice.publish("a", b"x" * 500_000)
    (told,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert re.search(r"lost: 16 messages, 8000\d{3} bytes", told)


async def test_appends_in_flight_outlive_the_broker(mortal: Broker) -> None:
    states = States()
    async with connect(mortal.url, name="alice", on_state=states) as alice:
        await alice.ensure_stream(STREAM)
        appends = [
            asyncio.ensure_future(
                alice.append("work.a", b"%d" % number, message_id=str(number), deadline=20.0)
            )
            for number in range(500)
        ]
        await asyncio.wait(appends, return_when=asyncio.FIRST_COMPLETED)
        await mortal.kill()
        await states.until(State.DISCONNECTED)
        appends.append(asyncio.ensure_future(alice.append("work.a", b"500", message_id="500", deadline=20.0)))
        await mortal.start()
        await asyncio.gather(*appends)
        consumer = await alice.consume(WORKERS)
        got: list[int] = []
        async with asyncio.timeout(90):
            while len(got) < 501:
                item = await anext(consumer)
                await item.ack()
                got.append(int(item.payload))
        # Sent twice where the acknowledgement was lost, and stored once.
        assert sorted(got) == list(range(501))


async def test_an_append_gives_up_at_its_deadline(mortal: Broker) -> None:
    states = States()
    async with connect(mortal.url, name="alice", on_state=states) as alice:
        await alice.ensure_stream(STREAM)
        await mortal.kill()
        await states.until(State.DISCONNECTED)
        with pytest.raises(UnavailableError):
            await alice.append("work.a", b"x", message_id="1", deadline=0.2)


async def test_durable_messages_survive_and_their_consumer_goes_on(mortal: Broker) -> None:
    states = States()
    async with connect(mortal.url, name="alice", on_state=states) as alice:
        await alice.ensure_stream(STREAM)
        for number in range(4):
            await alice.append("work.a", b"%d" % number, message_id=str(number))
        consumer = await alice.consume(ConsumerSpec(stream="work", subject="work.>", durable="w", batch=1))
        first = await anext(consumer)
        assert first.payload == b"0"
        await mortal.kill()
        await states.until(State.DISCONNECTED)
        await mortal.start()
        await states.until(State.CONNECTED)
        # A killed broker may have forgotten that it delivered this, and deliver it again: at least once.
        await first.ack()
        await alice.append("work.a", b"4", message_id="4")
        rest: set[bytes] = set()
        async with asyncio.timeout(90):
            while not rest >= {b"1", b"2", b"3", b"4"}:
                item = await anext(consumer)
                await item.ack()
                rest.add(item.payload)


async def test_a_watch_and_an_ordered_consumer_have_no_gap_over_an_outage(mortal: Broker) -> None:
    states = States()
    async with connect(mortal.url, name="alice", on_state=states) as alice:
        await alice.ensure_bucket(BucketSpec(name="ctx", max_bytes=MEBIBYTE))
        await alice.ensure_stream(StreamSpec(name="log", subjects=("log",), max_bytes=MEBIBYTE))
        revision = await alice.kv_put("ctx", "a", b"1")
        watch = await alice.kv_watch("ctx")
        reader = await alice.consume(ConsumerSpec(stream="log", subject="log"))
        assert [await anext(watch), await anext(watch)] == [KvEntry("a", b"1", revision), None]
        await alice.append("log", b"1", message_id="1")
        assert (await anext(reader)).payload == b"1"
        await mortal.kill()
        await states.until(State.DISCONNECTED)
        await mortal.start()
        await states.until(State.CONNECTED)
        async with connect(mortal.url, name="bob") as bob:
            await bob.append("log", b"2", message_id="2")
            changed = await bob.kv_put("ctx", "a", b"2")
        async with asyncio.timeout(90):
            assert await anext(watch) == KvEntry("a", b"2", changed)
            assert (await anext(reader)).payload == b"2"


async def test_subscribing_during_an_outage_waits_for_the_broker(mortal: Broker) -> None:
    states, heard = States(), asyncio.Event()

    async def hear(delivery: Delivery) -> None:
        heard.set()

    async with connect(mortal.url, name="alice", on_state=states) as alice:
        await mortal.kill()
        await states.until(State.DISCONNECTED)
        subscribing_now = asyncio.ensure_future(alice.subscribe("a", hear))
        await asyncio.sleep(0)
        assert not subscribing_now.done()
        await mortal.start()
        async with asyncio.timeout(90):
            await subscribing_now
        async with connect(mortal.url, name="bob") as bob:
            await bob.publish("a", b"")
        async with asyncio.timeout(90):
            await heard.wait()


async def test_no_broker_at_all_is_unavailable_after_a_while(mortal: Broker) -> None:
    await mortal.stop()
    with pytest.raises(UnavailableError, match=r"within 0\.3 s"):
        async with connect(mortal.url, name="alice", patience=0.3):
            pass


async def test_who_has_patience_gets_the_broker_that_starts_later(mortal: Broker) -> None:
    await mortal.stop()

    async def use() -> None:
        async with connect(mortal.url, name="alice", patience=math.inf) as alice:
            await alice.flush()

    waiting = asyncio.ensure_future(use())
    await asyncio.sleep(0)
    await mortal.start()
    async with asyncio.timeout(90):
        await waiting


async def test_of_several_brokers_one_that_answers_is_taken(mortal: Broker, broker: Broker) -> None:
    await mortal.stop()
    async with connect([mortal.url, broker.url], name="alice") as alice:
        await alice.flush()


@pytest.mark.parametrize(
    "url", ["", "http://127.0.0.1", "nats://", "127.0.0.1:4222", "nats://a:b:c", "ws://a:1"]
)
async def test_what_is_no_url_is_said_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="URL"):
        async with connect(url, name="alice", patience=math.inf):
            pass


# Accounts


@contextlib.asynccontextmanager
async def party(directory: Path, access: Access) -> AsyncIterator[tuple[Transport, Transport]]:
    """A broker with two accounts: one that may do what `access` says, and one that may do everything."""
    (seed, public), (admin_seed, admin_public) = make_nkey(), make_nkey()
    users = [
        BrokerUser(name="party", nkey_public=public, access=access),
        BrokerUser(name="admin", nkey_public=admin_public, access=Access((">",), (">",))),
    ]
    async with (
        Broker(directory, users=users) as broker,
        connect(
            broker.url, name="party", credentials=Credentials(seed=seed, inbox="_INBOX_party")
        ) as transport,
        connect(broker.url, name="admin", credentials=Credentials(seed=admin_seed)) as admin,
    ):
        yield transport, admin


async def ignore(delivery: Delivery) -> None:
    """Take a message and do nothing."""


async def test_what_an_account_may_not_do_is_said(tmp_path: Path) -> None:
    access = publishing("may") + subscribing("May", "_INBOX_party.>")
    async with party(tmp_path, access) as (transport, _):
        await transport.publish("may", b"x")
        await transport.flush()
        await transport.publish("may-not", b"x")
        with pytest.raises(NotPermittedError, match="1 of the subjects"):
            await transport.flush()
        await transport.flush()
        with pytest.raises(NotPermittedError):
            await transport.append("may-not", b"x", message_id="1")
        await transport.subscribe("May", ignore)
        with pytest.raises(NotPermittedError, match="subscribing to may"):
            await transport.subscribe("may", ignore)
        with pytest.raises(NotPermittedError):
            await transport.subscribe(">", ignore, queue="group")
        with pytest.raises(NotPermittedError):
            await transport.ensure_stream(STREAM)
        assert transport.state is State.CONNECTED


async def exercise(transport: Transport, *, create: bool) -> None:
    """Do everything that a stream and a bucket are for."""
    if create:
        await transport.ensure_stream(STREAM)
        await transport.ensure_bucket(BucketSpec(name="ctx", max_bytes=MEBIBYTE))
    await transport.append("work.a", b"x", message_id="1")
    consumer = await transport.consume(WORKERS)
    item = await anext(consumer)
    await item.nak()
    item = await anext(consumer)
    await item.in_progress()
    await item.ack()
    revision = await transport.kv_put("ctx", "a", b"1", revision=0)
    assert await transport.kv_get("ctx", "a") == KvEntry("a", b"1", revision)
    watch = await transport.kv_watch("ctx")
    assert await anext(watch) == KvEntry("a", b"1", revision)
    await transport.kv_delete("ctx", "a")
    await transport.kv_put("ctx", "a", b"2", revision=0)
    await watch.close()
    await consumer.close()
    await transport.flush()


async def test_the_lists_of_subjects_are_enough_for_what_they_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = "_INBOX_party"
    access = (
        creating_stream("work", inbox=inbox)
        + creating_bucket("ctx", inbox=inbox)
        + appending("work.a", inbox=inbox)
        + consuming("work", "workers", inbox=inbox)
        + reading_bucket("ctx", inbox=inbox)
        + writing_bucket("ctx", inbox=inbox)
    )
    async with party(tmp_path, access) as (transport, _):
        async with asyncio.timeout(90):
            await exercise(transport, create=True)
    assert "does not permit" not in caplog.text


@pytest.mark.parametrize(
    "granted",
    [
        appending("work.a", inbox="_INBOX_party"),
        consuming("work", "workers", inbox="_INBOX_party"),
        writing_bucket("ctx", inbox="_INBOX_party"),
        reading_bucket("ctx", inbox="_INBOX_party"),
    ],
    ids=["append", "consume", "write", "read"],
)
async def test_each_list_of_subjects_is_for_one_thing(tmp_path: Path, granted: Access) -> None:
    async with party(tmp_path, granted) as (transport, admin):
        await admin.ensure_stream(STREAM)
        await admin.ensure_bucket(BucketSpec(name="ctx", max_bytes=MEBIBYTE))
        with pytest.raises(NotPermittedError):
            await exercise(transport, create=False)


async def test_another_nkey_is_refused_at_once(tmp_path: Path) -> None:
    (_, public), (stranger, _) = make_nkey(), make_nkey()
    user = BrokerUser(name="party", nkey_public=public, access=Access((">",), (">",)))
    async with Broker(tmp_path, users=[user]) as broker:
        with pytest.raises(NotPermittedError, match="refused these credentials"):
            async with connect(
                broker.url, name="x", credentials=Credentials(seed=stranger), patience=math.inf
            ):
                pass


@pytest.mark.parametrize("seed", ["", "SU", "not a seed", "S" * 58, "SUAä"])
async def test_what_is_no_seed_is_said_without_showing_it(seed: str) -> None:
    with pytest.raises(UsageError, match="not an NKey seed") as refusal:
        Credentials(seed=seed)
    assert not seed or seed not in str(refusal.value).replace("SU", "", 1)


async def test_a_seed_is_not_in_a_repr() -> None:
    seed, _ = make_nkey()
    assert seed not in repr(Credentials(seed=seed))
