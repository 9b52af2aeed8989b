"""A broker that says anything at all costs availability, and nothing else."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from transport import (
    ConsumerSpec,
    Delivery,
    NotPermittedError,
    Pace,
    State,
    TooLargeError,
    UnavailableError,
    connect,
)
from transport.inbox import MAX_WAITING, Inbox
from transport.nats_session import FIRST_BACKOFF, LAST_BACKOFF
from transport.nats_wire import Wire

pytestmark = pytest.mark.anyio

INFO = b'INFO {"server_id":"x","version":"2.15.1","headers":true,"max_payload":1048576}\r\n'
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def hostile(script: Script) -> AsyncIterator[str]:
    """Run `script` for every connection; yields the URL."""
    sessions: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
    over = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await script(reader, writer)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if over:
            writer.transport.abort()
        else:
            sessions[asyncio.ensure_future(serve(reader, writer))] = writer

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        over = True
        # asyncio leaks a connection that it has accepted and not yet made when its server closes.
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()
        # A session that was cancelled before its first step closes nothing itself.
        for session, writer in sessions.items():
            session.cancel()
            writer.transport.abort()
        await asyncio.gather(*sessions, return_exceptions=True)
        await server.wait_closed()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do the handshake of a broker."""
    writer.write(INFO)
    await reader.readuntil(b"PING\r\n")
    writer.write(b"PONG\r\n")


