"""Handlers run on workers that stay: at once where they can, in order, each in its own context."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest

from agent_runtime.agent import Agent, Context
from agent_runtime.handlers import Ended, beginner, run
from agent_runtime.pool import Job, Pool, Work
from agent_runtime.refusals import Refusals
from schemas.documents import Constraints
from schemas.granted import Granted

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with anyio.create_task_group() as tasks:
        pool = Pool(2, 3)
        pool.start(tasks)
        await turn()
        yield pool
        tasks.cancel_scope.cancel()


async def turn() -> None:
    await asyncio.sleep(0)


async def offer(pool: Pool, *works: Work) -> list[Job | None]:
    """Offer jobs as the transport does: from a callback of the loop, where no task is current."""
    jobs: asyncio.Future[list[Job | None]] = asyncio.get_running_loop().create_future()

    def read() -> None:
        try:
            jobs.set_result([pool.offer(work) for work in works])
        except ZeroDivisionError as error:
            jobs.set_exception(error)

    asyncio.get_running_loop().call_soon(read)
    return await jobs


def job(ran: list[int], number: int, gate: anyio.Event | None = None) -> Work:
    async def work() -> None:
        if gate is not None:
            await gate.wait()
        ran.append(number)

    return work


async def test_what_waits_for_nothing_has_ended_when_the_offer_returns(pool: Pool) -> None:
    ran: list[int] = []
    jobs = await offer(pool, *(job(ran, number) for number in range(100)))
    assert ran == list(range(100))
    assert all(each is not None and each.done for each in jobs)


async def test_jobs_run_at_most_so_many_at_once_and_the_rest_in_order(pool: Pool) -> None:
    ran, gate = list[int](), anyio.Event()
    jobs = await offer(pool, *(job(ran, number, gate) for number in range(6)))
    assert [each is None for each in jobs] == [False] * 5 + [True]
    await turn()
    assert ran == []
    gate.set()
    with anyio.fail_after(5):
        while len(ran) < 5:
            await turn()
    assert ran[2:] == [2, 3, 4]
    # Workers that wait take the next ones.
    await offer(pool, job(ran, 9))
    assert ran[-1] == 9


async def test_jobs_begin_in_order_also_where_a_task_offers_them(pool: Pool) -> None:
    ran: list[int] = []
    for number in range(4):
        assert pool.offer(job(ran, number)) is not None
    with anyio.fail_after(5):
        while len(ran) < 4:
            await turn()
    assert ran == [0, 1, 2, 3]


async def test_a_job_sees_one_task_and_one_context_from_its_first_step_to_its_last(pool: Pool) -> None:
    variable = contextvars.ContextVar("variable", default="nobody's")
    seen, ended = list[tuple[object, str]](), anyio.Event()

    async def work() -> None:
        token = variable.set("mine")
        seen.append((asyncio.current_task(), variable.get()))
        # A scope that is entered in one step and left in another needs the same task in both.
        with anyio.move_on_after(60):
            await turn()
            await anyio.lowlevel.checkpoint()
        seen.append((asyncio.current_task(), variable.get()))
        variable.reset(token)
        ended.set()

    await offer(pool, work, work)
    await ended.wait()
    with anyio.fail_after(5):
        while len(seen) < 4:
            await turn()
    assert len({task for task, _ in seen}) == 2
    assert {value for _, value in seen} == {"mine"}
    assert variable.get() == "nobody's"


async def test_a_job_that_is_cancelled_ends_where_it_waits_and_its_worker_goes_on(pool: Pool) -> None:
    ended: list[str] = []

    def waiting(name: str) -> Work:
        async def work() -> None:
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError:
                ended.append(name)
                raise

        return work

    jobs = await offer(pool, *(waiting(name) for name in ("handed over", "hired", "queued")))
    for each in jobs:
        assert each is not None
        # Twice is once.
        each.cancel()
        each.cancel()
    with anyio.fail_after(5):
        while not all(each is not None and each.done for each in jobs):
            await turn()
    # One that had not begun never does.
    assert ended == ["handed over", "hired"]
    (later,) = await offer(pool, waiting("later"))
    assert later is not None
    await turn()
    await turn()
    later.cancel()
    ran: list[int] = []
    with anyio.fail_after(5):
        while not later.done:
            await turn()
    await offer(pool, *(job(ran, number) for number in range(5)))
    assert ran == list(range(5))


async def test_a_job_that_ends_in_spite_of_it_leaves_its_worker_as_it_was(pool: Pool) -> None:
    async def stubborn() -> None:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            await turn()

    (stays,) = await offer(pool, stubborn)
    assert stays is not None
    await turn()
    await turn()
    stays.cancel()
    with anyio.fail_after(5):
        while not stays.done:
            await turn()
    tasks: list[int] = []

    async def look() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task.cancelling())

    await offer(pool, look)
    assert tasks == [0]


async def test_the_end_of_the_task_group_ends_jobs_that_are_cancelled_at_the_same_time() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("once")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            pool = Pool(1, 1)
            pool.start(tasks)
            await turn()
            (one,) = await offer(pool, work)
            await turn()
            await turn()
            assert one is not None
            tasks.cancel_scope.cancel()
            one.cancel()
    assert ended == ["once"]


async def test_a_bug_in_a_job_reaches_the_task_group_or_who_offered_it() -> None:
    async def bug() -> None:
        raise ZeroDivisionError

    async def late_bug() -> None:
        await turn()
        raise ZeroDivisionError

    async def run_one(work: Work) -> None:
        async with anyio.create_task_group() as tasks:
            pool = Pool(1, 1)
            pool.start(tasks)
            await turn()
            await offer(pool, work)
            await anyio.sleep_forever()

    for work in (bug, late_bug):
        with pytest.raises(ExceptionGroup) as caught, anyio.fail_after(5):
            await run_one(work)
        assert caught.group_contains(ZeroDivisionError)


async def test_a_handler_in_a_thread_that_is_cancelled_ends_with_its_thread(pool: Pool) -> None:
    agent, begun, go, left = Agent("counter"), asyncio.Event(), threading.Event(), list[str]()
    loop = asyncio.get_running_loop()

    @agent.tool("block")
    def block(data: bytes, context: Context) -> bytes:
        loop.call_soon_threadsafe(begun.set)
        go.wait(30)
        left.append("thread")
        return data

    async def work() -> None:
        try:
            granted = Granted("echo", Constraints())
            # The context is not asked for anything.
            await run(agent.tools["block"], granted, b"\xc4\x00", None, Refusals(), now=0)  # type: ignore[arg-type]
        finally:
            left.append("job")

    (blocked,) = await offer(pool, work)
    assert blocked is not None
    await begun.wait()
    blocked.cancel()
    await turn()
    await turn()
    assert left == []
    go.set()
    with anyio.fail_after(5):
        while not blocked.done:
            await turn()
    assert left == ["thread", "job"]


async def test_plain_functions_wait_for_no_thread_and_take_none_that_others_wait_for() -> None:
    many = 45  # more than anyio lets run for whoever names no limiter
    agent, refusals, granted = Agent("counter"), Refusals(), Granted("counter", Constraints())
    together, ended = threading.Barrier(many + 1), list[str]()

    @agent.tool("meet")
    def meet(_value: int, _context: Context) -> None:
        together.wait(60)

    async def work() -> None:
        made = await run(agent.tools["meet"], granted, b"\x01", cast("Context", None), refusals, now=0)
        ended.append(made.reason)

    async with anyio.create_task_group() as tasks:
        pool = Pool(many, 0)
        pool.start(tasks)
        await turn()
        await offer(pool, *(work for _ in range(many)))
        # As the agent joins: without a limiter of its own.
        await anyio.to_thread.run_sync(together.wait, 60)
        with anyio.fail_after(90):
            while len(ended) < many:
                await turn()
        tasks.cancel_scope.cancel()
    assert (ended, refusals.counts) == ([""] * many, {})


@pytest.mark.parametrize("turns", range(4))
async def test_a_plain_function_that_is_told_to_end_before_it_has_a_thread_does_not_run(
    pool: Pool, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, ran, calls, free = Agent("counter"), list[int](), list[int](), asyncio.Event()
    run_sync = anyio.to_thread.run_sync

    async def busy(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        await free.wait()
        return await run_sync(*arguments, **options)

    monkeypatch.setattr(anyio.to_thread, "run_sync", busy)

    @agent.tool("late")
    def late(number: int, _context: Context) -> None:
        ran.append(number)

    async def work() -> None:
        granted = Granted("counter", Constraints())
        await run(agent.tools["late"], granted, b"\x01", cast("Context", None), Refusals(), now=0)

    made: list[Job | None] = []

    def read() -> None:
        made.append(pool.offer(work))
        if turns == 0 and made[0] is not None:
            made[0].cancel()

    asyncio.get_running_loop().call_soon(read)
    for _ in range(1 + turns):
        await turn()
    (job,) = made
    assert job is not None
    job.cancel()
    free.set()
    with anyio.fail_after(90):
        while not job.done:
            await turn()
    assert (ran, calls) == ([], [1])


async def slip(_value: int, _context: Context) -> None:
    """Wait for what was cancelled here: asyncio raises `CancelledError` although nobody told this to end."""
    child = asyncio.ensure_future(asyncio.Event().wait())
    await turn()
    child.cancel()
    await child


async def slip_at_once(_value: int, _context: Context) -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.cancel()
    await ended


async def called_and_heeded(
    pool: Pool, name: str, handler: Callable[[int, Context], Awaitable[None] | None]
) -> tuple[list[Ended], Refusals]:
    """Run a handler for a call and for a message; return how the call ended, and what was counted."""
    agent, refusals, granted = Agent("worker"), Refusals(), Granted("worker", Constraints())
    ended: list[Ended | None] = []
    agent.tool(name)(handler)
    agent.message(name)(handler)
    context = cast("Context", None)

    async def call() -> None:
        ended.append(await run(agent.tools[name], granted, b"\x01", context, refusals, now=0))

    async def heed() -> None:
        rest = beginner(agent.messages[name], granted, context, refusals)(b"\x01", 0)
        if rest is not None:
            await rest
        ended.append(None)

    await offer(pool, call, heed)
    with anyio.fail_after(90):
        while len(ended) < 2:
            await turn()
    return [each for each in ended if each is not None], refusals


@pytest.mark.parametrize("handler", [slip, slip_at_once])
async def test_a_handler_that_cancels_what_it_waits_for_has_failed_and_nobody_else(
    pool: Pool, handler: Callable[[int, Context], Awaitable[None]]
) -> None:
    ended, refusals = await called_and_heeded(pool, "slip", handler)
    assert [each.reason for each in ended] == ["handler-failed"]
    ((place, kind), count), *others = refusals.counts.items()
    assert place.startswith("handler slip, test_runtime_pool.py:")
    assert (kind, count, others) == ("CancelledError", 2, [])
    ran: list[int] = []
    await offer(pool, job(ran, 1))
    assert ran == [1]


async def in_asyncios_group(_value: int, _context: Context) -> None:
    async with asyncio.TaskGroup() as group:
        await group.create_task(asyncio.Event().wait())


async def in_anyios_group(_value: int, _context: Context) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        await anyio.sleep_forever()
    raise AssertionError("it went on after its group had been cancelled")


async def gathering(_value: int, _context: Context) -> None:
    await asyncio.gather(asyncio.Event().wait(), asyncio.Event().wait())


async def tidying(_value: int, _context: Context) -> None:
    child = asyncio.ensure_future(asyncio.Event().wait())
    try:
        await asyncio.Event().wait()
    finally:
        child.cancel()
        await child


@pytest.mark.parametrize("handler", [in_asyncios_group, in_anyios_group, gathering, tidying])
async def test_a_job_that_is_cancelled_in_the_read_that_brought_it_ends_as_a_cancelled_task(
    pool: Pool, handler: Callable[[int, Context], Awaitable[None]]
) -> None:
    agent, refusals, granted = Agent("worker"), Refusals(), Granted("worker", Constraints())
    agent.tool("slow")(handler)
    before = asyncio.all_tasks()
    ended: list[BaseException] = []

    async def call() -> None:
        try:
            await run(agent.tools["slow"], granted, b"\x01", cast("Context", None), refusals, now=0)
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    def read() -> None:
        made = pool.offer(call)
        assert made is not None
        made.cancel()

    asyncio.get_running_loop().call_soon(read)
    with anyio.fail_after(90):
        while not ended:
            await turn()
        # Nothing that it had begun goes on without it.
        while asyncio.all_tasks() - before:
            await turn()
    assert refusals.counts == {}
    ran: list[int] = []
    await offer(pool, job(ran, 1))
    assert ran == [1]


def own_task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def over_before_it_waits(_value: int, _context: Context) -> int:
    try:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    except TimeoutError:
        return 1
    raise AssertionError("its time was over")


async def nested_timeouts(_value: int, _context: Context) -> int:
    past = asyncio.get_running_loop().time() - 5
    try:
        async with asyncio.timeout_at(past):
            async with asyncio.timeout_at(past):
                await asyncio.Event().wait()
    except TimeoutError:
        return 1
    raise AssertionError("its time was over")


async def cancels_itself_first(_value: int, _context: Context) -> None:
    own_task().cancel()
    await turn()


async def cancels_itself_later(_value: int, _context: Context) -> None:
    await turn()
    own_task().cancel()
    await turn()


async def cancelled_by_another(_value: int, _context: Context) -> None:
    loop, task = asyncio.get_running_loop(), own_task()
    await turn()
    loop.call_soon(task.cancel)
    await asyncio.Event().wait()


async def catches_its_own(_value: int, _context: Context) -> int:
    await turn()
    own_task().cancel()
    try:
        await turn()
    except asyncio.CancelledError:
        return 1
    raise AssertionError("it went on")


async def cancels_itself_last(_value: int, _context: Context) -> int:
    await turn()
    own_task().cancel()
    return 1


async def cancels_itself_and_never_waits(_value: int, _context: Context) -> int:
    own_task().cancel()
    return 1


async def cancelled_after_it_ended(_value: int, _context: Context) -> int:
    asyncio.get_running_loop().call_soon(own_task().cancel)
    return 1


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (over_before_it_waits, ""),
        (nested_timeouts, ""),
        (cancels_itself_first, "handler-failed"),
        (cancels_itself_later, "handler-failed"),
        (cancelled_by_another, "handler-failed"),
        (catches_its_own, ""),
        (cancels_itself_last, ""),
        (cancels_itself_and_never_waits, ""),
        (cancelled_after_it_ended, ""),
    ],
)
@pytest.mark.parametrize("queued", [False, True])
async def test_a_handler_whose_task_is_cancelled_by_others_than_its_pool_ends_nobody_else(
    handler: Callable[[int, Context], Awaitable[object]], reason: str, queued: bool
) -> None:
    if queued and handler is cancelled_after_it_ended:
        return  # the next one is in that task by then: it is the one that is cancelled
    agent, refusals, granted = Agent("worker"), Refusals(), Granted("worker", Constraints())
    agent.tool("odd")(handler)
    ended, told, cancelling = list[str](), list[str](), list[int]()

    async def odd() -> None:
        made = await run(agent.tools["odd"], granted, b"\x01", cast("Context", None), refusals, now=0)
        ended.append(made.reason)

    async def innocent() -> None:
        cancelling.append(own_task().cancelling())
        try:
            await asyncio.Event().wait()
        finally:
            told.append("ended")

    async with anyio.create_task_group() as tasks:
        pool = Pool(1, 8)
        pool.start(tasks)
        await turn()
        works = (odd, innocent) if queued else (odd,)
        for number in range(3):
            jobs = await offer(pool, *works)
            with anyio.fail_after(90):
                while len(ended) <= number:
                    await turn()
                # What was cancelled too late hits who waits for work.
                for _ in range(3):
                    await turn()
                if not queued:
                    jobs += await offer(pool, innocent)
                last = jobs[-1]
                while len(cancelling) <= number:
                    await turn()
                assert last is not None
                assert len(told) == number
                # Another one's end is no concern of its worker's either.
                last.cancel()
                while not last.done:
                    await turn()
        assert not tasks.cancel_scope.cancel_called
        tasks.cancel_scope.cancel()
    assert (ended, cancelling, len(told)) == ([reason] * 3, [0] * 3, 3)
    assert refusals.counts.total() == (3 if reason else 0)


async def test_a_job_that_is_handed_over_is_not_hit_by_what_was_meant_for_the_one_before() -> None:
    kept, ran = list["asyncio.Task[object]"](), list[int]()

    async def keep() -> None:
        kept.append(own_task())

    async with anyio.create_task_group() as tasks:
        pool = Pool(1, 8)
        pool.start(tasks)
        await turn()
        await offer(pool, keep)
        # From within a task: the worker makes the first step, and is told to end before it does.
        assert pool.offer(job(ran, 1)) is not None
        kept[0].cancel()
        with anyio.fail_after(90):
            while not ran:
                await turn()
        assert not tasks.cancel_scope.cancel_called
        tasks.cancel_scope.cancel()


async def test_what_a_job_sets_in_its_context_is_not_seen_by_what_it_offers(pool: Pool) -> None:
    variable = contextvars.ContextVar("variable", default="nobody's")
    seen: list[str] = []

    async def look() -> None:
        seen.append(variable.get())

    async def work() -> None:
        variable.set("mine")
        pool.offer(look)

    await offer(pool, work)
    with anyio.fail_after(90):
        while not seen:
            await turn()
    assert seen == ["nobody's"]


async def exits(_value: int, _context: Context) -> None:
    raise SystemExit(3)


async def exits_later(_value: int, _context: Context) -> None:
    await turn()
    raise SystemExit(3)


def exits_in_a_thread(_value: int, _context: Context) -> None:
    raise SystemExit(3)


async def ends_as_a_group(_value: int, _context: Context) -> None:
    raise BaseExceptionGroup("", [asyncio.CancelledError()])


class PanicError(BaseException):
    """As foreign code has it that is not written in Python."""


async def panics(_value: int, _context: Context) -> None:
    raise PanicError


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (exits, "SystemExit"),
        (exits_later, "SystemExit"),
        (exits_in_a_thread, "SystemExit"),
        (ends_as_a_group, "BaseExceptionGroup"),
        (panics, "PanicError"),
    ],
)
async def test_whatever_a_handler_raises_is_its_own_failure(
    pool: Pool, handler: Callable[[int, Context], Awaitable[None] | None], kind: str
) -> None:
    ended, refusals = await called_and_heeded(pool, "odd", handler)
    assert [(each.reason, each.detail) for each in ended] == [("handler-failed", kind)]
    (((place, told), count),) = refusals.counts.items()
    assert place.startswith("handler odd")
    assert (told, count) == (kind, 2)


async def interrupted(_value: int, _context: Context) -> None:
    raise KeyboardInterrupt


async def interrupted_in_a_group(_value: int, _context: Context) -> None:
    raise BaseExceptionGroup("", [ValueError(), KeyboardInterrupt()])


@pytest.mark.parametrize("handler", [interrupted, interrupted_in_a_group])
async def test_an_interrupt_is_nobodys_failure(handler: Callable[[int, Context], Awaitable[None]]) -> None:
    agent, refusals, granted = Agent("worker"), Refusals(), Granted("worker", Constraints())
    agent.tool("odd")(handler)
    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)):
        await run(agent.tools["odd"], granted, b"\x01", cast("Context", None), refusals, now=0)
    assert refusals.counts == {}
