"""The proxy, before a real broker: nobody notices it that is not attacked, and it misses nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from lab.broker import Broker
from lab.tap import (
    Alter,
    Delay,
    Drop,
    Duplicate,
    Frame,
    Match,
    Redirect,
    Script,
    Tap,
    Towards,
    open_tap,
    records,
)
from schemas.errors import UsageError
from transport import ConsumerSpec, Delivery, StreamSpec, Transport, connect

pytestmark = pytest.mark.anyio


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with Broker(tmp_path / "broker", monitor=True) as running:
        yield running


@pytest.fixture
async def tap(broker: Broker, tmp_path: Path) -> AsyncIterator[Tap]:
    async with open_tap(broker.url, tmp_path / "wire", Script(seed=7)) as opened:
        yield opened


class Heard:
    """What a subscriber got."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._came = anyio.Event()

    async def take(self, delivery: Delivery) -> None:
        self.bodies.append(delivery.payload)
        self._came.set()
        self._came = anyio.Event()

    async def wait(self, count: int) -> list[bytes]:
        with anyio.fail_after(90):
            while len(self.bodies) < count:
                await self._came.wait()
        return self.bodies


@asynccontextmanager
async def pair(tap: Tap, subject: str = "a") -> AsyncIterator[tuple[Transport, Heard]]:
    """Join a speaker and a hearer through the tap."""
    async with (
        connect(await tap.listen("hearer"), name="hearer") as hearer,
        connect(await tap.listen("speaker"), name="speaker") as speaker,
    ):
        heard = Heard()
        await hearer.subscribe(subject, heard.take)
        await hearer.flush()
        yield speaker, heard


async def test_what_is_not_attacked_goes_through_and_is_recorded_with_its_party(tap: Tap) -> None:
    bodies = [b"%d" % number * (number % 50) for number in range(2000)]
    async with pair(tap) as (speaker, heard):
        for body in bodies:
            await speaker.publish("a", body)
        assert await heard.wait(2000) == bodies
    found = [record for _, record in records(tap.path)]
    said = [r.frame().body for r in found if r.party == "speaker" and r.towards is Towards.BROKER]
    assert [body for body in said if body in set(bodies)] != []
    assert sum(r.party == "hearer" and r.frame().verb == "MSG" for r in found) == 2000
    assert {"CONNECT", "SUB", "INFO", "PUB", "MSG"} <= {record.frame().verb for record in found}


async def test_it_counts_what_the_broker_counts(tap: Tap, broker: Broker) -> None:
    async with pair(tap) as (speaker, heard):
        for number in range(500):
            await speaker.publish("a", b"%d" % number)
        await heard.wait(500)
        await speaker.flush()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(broker.monitor_url.rsplit(":")[-1]))
        writer.write(b"GET /varz HTTP/1.0\r\n\r\n")
        answer = (await reader.read()).split(b"\r\n\r\n", 1)[1]
        writer.close()
        assert json.loads(answer)["in_msgs"] == tap.recorder.messages == 500


async def test_a_rule_acts_on_what_it_names_alone(tap: Tap) -> None:
    rule = tap.script.add(
        "drop", Match("hearer", Towards.PARTY, where=lambda p: p.frame.body == b"unwanted"), Drop()
    )
    async with pair(tap) as (speaker, heard):
        for body in (b"one", b"unwanted", b"two"):
            await speaker.publish("a", body)
        assert await heard.wait(2) == [b"one", b"two"]
    assert rule.fired == 1


async def test_two_parties_can_be_shown_two_views(tap: Tap) -> None:
    def fork(name: bytes) -> Callable[[Frame], tuple[Frame, ...]]:
        return lambda frame: (frame.with_body(name),)

    tap.script.add("one", Match("hearer", Towards.PARTY), Alter(fork(b"one view")))
    async with pair(tap) as (speaker, heard), connect(await tap.listen("other"), name="other") as other:
        second = Heard()
        await other.subscribe("a", second.take)
        await other.flush()
        await speaker.publish("a", b"the truth")
        assert await heard.wait(1) == [b"one view"]
        assert await second.wait(1) == [b"the truth"]


