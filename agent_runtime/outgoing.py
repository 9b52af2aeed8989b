"""Messages to peers, several in one frame: all that one turn of the loop says to one peer goes out together.

A message that is alone in its turn waits for nothing: frames are sealed at the end of the turn in which
their first message was said. Who says much waits here while the broker does not read.
"""

import asyncio
from collections.abc import Sequence

from agent_runtime.lingering import Linger
from agent_runtime.membership import Moment
from agent_runtime.peering import Link, Peering
from agent_runtime.refusals import REFUSED, Refusals
from schemas.errors import UsageError
from schemas.limits import MAX_BODY
from schemas.peer import MAX_MESSAGES, Encoded
from transport import Transport

# A batch of small messages is full early: the peer works on it while the next is made. Large ones go
# together all the same, because a frame costs more than copying them does.
FULL, FEW, FULL_OF_LARGE = 32 * 1024, 16, 256 * 1024
_ARRAY = 3  # what a frame's array of messages costs at most


class Batch:
    """What is to be said on one session at the end of this turn."""

    __slots__ = ("count", "link", "parts", "size")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.parts: list[bytes] = []  # of `count` messages
        self.count = self.size = 0


class Outgoing:
    """What is to be said at the end of this turn, by session.

    A turn ends with a read of the socket for what is said while it is handed on, else with the loop's turn.
    `ended` counts turns: what was true of a peer in this turn need not be asked again before the next.
    While a read is handed on, at whose end `flush` is called, `reading` is set.
    """

    def __init__(self, peering: Peering, transport: Transport, refusals: Refusals) -> None:
        self.ended = 0
        self._peering = peering
        self._transport = transport
        self._refusals = refusals
        self._said: dict[Link, Batch] = {}
        self._scheduled = False
        self._linger = Linger()
        self.reading = False
        self.congested = False
        self.waiting = 0  # for the broker to read: whoever does has taken `congested` back

    def say(
        self,
        link: Link,
        message: Encoded,
        *,
        at_once: bool = False,
        moment: Moment | None = None,
        awaited: bool = True,
    ) -> None:
        """Send an encoded message at the end of this turn; raise `UsageError` if it fits no frame.

        What the session or the broker refuses then is counted. `at_once` is for who knows that nobody else
        has anything to say in this turn: it spares the turn. `moment` is for who asked for it and ran
        nothing else since. Of what nobody waits for, frames are fuller.
        """
        size = len(message)
        if size > MAX_BODY - _ARRAY:
            raise UsageError(
                f"{size} bytes do not fit one message: {MAX_BODY - _ARRAY} do; send them in parts"
            )
        if at_once and not (self._said or self.reading):
            self.ended += 1
            self._send(link, 1, (message,) if isinstance(message, bytes) else message.parts, moment)
            self._transport.push()
            return
        batch = self._said.get(link) or self.batch(link)
        if batch.size + size > (FULL if awaited and batch.count >= FEW else FULL_OF_LARGE) or (
            batch.count >= MAX_MESSAGES
        ):
            self.send(batch)
        if isinstance(message, bytes):
            batch.parts.append(message)
        else:
            batch.parts += message.parts
        batch.count += 1
        batch.size += size

    def batch(self, link: Link) -> Batch:
        """Return what is said on a session in this turn, of at most `FULL_OF_LARGE` and `MAX_MESSAGES`."""
        batch = self._said.get(link)
        if batch is None:
            batch = self._said[link] = Batch(link)
            if not (self._scheduled or self.reading):
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._end_of_turn)
        return batch

    def send(self, batch: Batch) -> None:
        """Send what is in a batch before the turn ends, so that there is room for more."""
        if batch.count:
            self._send(batch.link, batch.count, batch.parts)
            batch.parts, batch.count, batch.size = [], 0, 0

    def flush(self) -> None:
        """Send what was said so far."""
        reading, self.reading = self.reading, False
        self.ended = ended = self.ended + 1
        if self._said:
            said, self._said = self._said, {}
            for batch in said.values():
                self._send(batch.link, batch.count, batch.parts)
            self._transport.push()
            if reading and len(said) == 1 and batch.count == 1:
                # One answer to one who waited for it: he may ask again at once.
                self._linger.wait(asyncio.get_running_loop(), lambda: self.ended != ended)

    async def room(self) -> None:
        """Wait while the broker does not read what was said."""
        if self.congested:
            self.congested = False
            self.flush()
            self.waiting += 1
            try:
                await self._transport.breathe()
            finally:
                self.waiting -= 1

    def _end_of_turn(self) -> None:
        self._scheduled = False
        self.flush()

    def _send(self, link: Link, count: int, parts: Sequence[bytes], moment: Moment | None = None) -> None:
        try:
            subject, header, sealed = self._peering.seal_encoded(link, count, parts, moment)
            if self._transport.post(subject, header, sealed, hint=link.hint):
                self.congested = True
        except REFUSED as error:
            self._refusals.caught("send", error)
