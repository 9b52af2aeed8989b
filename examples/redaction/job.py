"""The client's side of a job: two passes over the files, a bounded number of segments under way.

Memory stays flat: files are read when their turn comes and let go when they are written.
"""

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TypeVar

import anyio
from anyio import to_thread

from agent_runtime import CallFailedError, Context, RefusedError, TaskFailedError
from examples.redaction import replacing, slices
from examples.redaction.inputs import Passed, Source
from examples.redaction.messages import (
    SEGMENT,
    Begin,
    Begun,
    Findings,
    Group,
    LinksPage,
    LinksRequest,
    Redact,
    Slice,
    Survey,
)
from examples.redaction.output import Results
from examples.redaction.reading import Document, DocumentError, read
from examples.redaction.replacing import Mark
from lab.search import Words
from schemas.errors import UsageError
from transport import TransportError

AT_ONCE = 48  # documents under way: enough that no redactor waits, a few MiB of client memory
SEGMENTS_AT_ONCE = 8  # of one document: 32 MiB are 256 of them

Advance = Callable[[str], None]
T = TypeVar("T")


@dataclass
class Report:
    """What became of the files."""

    read: int = 0
    redacted: int = 0
    skipped: list[Passed] = field(default_factory=list)
    failed: list[Passed] = field(default_factory=list)
    findings: Counter[str] = field(default_factory=Counter)
    submitted: int = 0
    done: int = 0
    task_failures: int = 0
    expired: int = 0
    identifiers: Words = field(default_factory=Words)  # what was found, to be searched for afterwards
    lines: Words = field(default_factory=Words)
    marks: dict[str, list[Mark]] = field(default_factory=dict)  # kept only to be scored


class Job:
    """One job: `inputs` yields the same files each time it is called."""

    def __init__(
        self,
        context: Context,
        inputs: Callable[[], Iterator[Source | Passed]],
        results: Results,
        advance: Advance,
        *,
        scored: bool = False,
    ) -> None:
        self.report = Report()
        self._context = context
        self._inputs = inputs
        self._results = results
        self._advance = advance
        self._scored = scored
        self._id = secrets.token_hex(8)
        self._vault = ""
        self._numbers: dict[PurePosixPath, int] = {}
        self._failed: set[int] = set()

    async def run(self) -> Report:
        """Survey all files for the names that they declare, then redact them; write the results."""
        await self._begin()
        await self._each(self._survey)
        await self._each(self._redact)
        groups = [group async for group in self._groups()]
        names = {number: name for name, number in self._numbers.items()}
        await to_thread.run_sync(self._results.finish, groups, names)
        return self.report

    async def _begin(self) -> None:
        begin = Begin(self._id)
        try:
            await self._context.call("begin-links", begin, type(None))
            self._vault = (await self._context.call("begin-pseudonyms", begin, Begun)).vault
        except CallFailedError as error:
            raise UsageError(f"the job could not begin ({error}): run again") from error

    async def _each(self, work: Callable[[int, Source], Awaitable[None]]) -> None:
        limiter = anyio.Semaphore(AT_ONCE)

        async def one(number: int, source: Source) -> None:
            try:
                await work(number, source)
            finally:
                limiter.release()

        first = work == self._survey
        async with anyio.create_task_group() as tasks:
            for found in self._inputs():
                if isinstance(found, Passed):
                    if first:
                        (self.report.failed if found.failed else self.report.skipped).append(found)
                    continue
                # By name: a file that comes or goes between the passes must not shift the others.
                number = self._numbers.setdefault(found.name, len(self._numbers))
                if number in self._failed:
                    continue
                await limiter.acquire()
                tasks.start_soon(one, number, found)

    async def _survey(self, number: int, source: Source) -> None:
        document = await self._document(number, source)
        if document is None:
            return
        self.report.read += 1
        for line in document.text.splitlines():
            self.report.lines.add(line)

        async def one(piece: Slice) -> None:
            await self._task("survey", Survey(self._id, number, piece), type(None))

        if await self._segments(number, source, document, one):
            self._advance("survey")

    async def _redact(self, number: int, source: Source) -> None:
        document = await self._document(number, source)
        if document is None:
            return
        answers: list[Findings] = []

        async def one(piece: Slice) -> None:
            found = await self._task("redact", Redact(self._id, number, piece, self._vault), Findings)
            answers.append(replacing.owned(found, piece))

        if not await self._segments(number, source, document, one):
            return
        marks = replacing.resolved(answers)
        text = replacing.redacted(document.text, marks, document.syntax)
        await to_thread.run_sync(self._results.write, source.name, document.encode(text))
        self._results.found(source.name, marks)
        if self._scored:
            self.report.marks[str(source.name)] = marks
        self.report.redacted += 1
        self.report.findings.update({kind.value: n for kind, n in replacing.counted(marks).items()})
        for mark in marks:
            self.report.identifiers.add(document.text[mark.start : mark.end])
        self._advance("redact")

    async def _document(self, number: int, source: Source) -> Document | None:
        try:
            return await to_thread.run_sync(read, source.path)
        except DocumentError as error:
            self._fail(number, source, str(error))
            return None

    async def _segments(
        self,
        number: int,
        source: Source,
        document: Document,
        work: Callable[[Slice], Awaitable[None]],
    ) -> bool:
        limiter = anyio.Semaphore(SEGMENTS_AT_ONCE)
        failures: list[str] = []

        async def one(piece: Slice) -> None:
            try:
                await work(piece)
            except (TaskFailedError, RefusedError, TransportError) as error:
                failures.append(str(error))
            finally:
                limiter.release()

        async with anyio.create_task_group() as tasks:
            for piece in slices.cut(document.slice(), SEGMENT):
                await limiter.acquire()
                if failures:
                    break
                tasks.start_soon(one, piece)
        if failures:
            self._fail(number, source, failures[0])
        return not failures

    async def _task(self, task_class: str, payload: Survey | Redact, kind: type[T]) -> T:
        task = await self._context.submit(task_class, payload)
        self.report.submitted += 1
        try:
            value = await task.result(kind)
        except TaskFailedError as error:
            if error.reason.value == "deadline-passed":
                self.report.expired += 1
            else:
                self.report.task_failures += 1
            raise
        self.report.done += 1
        return value

    async def _groups(self) -> AsyncIterator[Group]:
        start: int | None = 0
        while start is not None:
            try:
                page = await self._context.call("links", LinksRequest(self._id, start), LinksPage)
            except CallFailedError as error:
                raise UsageError(f"the linker did not answer ({error}): run again") from error
            for group in page.groups:
                yield group
            start = page.next

    def _fail(self, number: int, source: Source, reason: str) -> None:
        self._failed.add(number)
        self.report.failed.append(Passed(source.name, reason, failed=True))
