"""Messages to peers, several in one frame: all that one turn of the loop says to one peer goes out together.

A message that is alone in its turn waits for nothing: frames are sealed at the end of the turn in which
their first message was said. Who says much waits here while the broker does not read.
"""

import asyncio

from agent_runtime.peering import Link, Peering
from agent_runtime.refusals import Refusals
from schemas.errors import UsageError
from schemas.limits import MAX_BODY
from schemas.peer import MAX_MESSAGES
from transport import Transport

# From here on a message gains nothing by company, and an AEAD is best fed what fits a cache.
FULL = 32 * 1024
_ARRAY = 3  # what a frame's array of messages costs at most


class Outgoing:
    """What is to be said at the end of this turn, by session."""

    def __init__(self, peering: Peering, transport: Transport, refusals: Refusals) -> None:
        self._peering = peering
        self._transport = transport
        self._refusals = refusals
        self._said: dict[int, tuple[Link, list[bytes], int]] = {}
        self._scheduled = False
        self._congested = False

    def say(self, link: Link, message: bytes) -> None:
        """Send an encoded message at the end of this turn; raise `UsageError` if it fits no frame.

        What the session or the broker refuses then is counted.
        """
        size = len(message)
        if size > MAX_BODY - _ARRAY:
            raise UsageError(
                f"{size} bytes do not fit one message: {MAX_BODY - _ARRAY} do; send them in parts"
            )
        entry = self._said.get(id(link))
        if entry is not None and (entry[2] + size > FULL or len(entry[1]) >= MAX_MESSAGES):
            self._send(link, entry[1])
            entry = None
        if entry is None:
            self._said[id(link)] = (link, [message], size)
        else:
            entry[1].append(message)
            self._said[id(link)] = (link, entry[1], entry[2] + size)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._end_of_turn)

    async def room(self) -> None:
        """Wait while the broker does not read what was said."""
        if self._congested:
            self._congested = False
            await self._transport.breathe()

    def _end_of_turn(self) -> None:
        self._scheduled = False
        said, self._said = self._said, {}
        for link, messages, _ in said.values():
            self._send(link, messages)
        self._transport.push()

    def _send(self, link: Link, messages: list[bytes]) -> None:
        with self._refusals.at("send"):
            subject, frame = self._peering.seal_encoded(link, messages)
            if self._transport.post(subject, frame):
                self._congested = True
