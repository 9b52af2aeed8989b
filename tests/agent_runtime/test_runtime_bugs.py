"""A handler's own bug: its developer learns the line from the log, and nobody learns what the error says."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from agent_runtime.__main__ import load
from agent_runtime.agent import Agent, Context, Endpoint, encode_value
from agent_runtime.bugs import home_of, line_of
from agent_runtime.errors import RefusedError
from agent_runtime.handlers import Ended, beginner, run
from agent_runtime.refusals import LINES_MOST, Refusals
from schemas.documents import Constraints
from schemas.errors import Reason
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
    assert line_of(ValueError(SECRET), home_of(helper)) == ""


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
