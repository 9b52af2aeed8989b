"""Running the agent's own functions: the one place where an arbitrary exception is caught and counted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeGuard

import anyio
import msgspec

from agent_runtime.agent import NOT_OF_TYPE, Context, Endpoint, Handler, encode_value
from agent_runtime.bugs import Part, line_of, parts
from agent_runtime.ending import told
from agent_runtime.errors import RefusedError
from agent_runtime.pool import Rest
from agent_runtime.refusals import Refusals
from schemas.errors import PeerError, Reason
from schemas.granted import Granted
from schemas.limits import MAX_VALUE
from schemas.messages import Millis
from schemas.peer import APART, Encoded, bin_parts

# Begins the handler of a kind by payload and time, and returns what is left of it if it waits.
Begin = Callable[[bytes, Millis], Awaitable[None] | None]

log = logging.getLogger("sealbus.agent")

# An interrupt, and the end of a coroutine that nobody waits for any more.
OF_THE_PROCESS = (KeyboardInterrupt, GeneratorExit)

# Of any class: how one looks up what it has is its own to say.
_NAME_OF: Callable[[type], str] = type.__dict__["__name__"].__get__

MAX_DETAIL = 512  # characters, as `ResultBody` and `Reply` take them


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How a handler ended: `reason` is empty when it returned."""

    reason: str
    detail: str
    value: Encoded


_DONE = Ended("", "", encode_value(None))


async def run(
    endpoint: Endpoint | None,
    granted: Granted,
    payload: bytes | memoryview,
    context: Context,
    refusals: Refusals,
    *,
    now: Millis,
) -> Ended:
    """Run a handler that the gate has let pass by `granted` and return how it ended.

    The argument is decoded once: the object that the grant's constraints are checked on is the one that the
    handler gets. Raises nothing of the handler's.
    """
    if endpoint is None:
        return _no_handler(refusals)
    try:
        argument = endpoint.decode(payload)
        if granted.checks_arguments:
            _check(endpoint, granted, argument, now)
        if endpoint.is_async:
            value = await endpoint.handler(argument, context)
        else:
            value = await _in_thread(endpoint.handler, argument, context)
        if value is None:
            return _DONE
        large = type(value) is bytes and len(value) >= APART
        encoded = bin_parts(value) if large else encode_value(value)
    except BaseException as error:  # noqa: BLE001 - somebody else's code: its bug is its task's failure, counted here
        return _failed(endpoint, error, refusals)
    if len(encoded) > MAX_VALUE:
        refusals.note(f"handler {endpoint.name}", Reason.TOO_LARGE.value)
        return Ended(Reason.TOO_LARGE.value, f"a result may have {MAX_VALUE} bytes", b"")
    return Ended("", "", encoded)


def beginner(endpoint: Endpoint | None, granted: Granted, context: Context, refusals: Refusals) -> Begin:
    """Return what does as `run` for what nobody answers, until the handler first waits."""
    if endpoint is None:
        return partial(_unheeded, refusals)
    # Called for each of thousands of messages in a frame: what is the same for all is looked up once.
    decode, handler, checks = endpoint.argument.decode, endpoint.handler, granted.checks_arguments
    start = handler if endpoint.is_async else partial(_in_thread, handler)

    def begin(payload: bytes, now: Millis) -> Awaitable[None] | None:
        try:
            argument = decode(payload)
        except NOT_OF_TYPE:
            _failed(endpoint, endpoint.misfit(), refusals)
            return None
        except BaseException as error:  # noqa: BLE001 - an argument's type may have code of its own
            _failed(endpoint, error, refusals)
            return None
        try:
            if checks:
                _check(endpoint, granted, argument, now)
            steps = start(argument, context)
            waits_for = steps.send(None)
        except StopIteration:
            return None
        except BaseException as error:  # noqa: BLE001 - as in `run`
            _failed(endpoint, error, refusals)
            return None
        return _go_on(endpoint, Rest(steps, waits_for), refusals)

    return begin


def _unheeded(refusals: Refusals, _payload: bytes, _now: Millis) -> None:
    _no_handler(refusals)