async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every PING."""
    while line := await reader.readline():
        if line == b"PING\r\n":
            writer.write(b"PONG\r\n")


def saying(what: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(what)
        await reader.read()

    return script


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"INFO not json\r\n",
        b"INFO []\r\n",
        b"INFO {}\r\n",
        b"INFO " + b"[" * 20_000 + b"\r\n",
        b"INFO " + b"x" * 100_000 + b"\r\n",
        INFO + b"-ERR 'Maximum Connections Exceeded'\r\n",
        INFO + b"garbage\r\n",
        INFO.replace(b"1048576", b'"many"') + b"PONG\r\n",
        INFO.replace(b"1048576", b"0") + b"PONG\r\n",
        INFO.replace(b"1048576", b"99999999999") + b"PONG\r\n",
        INFO.replace(b"{", b'{"tls_required":true,') + b"PONG\r\n",
    ],
    ids=range(14),
)
async def test_a_greeting_that_is_none_is_unavailable(greeting: bytes) -> None:
    async with hostile(saying(greeting)) as url:
        with pytest.raises(UnavailableError):
            async with connect(url, name="alice", patience=0.2):
                pass


async def test_refused_credentials_are_told_from_other_refusals() -> None:
    async with hostile(saying(INFO + b"-ERR 'Authorization Violation'\r\n")) as url:
        with pytest.raises(NotPermittedError):
            async with connect(url, name="alice", patience=5):
                pass


@pytest.mark.parametrize(
    "noise",
    [
        b"garbage\r\n",
        b"MSG\r\n",
        b"MSG a 1 -1\r\n",
        b"MSG \xff\xff 1 1\r\nx\r\n",
        b"MSG a \xd9\xa3 1\r\nx\r\n",
        b"INFO 5 5\r\n",
        b"INFO " + b"[" * 20_000 + b"\r\n",
        b"-ERR 'Stale Connection'\r\n",
        b"-ERR 'Authorization Violation'\r\n",
        b"-ERR 'Something Else'\r\n",
        b"MSG a 1 99999999999\r\n" + b"x" * 3_000_000,
        b"x" * 3_000_000,
        b"PONG\r\n",
        b"MSG a 1 1\r\nx\r\n" * 20_000 + b"PONG\r\n" * 40_000,
    ],
    ids=range(14),
)
async def test_noise_ends_the_connection_and_a_new_one_is_made(noise: bytes) -> None:
    connections = 0
    settled = asyncio.Event()
    states: list[State] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await greet(reader, writer)
        if connections == 1:
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
            writer.write(noise)
        await behave(reader, writer)

    def on_state(state: State) -> None:
        states.append(state)
        if states == [State.CONNECTED, State.DISCONNECTED, State.CONNECTED]:
            settled.set()

    async with hostile(script) as url, connect(url, name="alice", on_state=on_state) as alice:
        async with asyncio.timeout(90):
            await settled.wait()
        await alice.flush()
    assert connections == 2


@pytest.mark.parametrize(
    "noise",
    [
        b"+OK\r\n",
        b"MSG a 77 1\r\nx\r\n",
        b"MSG a 99999999999999999999999999 1\r\nx\r\n",
        b"MSG _INBOX.x 1 2\r\n{}\r\n",
        b"HMSG _INBOX.x 1 4 4\r\n\xff\xff\xff\xff\r\n",
        b"HMSG _INBOX.x 1 8 8\r\nNATS/1.0\r\n",
        b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n",
        b"-ERR 'Permissions Violation'\r\n",
        b'INFO {"connect_urls":["evil:1"],"max_payload":1}\r\n',
    ],
    ids=range(9),
)
async def test_what_means_nothing_changes_nothing(noise: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        writer.write(noise)
        await behave(reader, writer)

    states: list[State] = []
    async with hostile(script) as url, connect(url, name="alice", on_state=states.append) as alice:
        before = alice.max_payload
        with contextlib.suppress(NotPermittedError):
            await alice.flush()
        await alice.flush()
        assert alice.max_payload == before
    assert states == [State.CONNECTED, State.CLOSED]


async def test_a_broker_that_takes_less_than_the_mesh_says_is_refused_with_what_to_set() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO.replace(b"1048576", b"65536"))
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        await behave(reader, writer)

    async with hostile(script) as url:
        with pytest.raises(TooLargeError, match=r"takes messages of 65536 bytes.*set max_payload to 1048576"):
            async with connect(url, name="alice"):
                pass


async def test_a_silent_broker_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.nats_session.KEEPALIVE", 0.05)
    monkeypatch.setattr("transport.nats_session.PING_TIMEOUT", 0.1)
    connections = 0
    again = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await greet(reader, writer)
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        if connections == 2:
            again.set()
        await reader.read()

    async with hostile(script) as url, connect(url, name="alice"):
        async with asyncio.timeout(90):
            await again.wait()


async def test_a_broker_that_reads_nothing_holds_the_publisher_and_not_the_closing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("transport.nats_session.CLOSE_PAUSE", 0.1)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        await asyncio.Event().wait()

    async def flood() -> None:
        while True:
            await alice.publish("a", b"x" * 100_000)

    async with hostile(script) as url, connect(url, name="alice") as alice:
        flooding = asyncio.ensure_future(flood())
        await asyncio.wait((flooding,), timeout=0.3)
        assert not flooding.done()
        wire = alice._session.wire
        assert wire is not None
        assert wire._streams()[1].transport.get_write_buffer_size() < 4 * 1024 * 1024
        flooding.cancel()
        await asyncio.wait((flooding,))
        async with asyncio.timeout(90):
            await alice.close()
    (told,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert re.search(r"lost, maybe: [1-9]\d{5,} bytes that the broker has not taken", told.getMessage())


def reading_at_each_look(monkeypatch: pytest.MonkeyPatch, got: bytearray) -> Script:
    """Return the script of a broker that reads a piece whenever the other side looks at what it has taken."""
    looked, untaken = asyncio.Semaphore(0), Wire._untaken

    def look(wire: Wire) -> int:
        looked.release()
        return untaken(wire)

    monkeypatch.setattr(Wire, "_untaken", look)
    monkeypatch.setattr("transport.nats_wire.LOOK", 0.01)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What its kernel has, nobody on the other side can see it read.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        await greet(reader, writer)
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        while True:
            await looked.acquire()
            piece = await reader.read(64 * 1024)
            got.extend(piece)
            if piece.endswith(b"PING\r\n"):
                writer.write(b"PONG\r\n")

    return script


async def test_closing_waits_for_a_broker_that_reads_slowly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("transport.nats_session.CLOSE_PAUSE", 1.0)
    got, payload, count = bytearray(), bytes(64 * 1024), 200
    script = reading_at_each_look(monkeypatch, got)
    async with hostile(script) as url, connect(url, name="alice") as alice:
        for _ in range(count):
            alice.post("a", payload)
        alice.push()
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(90):
            await alice.close()
        took = asyncio.get_running_loop().time() - begun
    assert got.count(payload) == count
    # Each look takes its time: longer in all than closing waits for one that reads nothing.
    assert took > 1.0
    assert [each for each in caplog.records if each.levelname == "WARNING"] == []


async def test_a_slow_line_with_much_on_it_is_no_silent_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.nats_session.KEEPALIVE", 0.05)
    monkeypatch.setattr("transport.nats_session.PING_TIMEOUT", 0.5)
    got, payload, count, states = bytearray(), bytes(64 * 1024), 200, list[State]()
    script = reading_at_each_look(monkeypatch, got)
    async with hostile(script) as url, connect(url, name="alice", on_state=states.append) as alice:
        for _ in range(count):
            alice.post("a", payload)
        alice.push()
        begun = asyncio.get_running_loop().time()
        # Behind the keepalive's own PINGs.
        await alice.flush()
        took = asyncio.get_running_loop().time() - begun
        assert states == [State.CONNECTED]
    assert got.count(payload) == count
    assert took > 0.5


async def test_closing_waits_for_no_broker_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("transport.nats_session.CLOSE_MOST", 0.3)
    got = bytearray()
    script = reading_at_each_look(monkeypatch, got)
    async with hostile(script) as url, connect(url, name="alice") as alice:
        for _ in range(400):
            alice.post("a", bytes(64 * 1024))
        alice.push()
        async with asyncio.timeout(90):
            await alice.close()
    assert len(got) < 400 * 64 * 1024
    (told,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "that the broker has not taken" in told.getMessage()


async def test_a_broker_that_pings_and_reads_nothing_is_answered_once() -> None:
    pinged, over = asyncio.Event(), asyncio.Event()
    pings = 200_000

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        # A message that fills the way back first: what is said after it cannot leave.
        await stuck.wait()
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(pings // 10_000):
            writer.write(b"PING\r\n" * 10_000)
            await writer.drain()
        writer.write(b"MSG a 99 1\r\nx\r\n")
        pinged.set()
        await over.wait()

    stuck = asyncio.Event()
    async with hostile(script) as url, connect(url, name="alice") as alice:
        wire = alice._session.wire
        assert wire is not None
        seen = asyncio.Event()
        alice.after_reading(lambda: seen.set() if pinged.is_set() else None)
        transport = wire._streams()[1].transport
        while not wire.stuck:
            wire.send(b"PUB a 100000\r\n" + b"x" * 100_000 + b"\r\n")
            await asyncio.sleep(0)
        before = transport.get_write_buffer_size()
        stuck.set()
        async with asyncio.timeout(90):
            await pinged.wait()
            await seen.wait()
        assert wire._owes_pong
        assert transport.get_write_buffer_size() <= before
        over.set()


async def test_what_a_broker_never_reads_ends_the_connection_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transport.nats_wire.UNREAD_MOST", 1024 * 1024)
    lost = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    def on_state(state: State) -> None:
        if state is State.DISCONNECTED:
            lost.set()

    async with hostile(script) as url, connect(url, name="alice", on_state=on_state) as alice:
        wire = alice._session.wire
        assert wire is not None
        transport = wire._streams()[1].transport
        # What nobody waits with: acknowledgements, say.
        while not wire.is_lost:
            alice._session.tell("a", b"x" * 100_000)
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() < 2 * 1024 * 1024
        async with asyncio.timeout(90):
            await lost.wait()


async def test_a_paced_connection_reads_everything_in_its_own_time() -> None:
    heard: list[bytes] = []
    pieces = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        while line := await reader.readline():
            words = line.split()
            if words[:1] == [b"PING"]:
                writer.write(b"PONG\r\n")
            elif words[:1] == [b"SUB"] and words[1] == b"a":
                for number in range(500):
                    writer.write(b"MSG a %s 200\r\n%0200d\r\n" % (words[-1], number))

    def take(payload: memoryview) -> None:
        heard.append(bytes(payload))
        if len(heard) == 500:
            pieces.set()

    pace = Pace(most=256, rest=0.0, behind=60.0)
    async with hostile(script) as url, connect(url, name="alice", pace=pace) as alice:
        await alice.listen("a", take)
        async with asyncio.timeout(90):
            await pieces.wait()
    assert heard == [b"%0200d" % number for number in range(500)]


async def test_who_says_more_than_is_read_for_too_long_is_left_for_a_new_connection() -> None:
    connections = 0
    again = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await greet(reader, writer)
        if connections == 2:
            again.set()
            await behave(reader, writer)
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        while True:
            writer.write(b"MSG a 77 100\r\n%0100d\r\n" % 0 * 1000)
            await writer.drain()

    pace = Pace(most=1024, rest=1.0, behind=0.1)
    async with hostile(script) as url, connect(url, name="alice", pace=pace) as alice:
        async with asyncio.timeout(90):
            await again.wait()
        await alice.flush()
    assert connections == 2


async def test_a_broker_that_refuses_what_nobody_asked_fills_neither_memory_nor_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("transport.nats_session.REFUSED_MOST", 10)
    refused = b"".join(
        b"-ERR 'Permissions Violation for %s to \"a%d\"'\r\n" % (kind, number)
        for number in range(1000)
        for kind in (b"Publish", b"Subscription")
    )

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        writer.write(refused)
        await behave(reader, writer)

    async with hostile(script) as url, connect(url, name="alice") as alice:
        session = alice._session
        assert len(session.refused_publishes) == len(session.refused_filters) == 10
        assert len([record for record in caplog.records if "does not permit" in record.message]) == 20
        with pytest.raises(NotPermittedError, match="10 of the subjects"):
            await alice.flush()


async def test_a_cancelled_flush_harms_nothing() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await behave(reader, writer)

    states: list[State] = []
    async with hostile(script) as url, connect(url, name="alice", on_state=states.append) as alice:
        for _ in range(10):
            flushing = asyncio.ensure_future(alice.flush())
            await asyncio.sleep(0)
            flushing.cancel()
            await asyncio.wait((flushing,))
        await alice.flush()
    assert states == [State.CONNECTED, State.CLOSED]


@pytest.mark.parametrize(
    "answer",
    [b"", b"{", b"{}", b"[]", b'{"error":5}', b'{"error":{"code":"x"}}', b'{"seq":-99999999999999999999999}'],
)
async def test_an_answer_of_jetstream_that_is_none_is_unavailable(answer: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        while line := await reader.readline():
            words = line.split()
            if words[:1] == [b"PING"]:
                writer.write(b"PONG\r\n")
            elif words[:1] == [b"HPUB"]:
                writer.write(b"MSG %s 1 %d\r\n%s\r\n" % (words[2], len(answer), answer))

    async with hostile(script) as url, connect(url, name="alice") as alice:
        with pytest.raises(UnavailableError):
            await alice.append("a", b"x", message_id="1", deadline=5)


async def test_a_consumer_keeps_no_more_than_it_asked_for() -> None:
    """The broker delivers without end; memory stays bounded and what is kept can be read."""
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await greet(reader, writer)
        inbox_sid = b""
        while line := await reader.readline():
            words = line.split()
            if words[:1] == [b"PING"]:
                writer.write(b"PONG\r\n")
            elif words[:1] == [b"SUB"]:
                inbox_sid = words[-1]
            elif words[:1] == [b"PUB"] and b"CONSUMER.CREATE" in words[1]:
                writer.write(b'MSG %s 1 17\r\n{"num_pending":0}\r\n' % words[2])
            elif words[:1] == [b"PUB"] and b"MSG.NEXT" in words[1] and sent == 0:
                for number in range(5000):
                    reply = b"$JS.ACK.s.d.1.%d.%d.1.0" % (number, number)
                    writer.write(b"MSG s.a %s %s 1\r\nx\r\n" % (inbox_sid, reply))
                sent = 5000

    async with hostile(script) as url, connect(url, name="alice") as alice:
        consumer = await alice.consume(ConsumerSpec(stream="s", subject="s.>", durable="d", batch=16))
        async with asyncio.timeout(90):
            assert (await anext(consumer)).payload == b"x"
        await alice.flush()
        assert consumer._queue.qsize() <= 2 * 16 + 1


async def test_a_handler_far_behind_loses_the_newest_and_it_is_counted() -> None:
    heard: list[bytes] = []

    async def hear(delivery: Delivery) -> None:
        heard.append(delivery.payload)

    async def forget(_inbox: Inbox) -> None:
        """Nothing to forget."""

    inbox = Inbox("a", None, hear, forget)
    for number in range(MAX_WAITING + 3):
        inbox.offer("a", b"%d" % number)
    assert inbox.dropped == 3
    running = asyncio.ensure_future(inbox.run())
    while len(heard) < MAX_WAITING:
        await asyncio.wait((running,), timeout=0.01)
    await inbox.close()
    await running
    assert heard == [b"%d" % number for number in range(MAX_WAITING)]


async def test_a_handler_far_behind_is_bounded_in_bytes() -> None:
    async def ignore(delivery: Delivery) -> None:
        """Take nothing in time."""

    async def forget(_inbox: Inbox) -> None:
        """Nothing to forget."""

    inbox = Inbox("a", None, ignore, forget)
    for _ in range(70):
        inbox.offer("a", bytes(1024 * 1024))
    assert inbox.dropped == 6


async def test_a_broker_that_takes_connections_and_keeps_none_is_asked_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    enough = asyncio.Event()

    async def pause(most: float) -> None:
        pauses.append(most)
        if len(pauses) >= 10:
            enough.set()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\nPONG\r\n")
        await reader.read()

    monkeypatch.setattr("transport.nats_session._pause", pause)
    async with hostile(script) as url, connect(url, name="alice"):
        async with asyncio.timeout(90):
            await enough.wait()
    assert pauses[:3] == [FIRST_BACKOFF, 2 * FIRST_BACKOFF, 4 * FIRST_BACKOFF]
    assert pauses[9] == LAST_BACKOFF