async def test_a_message_can_be_doubled_moved_and_delayed(tap: Tap) -> None:
    to_broker = Match("speaker", Towards.BROKER)
    async with pair(tap, ">") as (speaker, heard):
        rule = tap.script.add("double", to_broker, Duplicate())
        await speaker.publish("a", b"x")
        assert await heard.wait(2) == [b"x", b"x"]
        tap.script.remove(rule)
        rule = tap.script.add("move", to_broker, Redirect(["elsewhere"]))
        await speaker.publish("a", b"y")
        await heard.wait(3)
        tap.script.remove(rule)
        tap.script.add("late", Match("speaker", Towards.BROKER, most=1), Delay(1.5))
        await speaker.publish("a", b"late")
        await speaker.publish("a", b"early")
        assert (await heard.wait(5))[3:] == [b"early", b"late"]


async def test_it_can_speak_for_others(tap: Tap) -> None:
    async with pair(tap) as (speaker, heard):
        tap.inject("speaker", Towards.BROKER, Frame("PUB", subject="a", body=b"never said"))
        assert await heard.wait(1) == [b"never said"]
        await speaker.publish("a", b"said")
        await heard.wait(2)
        sid = next(r.frame().sid for _, r in records(tap.path) if r.frame().verb == "MSG")
        tap.inject("hearer", Towards.PARTY, Frame("MSG", subject="a", sid=sid, body=b"never sent"))
        assert (await heard.wait(3))[2] == b"never sent"
    with pytest.raises(UsageError, match="nobody has no connection"):
        tap.inject("nobody", Towards.BROKER, Frame("PING"))


async def test_streams_work_through_it(tap: Tap) -> None:
    async with connect(await tap.listen("worker"), name="worker") as worker:
        await worker.ensure_stream(StreamSpec(name="s", subjects=("s.>",), max_bytes=2**20))
        for number in range(100):
            await worker.append("s.a", b"%d" % number, message_id=str(number))
        consumer = await worker.consume(ConsumerSpec(stream="s", subject="s.>"))
        assert [(await anext(consumer)).payload for _ in range(100)] == [b"%d" % n for n in range(100)]


