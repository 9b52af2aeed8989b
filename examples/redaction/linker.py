"""The linker: keeps the names that a job declares, and which documents speak of whom."""

from collections import OrderedDict

from agent_runtime import Agent, Context, RefusedError
from examples.redaction.linking import Job
from examples.redaction.messages import (
    Begin,
    Declared,
    LexiconPage,
    LexiconRequest,
    LinksPage,
    LinksRequest,
    Sighting,
)
from schemas.errors import Reason

JOBS_KEPT = 4


class Jobs:
    """The latest jobs that were begun. Of any other the names are not here: it is refused, never empty."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Job] = OrderedDict()

    def begin(self, name: str) -> None:
        """Begin a job; the one that was longest not spoken of goes."""
        self._kept.setdefault(name, Job())
        if len(self._kept) > JOBS_KEPT:
            self._kept.popitem(last=False)

    def of(self, name: str) -> Job:
        """Return a job, or raise `RefusedError`."""
        job = self._kept.get(name)
        if job is None:
            raise RefusedError(Reason.UNAVAILABLE, "the linker does not have this job any more: run it again")
        self._kept.move_to_end(name)
        return job


def make() -> Agent:
    """Return a linker."""
    agent = Agent("linker")
    jobs = Jobs()

    @agent.tool("begin-links")
    async def begin(begin: Begin, context: Context) -> None:
        """Begin a job."""
        jobs.begin(begin.job)

    @agent.tool("declare")
    async def declare(declared: Declared, context: Context) -> None:
        """Take names."""
        jobs.of(declared.job).declare(declared.names)

    @agent.tool("lexicon")
    async def lexicon(request: LexiconRequest, context: Context) -> LexiconPage:
        """Give a page of the job's names."""
        return jobs.of(request.job).lexicon(request.start)

    @agent.tool("sight")
    async def sight(sighting: Sighting, context: Context) -> None:
        """Take which pseudonyms a document contains."""
        jobs.of(sighting.job).sight(sighting.document, sighting.tokens)

    @agent.tool("links")
    async def links(request: LinksRequest, context: Context) -> LinksPage:
        """Give a page of the documents that speak of the same person."""
        return jobs.of(request.job).links(request.start)

    return agent


agent = make()
