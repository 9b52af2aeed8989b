"""The scheduler's shell: streams and subjects in, the core's actions out.

One consumer for each task class that somebody serves, filtered by the class's subject: so a class that
nobody serves stays in the stream, a long queue of one class never hides another, and nothing is pulled
that could not soon be placed.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from scheduler.core import HELD_MOST, Core
from scheduler.lifecycle import ACK_WAIT, Ack, Action, Extend, Nak, Send
from scheduler.metrics import totals
from scheduler.status import StatusFile
from schemas.errors import UsageError
from schemas.limits import DAY, SECOND
from schemas.subjects import RESULT_STREAM, TASK_STREAM, Kind, every, stream_name, subject
from transport import (
    ClosedError,
    Consumer,
    ConsumerSpec,
    Delivery,
    Retention,
    State,
    StreamDelivery,
    StreamSpec,
    Transport,
    TransportError,
)

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

log = logging.getLogger(__name__)

SWEEP_EVERY = 0.1
REPORT_EVERY = 10.0
STATUS_EVERY = 1.0
STREAM_BYTES = 512 * 1024**2  # 100,000 waiting tasks of some KiB; brokers set it aside at once, so no more
AHEAD = 256  # messages fetched ahead, over all classes
AHEAD_LEAST = 2
PAUSE_MOST = 3.0  # what was fetched ahead waits no longer for room: its ACK_WAIT is running
RETRY_FIRST = 0.2
RETRY_MOST = 5.0
FAREWELL = 3.0  # for handing back and flushing; who ends us will not wait much longer


def host_clock() -> Callable[[], int]:
    """Return a clock in Unix milliseconds that no correction of the host's time makes jump."""
    offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return lambda: (offset + time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1_000_000


def streams(mesh: bytes) -> tuple[StreamSpec, StreamSpec]:
    """Return the streams that the scheduler keeps for a mesh."""
    tasks = StreamSpec(
        name=stream_name(mesh, TASK_STREAM),
        subjects=(every(mesh, Kind.TASK),),
        max_bytes=STREAM_BYTES,
        retention=Retention.WORK_QUEUE,
        max_age=DAY / SECOND,
    )
    results = StreamSpec(
        name=stream_name(mesh, RESULT_STREAM),
        subjects=(every(mesh, Kind.RESULT),),
        max_bytes=STREAM_BYTES,
        # A result has one reader; once it has read it, it must not fill the stream for the others.
        retention=Retention.WORK_QUEUE,
        max_age=DAY / SECOND,
    )
    return tasks, results


class Service:
    """One scheduler on one mesh."""

    def __init__(
        self,
        transport: Transport,
        mesh: bytes,
        core: Core,
        *,
        clock: Callable[[], int],
        status_file: Path | None = None,
    ) -> None:
        self._transport = transport
        self._mesh = mesh
        self._core = core
        self._clock = clock
        self._status_file = StatusFile(status_file) if status_file is not None else None
        self._deliveries: dict[int, StreamDelivery] = {}
        self._keys = 0
        self._pulls: dict[bytes, anyio.CancelScope] = {}
        self._paused: dict[bytes, anyio.Event] = {}

    async def run(self, stop: anyio.Event, *, ready: anyio.Event | None = None) -> None:
        """Schedule until `stop` is set, then hand back what nobody works on."""
        if self._status_file is not None:
            self._status_file.write(self._totals())
        for spec in streams(self._mesh):
            await self._transport.ensure_stream(spec)
        loads = await self._transport.subscribe(every(self._mesh, Kind.LOAD), self._on_load)
        async with anyio.create_task_group() as group:
            group.start_soon(partial(self._sweep, group))
            group.start_soon(partial(self._report, lambda: loads.dropped))
            log.info("started")
            if ready is not None:
                ready.set()
            await stop.wait()
            group.cancel_scope.cancel()
        with anyio.move_on_after(FAREWELL):
            await loads.close()
            await self._do(self._core.drain(now=self._clock()))
            await self._transport.flush()
        self._write_totals()
        log.info("stopped", extra={"totals": self._totals()})

    # What arrives

    async def _on_load(self, delivery: Delivery) -> None:
        token = _token(delivery.subject)
        if token is None:
            self._core.counters.refused_loads += 1
            return
        now = self._clock()
        await self._do(self._core.load(token, delivery.payload, now=now) + self._core.place(now=now))

    async def _pull(self, name: bytes, scope: anyio.CancelScope) -> None:
        """Feed the core with one class while it has room for more."""
        pause = RETRY_FIRST
        with scope:
            while True:
                await self._room(name)
                try:
                    await self._pull_until_full(name)
                    pause = RETRY_FIRST
                except ClosedError:
                    raise
                except TransportError as error:
                    log.warning("pull-failed", extra={"error": str(error)})
                    await anyio.sleep(pause)
                    pause = min(2 * pause, RETRY_MOST)

    async def _pull_until_full(self, name: bytes) -> None:
        consumer = await self._transport.consume(self._consumer(name))
        try:
            async for delivery in consumer:
                await self._on_task(name, delivery)
                if self._core.demand(name) == 0:
                    with anyio.move_on_after(PAUSE_MOST) as pause:
                        await self._room(name)
                    if pause.cancelled_caught:
                        return
        finally:
            await _close(consumer)

    async def _on_task(self, name: bytes, delivery: StreamDelivery) -> None:
        self._keys += 1
        self._deliveries[self._keys] = delivery
        now = self._clock()
        actions = self._core.deliver(self._keys, name, delivery.payload, now=now)
        # A class that ends meanwhile must not take answers with it.
        with anyio.CancelScope(shield=True):
            await self._do(actions + self._core.place(now=now))

    def _consumer(self, name: bytes) -> ConsumerSpec:
        # All schedulers of the mesh share the class under this name.
        return ConsumerSpec(
            stream=stream_name(self._mesh, TASK_STREAM),
            subject=subject(self._mesh, Kind.TASK, name),
            durable=f"class-{name.hex()}",
            ack_wait=ACK_WAIT / SECOND,
            max_pending=HELD_MOST,
            batch=max(AHEAD_LEAST, AHEAD // max(len(self._pulls), 1)),
        )

    async def _room(self, name: bytes) -> None:
        """Wait until a class has room here."""
        while self._core.demand(name) == 0:
            await self._paused.setdefault(name, anyio.Event()).wait()

    # What the time brings

    async def _sweep(self, group: "TaskGroup") -> None:
        while True:
            now = self._clock()
            if self._transport.state is State.CONNECTED:
                await self._do(self._core.sweep(now=now) + self._core.place(now=now))
            else:
                self._core.excuse(now=now)
            self._staff(group)
            await anyio.sleep(SWEEP_EVERY)

    def _staff(self, group: "TaskGroup") -> None:
        """Pull exactly the classes that somebody serves."""
        served = self._core.classes()
        for name in self._pulls.keys() - served:
            self._pulls.pop(name).cancel()
            self._paused.pop(name, None)
        for name in served - self._pulls.keys():
            scope = self._pulls[name] = anyio.CancelScope()
            group.start_soon(self._pull, name, scope)

    async def _report(self, dropped: Callable[[], int]) -> None:
        said: Mapping[str, int] = {}
        next_report = 0.0
        while True:
            self._core.counters.dropped_loads = dropped()
            self._write_totals()
            if anyio.current_time() >= next_report:
                next_report = anyio.current_time() + REPORT_EVERY
                counted = {k: v for k, v in self._totals().items() if k != "loads"}  # heartbeats are no news
                if counted != said:
                    said = counted
                    log.info("totals", extra={"totals": self._totals()})
            await anyio.sleep(STATUS_EVERY)

    def _totals(self) -> dict[str, int]:
        return totals(self._core.counters, self._core.gauges())

    def _write_totals(self) -> None:
        if self._status_file is not None:
            try:
                self._status_file.write(self._totals())
            except UsageError as error:
                # It could be written at the start: a full disk must not stop the tasks.
                log.warning("status-file-failed", extra={"error": str(error)})

    # What goes out

    async def _do(self, actions: list[Action]) -> None:
        for action in actions:
            try:
                await self._act(action)
            except ClosedError:
                raise
            except TransportError:
                # Whatever it was comes again: the stream's messages by ACK_WAIT, the rest by silence.
                self._core.counters.send_failures += 1
        for name in [name for name in self._paused if self._core.demand(name) > 0]:
            self._paused.pop(name).set()

    async def _act(self, action: Action) -> None:
        match action:
            case Send(assign_token, payload):
                await self._transport.publish(subject(self._mesh, Kind.ASSIGN, assign_token), payload)
            case Ack(key):
                await self._deliveries.pop(key).ack()
            case Extend(key):
                # Between the decision and now the task may have ended.
                if (delivery := self._deliveries.get(key)) is not None:
                    await delivery.in_progress()
            case Nak(key, delay):
                await self._deliveries.pop(key).nak(delay / SECOND)


def _token(load_subject: str) -> bytes | None:
    """Return the token at the end of a subject, if it is one of ours."""
    try:
        token = bytes.fromhex(load_subject.rpartition(".")[2])
    except ValueError:
        return None
    return token if len(token) == 16 else None


async def _close(consumer: Consumer) -> None:
    """Hand back what was fetched ahead, also while being cancelled."""
    with anyio.move_on_after(FAREWELL, shield=True):
        await consumer.close()
