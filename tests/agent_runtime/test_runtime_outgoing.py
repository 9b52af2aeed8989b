"""Messages to peers leave together at the end of a turn; handlers run on workers that stay."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

import anyio
import pytest

from agent_runtime.outgoing import FULL, Outgoing
from agent_runtime.peering import Link, Peering
from agent_runtime.pool import Job, Pool
from agent_runtime.refusals import Refusals
from schemas.errors import Reason, UsageError
from schemas.limits import MAX_BODY
from schemas.peer import MAX_MESSAGES
from sealing.errors import SealingError
from transport import Transport

pytestmark = pytest.mark.anyio


@dataclass
class Wire:
    """Keeps frames as the lists of messages that they carry, and plays session and broker."""

    frames: list[list[bytes]] = field(default_factory=list)
    pushed: int = 0
    breathed: int = 0
    busy: bool = False
    refuses: bool = False

    def seal_encoded(self, link: Link, messages: list[bytes]) -> tuple[str, bytes]:
        if self.refuses:
            raise SealingError(Reason.NOT_LIVE)
        self.frames.append(list(messages))
        return "subject", b"frame"

    def post(self, subject: str, payload: bytes) -> bool:
        return self.busy

    def push(self) -> None:
        self.pushed += 1

    async def breathe(self) -> None:
        self.breathed += 1


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def refusals() -> Refusals:
    return Refusals()


@pytest.fixture
def outgoing(wire: Wire, refusals: Refusals) -> Outgoing:
    return Outgoing(cast("Peering", wire), cast("Transport", wire), refusals)


def link() -> Link:
    return cast("Link", object())


async def turn() -> None:
    await asyncio.sleep(0)


async def test_all_of_one_turn_to_one_peer_is_one_frame(wire: Wire, outgoing: Outgoing) -> None:
    vault, linker = link(), link()
    for number in range(3):
        outgoing.say(vault, b"v%d" % number)
        outgoing.say(linker, b"l%d" % number)
    assert wire.frames == []
    await turn()
    assert wire.frames == [[b"v0", b"v1", b"v2"], [b"l0", b"l1", b"l2"]]
    assert wire.pushed == 1
    outgoing.say(vault, b"alone")
    await turn()
    assert wire.frames[2:] == [[b"alone"]]


async def test_no_frame_holds_more_than_a_receiver_takes(wire: Wire, outgoing: Outgoing) -> None:
    vault = link()
    for _ in range(MAX_MESSAGES + 1):
        outgoing.say(vault, b"x")
    outgoing.say(vault, bytes(FULL))
    outgoing.say(vault, b"after")
    await turn()
    assert [len(frame) for frame in wire.frames] == [MAX_MESSAGES, 1, 1, 1]
    assert max(len(frame) for frame in wire.frames) <= MAX_MESSAGES


async def test_what_fits_no_frame_is_told_to_who_said_it_and_nobody_else_loses_by_it(
    wire: Wire, outgoing: Outgoing
) -> None:
    outgoing.say(link(), b"before")
    with pytest.raises(UsageError, match="do not fit one message"):
        outgoing.say(link(), bytes(MAX_BODY - 2))
    outgoing.say(link(), bytes(MAX_BODY - 3))
    await turn()
    assert [len(frame[0]) for frame in wire.frames] == [6, MAX_BODY - 3]


async def test_who_says_much_waits_while_the_broker_does_not_read(wire: Wire, outgoing: Outgoing) -> None:
    await outgoing.room()
    assert wire.breathed == 0
    wire.busy = True
    outgoing.say(link(), b"x")
    await turn()
    await outgoing.room()
    assert wire.breathed == 1


async def test_what_a_session_refuses_is_counted_and_the_rest_goes_out(
    wire: Wire, outgoing: Outgoing, refusals: Refusals
) -> None:
    wire.refuses = True
    outgoing.say(link(), b"x")
    await turn()
    assert refusals.counts["send", "not-live"] == 1
    wire.refuses = False
    outgoing.say(link(), b"y")
    await turn()
    assert wire.frames == [[b"y"]]


def job(ran: list[int], number: int, gate: anyio.Event | None = None) -> Job:
    async def run() -> None:
        if gate is not None:
            await gate.wait()
        ran.append(number)

    return run


async def test_jobs_run_at_most_so_many_at_once_and_the_rest_in_order() -> None:
    pool, ran, gate = Pool(2, 3), list[int](), anyio.Event()
    async with anyio.create_task_group() as tasks:
        pool.start(tasks)
        assert [pool.offer(job(ran, number, gate)) for number in range(6)] == [True] * 5 + [False]
        await turn()
        assert ran == []
        gate.set()
        with anyio.fail_after(5):
            while len(ran) < 5:
                await turn()
        assert ran[2:] == [2, 3, 4]
        # Workers that wait take the next ones.
        assert pool.offer(job(ran, 9))
        await turn()
        await turn()
        assert ran[-1] == 9
        tasks.cancel_scope.cancel()


async def test_a_bug_in_a_job_reaches_the_task_group() -> None:
    async def bug() -> None:
        raise ZeroDivisionError

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            pool = Pool(1, 1)
            pool.start(tasks)
            pool.offer(bug)

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert caught.group_contains(ZeroDivisionError)
