"""The shell on both transports: what is in a stream gets done, whoever dies."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus

from lab.broker import Broker
from scheduler import Core, Service, host_clock
from scheduler import service as service_module
from scheduler.core import WINDOW
from scheduler.lifecycle import Action, Send
from scheduler.service import AHEAD
from schemas.codec import decode, encode
from schemas.scheduling import DONE, WORKING, Assign, Load, Status, TaskMessage, task_id_of
from schemas.subjects import Kind, subject
from tests.scheduler.script import BLUE, HOUR, RED, task, token
from transport import ClosedError, Delivery, FullError, MemoryBroker, Transport, connect

pytestmark = pytest.mark.anyio

Connect = Callable[[str], AbstractAsyncContextManager[Transport]]


@dataclass
class Clock:
    """The host's clock, which a test can put forward."""

    ahead: int = 0
    _host: Callable[[], int] = field(default_factory=host_clock)

    def __call__(self) -> int:
        return self._host() + self.ahead


@dataclass
class FakeAgent:
    """An agent that is done with a task at once, or when told to."""

    number: int
    classes: tuple[bytes, ...] = (RED,)
    credits_: int = 32
    prompt: bool = True
    holds: list[bytes] = field(default_factory=list)
    got: list[int] = field(default_factory=list)
    _transport: Transport | None = None
    _mesh: bytes = b""

    async def start(self, transport: Transport, mesh: bytes) -> None:
        """Listen, and say so."""
        self._transport, self._mesh = transport, mesh
        await transport.subscribe(subject(mesh, Kind.ASSIGN, token(self.number, "a")), self.assigned)
        await self.speak()

    async def assigned(self, delivery: Delivery) -> None:
        """Take an assignment."""
        task_id = task_id_of(decode(decode(delivery.payload, Assign).task, TaskMessage).frame)
        self.got.append(int(task_id[1:]))
        self.holds.append(task_id)
        await (self.finish() if self.prompt else self.speak())

    async def finish(self) -> None:
        """Be done with everything."""
        finished, self.holds = self.holds, []
        await self.speak(tuple(Status(task_id, DONE) for task_id in finished))

    async def speak(self, statuses: tuple[Status, ...] | None = None) -> None:
        """Send a load message."""
        if statuses is None:
            statuses = tuple(Status(task_id, WORKING) for task_id in self.holds)
        free = max(self.credits_ - len(self.holds), 0)
        load = Load(token(self.number, "a"), self.classes, free, 0, statuses, False)
        assert self._transport is not None
        await self._transport.publish(subject(self._mesh, Kind.LOAD, token(self.number)), encode(load))


@dataclass
class Place:
    """A mesh of its own on a broker, with whatever a test starts in it."""

    connect: Connect
    mesh: bytes
    crew: TaskGroup
    clock: Clock = field(default_factory=Clock)

    async def party(self) -> Transport:
        """Connect somebody who stays to the end."""
        transport: Transport = await self.crew.start(self._stay)
        return transport

    async def _stay(self, *, task_status: TaskStatus[Transport]) -> None:
        # In a task of its own: a connection that is opened within a scheduler's life outlives it.
        async with self.connect("party") as transport:
            task_status.started(transport)
            await anyio.sleep_forever()

    async def agent(self, agent: FakeAgent) -> FakeAgent:
        """Start an agent that is heard twice a second."""
        await agent.start(await self.party(), self.mesh)
        self.crew.start_soon(self._beat, agent)
        return agent

    async def _beat(self, agent: FakeAgent) -> None:
        while True:
            await anyio.sleep(0.5)
            await agent.speak()

    @contextlib.asynccontextmanager
    async def scheduler(self, *, killed: bool = False) -> AsyncIterator[Core]:
        """Run a scheduler; at the end it is stopped, or killed without a chance to say anything."""
        stop, ready = anyio.Event(), anyio.Event()
        core = Core(Random(1))
        async with self.connect("scheduler") as transport, anyio.create_task_group() as group:
            service = Service(transport, self.mesh, core, clock=self.clock)

            async def run() -> None:
                try:
                    await service.run(stop, ready=ready)
                except* ClosedError:
                    assert killed

            group.start_soon(run)
            await ready.wait()
            yield core
            if killed:
                await transport.close()
            else:
                stop.set()

    async def submit(self, numbers: range, *, name: bytes = RED) -> None:
        """Append tasks to the stream."""
        submitter = await self.party()
        deadline = self.clock() + HOUR
        async with anyio.create_task_group() as group:
            for number in numbers:
                data = task(number, name=name, deadline=deadline)

                async def append(data: bytes = data, number: int = number) -> None:
                    address = subject(self.mesh, Kind.TASK, name)
                    await submitter.append(address, data, message_id=f"{name.hex()}-{number}")

                group.start_soon(append)


