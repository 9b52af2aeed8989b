"""A redactor: finds declared names and identifiers of all kinds. It never learns the pseudonyms' key."""

from collections import OrderedDict

import anyio
from anyio import to_thread

from agent_runtime import Agent, Context
from examples.redaction import replacing
from examples.redaction.detection import detect
from examples.redaction.detection import survey as find_names
from examples.redaction.lexicon import Lexicon
from examples.redaction.messages import (
    Declared,
    Findings,
    LexiconPage,
    LexiconRequest,
    PersonName,
    PseudonymReply,
    PseudonymRequest,
    Redact,
    Survey,
)

JOBS_KEPT = 2


class Lexicons:
    """The lexicons of the latest jobs, got from the linker once each."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Lexicon] = OrderedDict()
        self._lock = anyio.Lock()

    async def of(self, job: str, context: Context) -> Lexicon:
        """Return a job's lexicon. Pass 1 is over when it is first asked for, so it does not change."""
        async with self._lock:
            if job not in self._kept:
                self._kept[job] = await self._get(job, context)
                if len(self._kept) > JOBS_KEPT:
                    self._kept.popitem(last=False)
            return self._kept[job]

    @staticmethod
    async def _get(job: str, context: Context) -> Lexicon:
        names: list[PersonName] = []
        start: int | None = 0
        while start is not None:
            page = await context.call("lexicon", LexiconRequest(job, start), LexiconPage)
            names += page.names
            start = page.next
        return await to_thread.run_sync(Lexicon, names)


def make() -> Agent:
    """Return a redactor."""
    agent = Agent("redactor", concurrency=4)
    lexicons = Lexicons()

    @agent.task("survey-part")
    async def survey_part(work: Survey, context: Context) -> None:
        """Tell the linker which names this part declares."""
        names = await to_thread.run_sync(find_names, work.slice)
        if names:
            await context.call("declare", Declared(work.job, names), type(None))

    @agent.task("redact-part")
    async def redact_part(work: Redact, context: Context) -> Findings:
        """Find every identifier that this part owns, as pseudonyms that the vault made."""
        lexicon = await lexicons.of(work.job, context)
        occurrences = await to_thread.run_sync(detect, work.slice, lexicon)
        identifiers = tuple(sorted({occurrence.identifier for occurrence in occurrences}))
        if not identifiers:
            return Findings((), ())
        reply = await context.call("pseudonyms", PseudonymRequest(identifiers, work.vault), PseudonymReply)
        pseudonyms = dict(zip(identifiers, reply.pseudonyms, strict=True))
        return replacing.owned(replacing.findings(occurrences, pseudonyms), work.slice)

    return agent


agent = make()
