"""A handler's own bug: its developer learns the line from the log, and nobody learns what the error says."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from agent_runtime.__main__ import load
from agent_runtime.agent import Agent, Context, Endpoint, encode_value
from agent_runtime.bugs import FRAMES_MOST, Part, home_of, line_of
from agent_runtime.errors import CallFailedError, RefusedError
from agent_runtime.handlers import MAX_DETAIL, Ended, beginner, run
from agent_runtime.refusals import LINES_MOST, Refusals
from schemas.documents import Constraints
from schemas.errors import PeerError, Reason
from schemas.granted import Granted

pytestmark = pytest.mark.anyio

SECRET = "patient 4711"
GRANTED = Granted("worker", Constraints())
CONTEXT = cast("Context", None)
Way = Callable[[Endpoint, object, Refusals], Awaitable[Ended | None]]


async def call(endpoint: Endpoint, argument: object, refusals: Refusals) -> Ended | None:
    return await run(endpoint, GRANTED, encode_value(argument), CONTEXT, refusals, now=0)


async def tell(endpoint: Endpoint, argument: object, refusals: Refusals) -> Ended | None:
    rest = beginner(endpoint, GRANTED, CONTEXT, refusals)(encode_value(argument), 0)
    if rest is not None:
        await rest
    return None


def helper(text: str) -> None:
    raise ValueError(text)


async def at_once(text: str, _context: Context) -> None:
    helper(text)


async def later(text: str, _context: Context) -> None:
    await asyncio.sleep(0)
    helper(text)


def in_a_thread(text: str, _context: Context) -> None:
    helper(text)


async def in_a_group(text: str, context: Context) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(later(text, context))


async def beside_a_refusal(text: str, context: Context) -> None:
    async def refused() -> None:
        raise RefusedError(Reason.UNAVAILABLE)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(refused())
        tasks.create_task(at_once(text, context))


def below_the_standard_library(text: str, _context: Context) -> None:
    json.loads(text)


def in_code_made_at_run_time(text: str, _context: Context) -> None:
    exec(compile("raise ValueError", f"{text}.py", "exec"), {})  # noqa: S102


HELPER = helper.__code__.co_firstlineno + 1
HANDLERS: dict[Callable[[str, Context], object], tuple[str, int]] = {
    at_once: ("ValueError", HELPER),
    later: ("ValueError", HELPER),
    in_a_thread: ("ValueError", HELPER),
    in_a_group: ("ExceptionGroup", HELPER),
    beside_a_refusal: ("ExceptionGroup", HELPER),
    below_the_standard_library: (
        "JSONDecodeError",
        below_the_standard_library.__code__.co_firstlineno + 1,
    ),
    in_code_made_at_run_time: ("ValueError", in_code_made_at_run_time.__code__.co_firstlineno + 1),
}


@pytest.mark.parametrize("way", [call, tell])
@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.__name__)
async def test_the_innermost_line_of_its_own_code_is_logged_and_no_text(
    handler: Callable[[str, Context], object], way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    agent, refusals = Agent("worker"), Refusals()
    agent.tool("slip")(handler)
    ended = await way(agent.tools["slip"], SECRET, refusals)
    kind, line = HANDLERS[handler]
    assert dict(refusals.counts) == {(f"handler slip, test_runtime_bugs.py:{line}", kind): 1}
    with caplog.at_level(logging.INFO, "sealbus.agent"):
        refusals.tell()
    (said,) = caplog.messages
    assert said == f"failed in handler slip, test_runtime_bugs.py:{line}: {kind} (1 so far)"
    # Who called hears the type alone.
    assert ended in (None, Ended(Reason.HANDLER_FAILED.value, kind, b""))


async def test_an_agent_file_is_its_own_code(tmp_path: Path) -> None:
    file = tmp_path / "scribe.py"
    file.write_text(
        "from agent_runtime import Agent, Context\n"
        "agent = Agent('scribe')\n"
        "@agent.tool('note')\n"
        "async def note(text: str, context: Context) -> int:\n"
        "    return int(text)\n"
    )
    refusals = Refusals()
    await call(load(file).tools["note"], SECRET, refusals)
    assert dict(refusals.counts) == {("handler note, scribe.py:5", "ValueError"): 1}


async def test_what_no_line_of_its_own_brought_about_is_told_by_its_type() -> None:
    agent, refusals = Agent("worker"), Refusals()

    @agent.tool("odd")
    async def odd(_text: str, _context: Context) -> object:
        return object()  # what no message can carry

    await call(agent.tools["odd"], SECRET, refusals)
    assert dict(refusals.counts) == {("handler odd", "TypeError"): 1}
    assert line_of(Part(ValueError(SECRET), None), home_of(helper)) == ""


async def nested(depth: int, context: Context) -> None:
    """Fail as deep in task groups as the argument, which a peer chooses, says."""
    if depth == 0:
        helper(SECRET)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(nested(depth - 1, context))


class StubbornError(ExceptionGroup[Exception]):
    """A group that cannot be divided: `split` and `subgroup` ask it for another one."""

    def derive(self, _errors: object, /) -> Any:
        raise TypeError(SECRET)


class CoyError(Exception):
    """An error that says nothing of itself."""

    @property
    def __class__(self) -> Any:
        raise OSError(SECRET)

    @__class__.setter
    def __class__(self, _kind: Any) -> None: ...


class UnreasonedError(PeerError):
    def __init__(self) -> None:
        """Set neither reason nor detail."""


ODD: dict[str, Callable[[], BaseException]] = {
    "a detail that is no text": lambda: RefusedError(Reason.UNAVAILABLE, cast("str", ValueError(SECRET))),
    "a status as the detail": lambda: CallFailedError(Reason.UNAVAILABLE, cast("str", 404)),
    "no reason at all": UnreasonedError,
    "a reason that is a text": lambda: RefusedError(cast("Reason", "unavailable")),
    "a group that cannot be divided": lambda: StubbornError("", [ValueError(), RefusedError(Reason.EXPIRED)]),
    "an error that cannot be looked at": CoyError,
}
KINDS = {"a reason that is a text": "AttributeError"}


@pytest.mark.parametrize("way", [call, tell])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("odd", ODD)
async def test_a_failure_that_fails_to_be_judged_is_a_failed_handler(odd: str, waits: bool, way: Way) -> None:
    agent, refusals = Agent("worker"), Refusals()

    @agent.tool("odd")
    async def handler(_value: int, _context: Context) -> None:
        if waits:
            await asyncio.sleep(0)
        error = ODD[odd]()
        raise error

    ended = await way(agent.tools["odd"], 1, refusals)
    kind = KINDS.get(odd) or type.__dict__["__name__"].__get__(type(ODD[odd]()))
    assert ended in (None, Ended(Reason.HANDLER_FAILED.value, kind, b""))
    ((place, counted),) = refusals.counts
    assert counted == kind
    # Whoever made it out of the wrong things finds the line in the log, as of any slip.
    assert place.startswith("handler odd, test_runtime_bugs.py:") == (
        odd != "an error that cannot be looked at"
    )


@pytest.mark.parametrize("way", [call, tell])
async def test_a_failure_may_be_as_deep_in_groups_as_a_peer_likes(way: Way) -> None:
    agent, refusals = Agent("worker"), Refusals()
    agent.tool("nested")(nested)
    ended = await way(agent.tools["nested"], 1_500, refusals)
    assert ended in (None, Ended(Reason.HANDLER_FAILED.value, "ExceptionGroup", b""))
    assert dict(refusals.counts) == {(f"handler nested, test_runtime_bugs.py:{HELPER}", "ExceptionGroup"): 1}


async def test_refusals_in_groups_of_any_depth_are_what_a_handler_was_refused() -> None:
    agent, refusals = Agent("worker"), Refusals()

    @agent.tool("ask")
    async def ask(depth: int, _context: Context) -> None:
        error: Exception = CallFailedError(Reason.NO_GRANT, "not yours")
        for _ in range(depth):
            error = ExceptionGroup("", [error, RefusedError(Reason.EXPIRED)])
        raise error

    ended = await call(agent.tools["ask"], 3_000, refusals)
    assert ended == Ended(Reason.NO_GRANT.value, "not yours", b"")
    assert dict(refusals.counts) == {("handler ask", "no-grant"): 1}


async def test_of_a_deep_recursion_the_last_frames_are_looked_at() -> None:
    def down(depth: int, last: Callable[[], object]) -> None:
        if depth == 0:
            last()
        else:
            down(depth - 1, last)

    def caught(depth: int, last: Callable[[], object]) -> Part:
        try:
            down(depth, last)
        except ValueError as error:
            return Part(error, None)
        raise AssertionError("it fails")

    # Somebody else's code, as deep as what is looked at.
    foreign: dict[str, Any] = {}
    exec("def deep(n):\n    if n: deep(n - 1)\n    raise ValueError", foreign)  # noqa: S102
    home = home_of(helper)
    assert line_of(caught(600, lambda: helper(SECRET)), home) == f"test_runtime_bugs.py:{HELPER}"
    assert line_of(caught(600, lambda: foreign["deep"](FRAMES_MOST - 2)), home) != ""
    assert line_of(caught(600, lambda: foreign["deep"](FRAMES_MOST - 1)), home) == ""


async def test_a_name_that_no_answer_can_carry_is_cut() -> None:
    agent, refusals = Agent("worker"), Refusals()

    @agent.tool("odd")
    async def odd(_value: int, _context: Context) -> None:
        raise type("X" * (MAX_DETAIL + 1), (Exception,), {})

    ended = await call(agent.tools["odd"], 1, refusals)
    assert ended == Ended(Reason.HANDLER_FAILED.value, "X" * MAX_DETAIL, b"")


class Choosy(msgspec.Struct):
    """A type with code of its own, whose failure is no matter of form."""

    key: str

    def __post_init__(self) -> None:
        raise KeyError(self.key)


@pytest.mark.parametrize("way", [call, tell])
async def test_what_an_arguments_type_raises_is_its_handlers_failure(way: Way) -> None:
    agent, refusals = Agent("worker"), Refusals()

    @agent.tool("choose")
    async def choose(_value: Choosy, _context: Context) -> None:
        raise AssertionError("it has no argument")

    ended = await way(agent.tools["choose"], {"key": SECRET}, refusals)
    assert ended in (None, Ended(Reason.HANDLER_FAILED.value, "KeyError", b""))
    ((place, kind),) = refusals.counts
    assert (kind, SECRET in place) == ("KeyError", False)


def test_a_bug_is_no_refusal(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals()
    refusals.note("handler x", Reason.UNAVAILABLE.value)
    refusals.bug("handler x", "ValueError", "")
    with caplog.at_level(logging.INFO, "sealbus.agent"):
        refusals.tell()
    assert sorted(caplog.messages) == [
        "failed in handler x: ValueError (1 so far)",
        "refused at handler x: unavailable (1 so far)",
    ]
    assert refusals.summary() == "unavailable at handler x 1 times; ValueError in handler x 1 times"


def test_lines_beyond_the_most_are_counted_together() -> None:
    refusals = Refusals()
    for line in range(LINES_MOST + 5):
        refusals.bug("handler x", "ValueError", f"agent.py:{line}")
    refusals.bug("handler x", "ValueError", "agent.py:0")
    assert len(refusals.counts) == LINES_MOST + 1
    assert refusals.counts["handler x", "ValueError"] == 5
    assert refusals.counts["handler x, agent.py:0", "ValueError"] == 2