async def until(condition: Callable[[], bool], *, each: Callable[[], Awaitable[None]] | None = None) -> None:
    """Return as soon as a condition of another task's state holds, or fail after 20 s."""
    with anyio.fail_after(90):
        while not condition():
            if each is not None:
                await each()
            await anyio.sleep(0.01)


@pytest.fixture(params=["memory", "nats"])
def connector(request: pytest.FixtureRequest) -> Connect:
    """Connect parties to one broker, in memory or real."""
    if request.param == "memory":
        memory = MemoryBroker()
        return lambda name: memory.connect(name=name)
    broker: Broker = request.getfixturevalue("broker")
    return lambda name: connect(broker.url, name=name)


@contextlib.asynccontextmanager
async def place_on(connect_: Connect, mesh: bytes) -> AsyncIterator[Place]:
    """Give a test its place, and end whatever it started there."""
    async with anyio.create_task_group() as crew:
        yield Place(connect_, mesh, crew)
        crew.cancel_scope.cancel()


@pytest.fixture
async def place(
    anyio_backend: str, connector: Connect, request: pytest.FixtureRequest
) -> AsyncIterator[Place]:
    """A mesh that no other test uses."""
    mesh = sha256(request.node.name.encode()).digest()
    async with place_on(connector, mesh) as there:
        yield there


async def test_what_was_queued_gets_done_by_those_who_serve_it(place: Place) -> None:
    async with place.scheduler() as core:
        await place.submit(range(200))
        agents = [await place.agent(FakeAgent(number)) for number in range(3)]
        await until(lambda: core.counters.done == 200)
        # Whoever came first may have done all of it: what comes now finds all three idle.
        await place.submit(range(200, 290))
        await until(lambda: core.counters.done == 290)
        got = sorted(number for agent in agents for number in agent.got)
        assert got == list(range(290))
        assert all(agent.got for agent in agents)
        assert core.gauges().held_bytes == 0


async def test_a_class_that_nobody_serves_stays_in_the_stream_and_hides_no_other(place: Place) -> None:
    async with place.scheduler() as core:
        await place.submit(range(50), name=BLUE)
        await place.submit(range(50, 60))
        red = await place.agent(FakeAgent(1))
        await until(lambda: core.counters.done == 10)
        assert sorted(red.got) == list(range(50, 60))
        assert core.counters.received == 10
        blue = await place.agent(FakeAgent(2, classes=(BLUE,)))
        await until(lambda: core.counters.done == 60)
        assert sorted(blue.got) == list(range(50))


async def test_a_long_queue_stays_in_the_stream(place: Place) -> None:
    async with place.scheduler() as core:
        await place.submit(range(WINDOW + 1_000))
        agent = await place.agent(FakeAgent(1, credits_=4, prompt=False))
        await until(lambda: core.demand(RED) == 0 and core.gauges().in_flight == 4)
        held = core.gauges()
        assert held.waiting + held.in_flight <= WINDOW + 4
        assert core.counters.received <= WINDOW + 4 + AHEAD
        agent.prompt, agent.credits_ = True, 1_000
        await until(lambda: core.counters.done == WINDOW + 1_000, each=agent.finish)
        assert set(agent.got) == set(range(WINDOW + 1_000))