async def _go_on(endpoint: Endpoint, rest: Rest, refusals: Refusals) -> None:
    try:
        await rest
    except BaseException as error:  # noqa: BLE001 - as in `run`
        _failed(endpoint, error, refusals)


def _check(endpoint: Endpoint, granted: Granted, argument: Any, now: Millis) -> None:
    outside = granted.of_arguments(argument, now, endpoint.form)
    if outside is not None:
        raise RefusedError(outside.reason, outside.detail)


def _no_handler(refusals: Refusals) -> Ended:
    refusals.note("handler", Reason.NO_HANDLER.value)
    return Ended(Reason.NO_HANDLER.value, "", b"")


def _failed(endpoint: Endpoint, error: BaseException, refusals: Refusals) -> Ended:
    """Return what a handler's own failure is; raise what it was told, and what the process was."""
    try:
        ended = _judged(endpoint, error, refusals)
    except OF_THE_PROCESS:
        raise
    except BaseException:  # noqa: BLE001 - an error is its handler's as well: its class may do whatever it likes
        ended = _bug(endpoint, error, "", refusals)
    if ended is None:
        raise error
    return ended


def _judged(endpoint: Endpoint, error: BaseException, refusals: Refusals) -> Ended | None:
    if isinstance(error, asyncio.CancelledError) and told():
        return None
    refusal: PeerError | None = None
    bug: Part | None = None
    for part in parts(error):
        each = part.error
        if isinstance(each, OF_THE_PROCESS):
            return None
        if not _is_refusal(each):
            bug = bug or part
        elif refusal is None:
            # A handler that used a task group: what its tasks were refused is what it was refused.
            refusal = each
    if refusal is not None and bug is None:
        return _refused(endpoint, refusal, refusals)
    return _bug(endpoint, error, line_of(bug or Part(error, None), endpoint.home), refusals)


def _is_refusal(error: BaseException) -> TypeGuard[PeerError]:
    # One that was made of something else than a reason and a text is a slip of who made it.
    return (
        isinstance(error, PeerError)
        and isinstance(getattr(error, "reason", None), Reason)
        and isinstance(getattr(error, "detail", None), str)
    )


def _bug(endpoint: Endpoint, error: BaseException, line: str, refusals: Refusals) -> Ended:
    # Type and line only: the text of a foreign exception may quote the payload. The line is for its
    # developer, in the log: who called hears the type.
    kind = _NAME_OF(type(error))[:MAX_DETAIL]
    refusals.bug(f"handler {endpoint.name}", kind, line)
    return Ended(Reason.HANDLER_FAILED.value, kind, b"")


def _refused(endpoint: Endpoint, refusal: PeerError, refusals: Refusals) -> Ended:
    # Somebody else's text, perhaps around a file's name: one that no message can carry loses the result.
    detail = refusal.detail.encode("utf-8", "replace").decode()[:MAX_DETAIL]
    refusals.note(f"handler {endpoint.name}", refusal.reason.value)
    return Ended(refusal.reason.value, detail, b"")


async def _in_thread(handler: Handler, argument: Any, context: Context) -> Any:
    # Cancelled or not, this ends when the thread does: nothing stops a thread, and none must be left behind.
    ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    # A limiter for each: as many run as whoever runs handlers lets. Behind others it would begin after what
    # permitted it is over, and anyio's own limiter is for what the agent itself does in threads: it joins.
    thread = asyncio.ensure_future(
        anyio.to_thread.run_sync(_call, ends, handler, argument, context, limiter=anyio.CapacityLimiter(1))
    )
    thread.add_done_callback(partial(_ended, ends))
    try:
        await ends
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await asyncio.wait((thread,))
        thread.exception()
        raise
    value, exited = thread.result()
    if exited is not None:
        raise exited
    return value


def _ended(ends: "asyncio.Future[None]", _thread: object) -> None:
    if not ends.done():
        ends.set_result(None)


def _call(
    ends: "asyncio.Future[None]", handler: Handler, argument: Any, context: Context
) -> tuple[Any, SystemExit | None]:
    if ends.cancelled():
        return None, None  # told to end before there was a thread
    # Raised from a task it ends the loop: it is raised again where the handler is waited for.
    try:
        return handler(argument, context), None
    except SystemExit as error:
        return None, error
