"""Requests to the broker that wait for an answer, and outlive the connection they were sent on."""

import asyncio
from collections.abc import Callable

from transport.errors import ClosedError, NotPermittedError, UnavailableError
from transport.nats_protocol import Answer, ApiError, parse_answer, parse_headers, publish_frame, retryable

# JetStream answers 503 for some hundred milliseconds after a broker's start.
RETRY_DELAY = 0.1
NO_STREAM = Answer(error=ApiError(code=503))

Send = Callable[[bytes], bool]


class _Pending:
    __slots__ = ("answer", "frame", "subject")

    def __init__(self, subject: str, frame: bytes, answer: "asyncio.Future[Answer]") -> None:
        self.subject = subject
        self.frame = frame
        self.answer = answer


class Requests:
    """Matches answers to requests by the last token of the reply subject.

    All requests sent here are safe to send twice (appends carry a message id, the others describe a wanted
    state), so what has no answer when a connection ends is sent again on the next.
    """

    def __init__(self, inbox: str) -> None:
        self.filter = f"{inbox}.r.*"
        self._prefix = f"{inbox}.r."
        self._pending: dict[str, _Pending] = {}
        self._next = 0

    def route(self, subject: str, reply: str, data: bytes, headers: bytes) -> None:
        """Take an answer."""
        pending = self._pending.get(subject[len(self._prefix) :])
        if pending is None or pending.answer.done():
            return
        status, _ = parse_headers(headers) if headers else (0, {})
        pending.answer.set_result(NO_STREAM if status == 503 else parse_answer(data))

    def refused(self, subject: str) -> bool:
        """Fail what waits for `subject` (lower-cased); say whether something did."""
        hit = [pending for pending in self._pending.values() if pending.subject.lower() == subject]
        for pending in hit:
            if not pending.answer.done():
                pending.answer.set_exception(NotPermittedError(f"publishing to {pending.subject}"))
        return bool(hit)

    def resend(self, send: Send) -> None:
        """Send again what has no answer."""
        for pending in self._pending.values():
            send(pending.frame)

    def fail_all(self) -> None:
        """End every wait with `ClosedError`."""
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(ClosedError("the transport was closed"))

    async def ask(
        self, subject: str, payload: bytes, headers: dict[str, str] | None, send: Send, deadline: float
    ) -> Answer:
        """Send and wait for the answer, trying again while JetStream only is not ready."""
        try:
            async with asyncio.timeout(deadline):
                while True:
                    answer = await self._ask_once(subject, payload, headers, send)
                    if answer.error is None or not retryable(answer.error):
                        return answer
                    await asyncio.sleep(RETRY_DELAY)
        except TimeoutError as error:
            raise UnavailableError(f"no answer to {subject} within {deadline:g} s") from error

    async def _ask_once(
        self, subject: str, payload: bytes, headers: dict[str, str] | None, send: Send
    ) -> Answer:
        self._next += 1
        token = str(self._next)
        frame = publish_frame(subject, payload, self._prefix + token, headers)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[token] = _Pending(subject, frame, answer)
        try:
            if send(frame):
                # Let the connection write and others run; the wait itself is the backpressure.
                await asyncio.sleep(0)
            return await answer
        finally:
            del self._pending[token]