async def test_a_dead_agents_tasks_are_done_by_another(place: Place) -> None:
    async with place.scheduler() as core:
        await FakeAgent(1, prompt=False).start(await place.party(), place.mesh)
        await place.submit(range(5))
        await until(lambda: core.gauges().in_flight == 5)
        other = await place.agent(FakeAgent(2))
        place.clock.ahead += 3_500
        await until(lambda: core.counters.done == 5)
        assert sorted(other.got) == list(range(5))
        assert core.counters.agents_lost >= 1


async def test_a_killed_scheduler_is_replaced_and_running_tasks_are_not_run_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "ACK_WAIT", 1_000)
    agent = await place.agent(FakeAgent(1, prompt=False))
    others = [await place.agent(FakeAgent(number, prompt=False, credits_=0)) for number in (2, 3, 4)]
    async with place.scheduler(killed=True) as core:
        await place.submit(range(8))
        await until(lambda: len(agent.got) == 8)
        await until(lambda: core.gauges().in_flight == 8)
    for other in others:
        other.credits_ = 50
    async with place.scheduler() as successor:
        await until(lambda: successor.counters.adopted == 8)
        await until(lambda: successor.counters.done == 8, each=agent.finish)
        assert [other.got for other in others] == [[], [], []]


async def test_a_stopped_scheduler_hands_back_what_nobody_works_on(place: Place) -> None:
    async with place.scheduler() as core:
        slow = await place.agent(FakeAgent(1, credits_=1, prompt=False))
        await place.submit(range(20))
        await until(lambda: core.gauges().waiting == 19)
    assert core.counters.returned == 19
    async with place.scheduler() as successor:
        quick = await place.agent(FakeAgent(2))
        await until(lambda: len(quick.got) >= 19)
        assert not set(quick.got) & set(slow.got)
        await until(lambda: successor.counters.done >= 19)


async def test_two_schedulers_share_a_class(place: Place) -> None:
    async with place.scheduler() as one, place.scheduler() as other:
        agents = [await place.agent(FakeAgent(number)) for number in range(4)]
        await place.submit(range(400))
        await until(lambda: one.counters.done + other.counters.done == 400)
        assert sorted(number for agent in agents for number in agent.got) == list(range(400))


async def test_junk_on_every_subject_is_counted_and_the_work_goes_on(place: Place) -> None:
    async with place.scheduler() as core:
        party = await place.party()
        await party.publish(subject(place.mesh, Kind.LOAD, b"short"), b"junk")
        await party.publish(subject(place.mesh, Kind.LOAD, token(9))[:-32] + "not-hex", b"junk")
        await party.publish(subject(place.mesh, Kind.LOAD, token(9)), b"junk")
        await party.append(subject(place.mesh, Kind.TASK, RED), b"junk", message_id="junk")
        await place.agent(FakeAgent(1))
        await place.submit(range(3))
        await until(lambda: core.counters.done == 3)
        assert core.counters.malformed_tasks == core.counters.malformed_loads == 1
        assert core.counters.refused_loads == 2


async def test_what_cannot_be_sent_is_counted_and_tried_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place.scheduler() as core:
        agent = await place.agent(FakeAgent(1))
        refusals = iter([FullError("the outage buffer is full")])
        act = Service._act

        async def act_or_fail(self: Service, action: Action) -> None:
            if isinstance(action, Send) and (error := next(refusals, None)) is not None:
                raise error
            await act(self, action)

        monkeypatch.setattr(Service, "_act", act_or_fail)
        await place.submit(range(1))
        await until(lambda: core.counters.send_failures == 1)
        place.clock.ahead += 2_100
        await agent.speak()
        await until(lambda: core.counters.done == 1)


async def test_a_broker_that_dies_and_returns_loses_nothing(
    anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with (
        Broker(tmp_path_factory.mktemp("mortal")) as broker,
        place_on(lambda name: connect(broker.url, name=name), b"m" * 32) as place,
        place.scheduler() as core,
    ):
        agent = await place.agent(FakeAgent(1, credits_=8, prompt=False))
        await place.submit(range(100))
        await until(lambda: core.gauges().in_flight == 8)
        await broker.kill()
        await broker.start()
        agent.prompt = True
        await until(lambda: core.gauges().in_flight == core.gauges().waiting == 0, each=agent.finish)
        assert set(agent.got) == set(range(100))