async def test_a_broker_that_comes_back_is_found_again(tap: Tap, broker: Broker) -> None:
    async with pair(tap) as (speaker, heard):
        await speaker.publish("a", b"before")
        await heard.wait(1)
        await broker.kill()
        await broker.start()

        async def again() -> None:
            number = 0
            while not any(body.startswith(b"after") for body in heard.bodies):
                number += 1
                await speaker.publish("a", b"after %d" % number)
                await anyio.sleep(0.05)  # the hearer's subscription comes back in its own time

        with anyio.fail_after(90):
            await again()


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def test_who_speaks_no_nats_is_cut_off_and_others_go_on(tap: Tap) -> None:
    port = int((await tap.listen("stranger")).rsplit(":")[-1])
    async with pair(tap) as (speaker, heard):
        for junk in (b"GET / HTTP/1.1\r\n\r\n", b"PUB a 99999999999\r\n", b"\x00" * 200_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(junk)
            with anyio.fail_after(90):
                try:
                    while await reader.read(65536):
                        pass
                except ConnectionResetError:
                    pass
            writer.close()
        await speaker.publish("a", b"still here")
        assert await heard.wait(1) == [b"still here"]
    assert tap.refused == 3


async def test_a_reader_that_is_slow_slows_the_writer_and_costs_no_memory(tap: Tap, broker: Broker) -> None:
    port = int((await tap.listen("slow")).rsplit(":")[-1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPING\r\n')
    assert await reader.readline() == b"PONG\r\n"
    # It reads no more: what the broker sends beyond the sockets' buffers waits at the broker, not here.
    async with connect(broker.url, name="flood") as flood:
        for _ in range(200):
            await flood.publish("a", bytes(100_000))
        await flood.flush()
    _, line = tap._lines["slow", Towards.PARTY]
    with anyio.fail_after(90):
        while not (held := line.writer.transport.get_write_buffer_size()):  # noqa: ASYNC110 - tells nobody
            await anyio.sleep(0.01)
    assert held < 4 * 2**20
    assert tap.recorder.delivered < 200
    writer.transport.abort()


async def test_a_rule_that_fails_ends_the_tap_and_says_why(broker: Broker, tmp_path: Path) -> None:
    class Bug(Exception):  # noqa: N818 - whatever a rule might raise
        pass

    def fail(frame: Frame) -> tuple[Frame, ...]:
        raise Bug

    async def work() -> None:
        async with open_tap(broker.url, tmp_path / "wire", Script()) as tap:
            tap.script.add("broken", Match("speaker", Towards.BROKER), Alter(fail))
            async with pair(tap) as (speaker, _):
                await speaker.publish("a", b"x")
                await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await work()
    assert caught.group_contains(Bug)


async def test_who_reads_nothing_does_not_keep_the_tap_open(broker: Broker, tmp_path: Path) -> None:
    async with open_tap(broker.url, tmp_path / "wire") as tap:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int((await tap.listen("deaf")).rsplit(":")[-1])
        )
        await reader.readline()
        writer.write(b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPING\r\n')
        assert await reader.readline() == b"PONG\r\n"
        async with connect(broker.url, name="flood") as flood:
            for _ in range(100):
                await flood.publish("a", bytes(100_000))
            await flood.flush()
        _, line = tap._lines["deaf", Towards.PARTY]
        with anyio.fail_after(90):
            while not line.writer.transport.get_write_buffer_size():  # noqa: ASYNC110 - tells nobody
                await anyio.sleep(0.01)
        leaving = anyio.current_time()
    # Who reads nothing never lets go by itself: a pause of the machine's is no such thing.
    assert anyio.current_time() - leaving < 60
    assert line.writer.transport.is_closing()
    assert line.writer.transport.get_write_buffer_size() == 0
    writer.transport.abort()


async def test_nothing_is_said_on_a_connection_that_has_ended(tap: Tap) -> None:
    async with pair(tap):
        _, line = tap._lines["speaker", Towards.BROKER]
    with anyio.fail_after(90):
        while not line.writer.is_closing():  # noqa: ASYNC110 - a closed connection tells nobody
            await anyio.sleep(0.01)
    counted = tap.recorder.messages
    with pytest.raises(UsageError, match="speaker has no connection"):
        tap.inject("speaker", Towards.BROKER, Frame("PUB", subject="a", body=b"to nobody"))
    assert tap.recorder.messages == counted


async def test_a_party_that_ends_is_heard_to_its_last_word_and_its_line_to_the_broker_ends_too(
    tap: Tap, broker: Broker
) -> None:
    port = int((await tap.listen("hasty")).rsplit(":")[-1])
    async with pair(tap) as (_, heard):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        writer.write(b'CONNECT {"verbose":false}\r\n' + b"PUB a 4\r\nlast\r\n" * 500)
        writer.close()
        assert await heard.wait(500) == [b"last"] * 500
        _, line = tap._lines["hasty", Towards.BROKER]
        with anyio.fail_after(90):
            while not line.writer.is_closing():  # noqa: ASYNC110 - a closed connection tells nobody
                await anyio.sleep(0.01)


async def test_parties_do_not_learn_of_ways_around_it(tmp_path: Path) -> None:
    info = b'INFO {"server_id":"x","connect_urls":["10.0.0.1:4222"],"max_payload":7}\r\n'

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(info)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with open_tap(url, tmp_path / "wire") as tap:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", int((await tap.listen("a")).rsplit(":")[-1])
            )
            told = await reader.readline()
            writer.close()
    assert json.loads(told.removeprefix(b"INFO ")) == {"server_id": "x", "max_payload": 7}
    (_, record), *_ = records(tmp_path / "wire")
    assert record.arrived == info
    assert record.sent == (told,)


async def test_a_tap_before_tls_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without TLS"):
        async with open_tap("tls://127.0.0.1:4222", tmp_path / "wire"):
            pytest.fail("opened")
