"""The planner: splits segments of documents into parts, has redactors work on them, joins what they find."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from agent_runtime import Agent, Context
from examples.redaction import replacing, slices
from examples.redaction.messages import PART, Findings, Redact, Sighting, Survey

T = TypeVar("T")
R = TypeVar("R")

agent = Agent("planner", concurrency=16)


@agent.task("survey")
async def survey(work: Survey, context: Context) -> None:
    """Have the names that a segment declares found and told to the linker."""

    async def one(part: Survey) -> None:
        task = await context.submit("survey-part", part)
        await task.result(type(None))

    parts = [Survey(work.job, work.document, piece) for piece in slices.cut(work.slice, PART)]
    await _all(parts, one)


@agent.task("redact")
async def redact(work: Redact, context: Context) -> Findings:
    """Have every identifier in a segment found; tell the linker which ones the document contains."""
    parts = [Redact(work.job, work.document, piece, work.vault) for piece in slices.cut(work.slice, PART)]

    async def one(part: Redact) -> Findings:
        task = await context.submit("redact-part", part)
        return await task.result(Findings)

    found = replacing.merged(await _all(parts, one))
    if found.tokens:
        sighting = Sighting(work.job, work.document, found.tokens)
        await context.call("sight", sighting, type(None))
    return found


async def _all(parts: list[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """Work on all parts at once and return the results in order; the first failure ends the rest."""
    results: dict[int, R] = {}

    async def run(index: int, part: T) -> None:
        results[index] = await work(part)

    async with anyio.create_task_group() as tasks:
        for index, part in enumerate(parts):
            tasks.start_soon(run, index, part)
    return [results[index] for index in range(len(parts))]
