"""An observer of everything the broker delivers: what the party who runs the broker could keep.

It records to a file while the mesh works and searches afterwards, because only then are all the words
known that must not be in it.
"""

import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import anyio

from lab.needles import automaton
from transport import Credentials, Delivery, connect

PATIENCE = 5.0  # seconds: what has not come by then is reported as missed
CHUNK = 4 * 1024 * 1024
LONGEST = 4096  # bytes of the longest needle: chunks overlap by so much


@dataclass
class Observed:
    """What went by so far."""

    file: IO[bytes]
    messages: int = 0
    size: int = 0  # bytes of payload

    _awaited: bytes = b""
    _arrived: anyio.Event = field(default_factory=anyio.Event)

    async def wait_for(self, needle: bytes) -> None:
        """Return when a message with this in it has arrived, and with it all that came before."""
        self._awaited = needle
        with anyio.move_on_after(PATIENCE):
            await self._arrived.wait()

    async def take(self, delivery: Delivery) -> None:
        """Record one message with its subject."""
        self.messages += 1
        self.size += len(delivery.payload)
        self.file.write(delivery.subject.encode() + b"\n" + delivery.payload + b"\n")
        if self._awaited and self._awaited in delivery.payload:
            self._arrived.set()

    def search(self, needles: Iterable[bytes]) -> dict[bytes, int]:
        """Return which of the needles are in the recording, and how often."""
        self.file.flush()
        words = {needle for needle in needles if 0 < len(needle) <= LONGEST}
        found: dict[bytes, int] = {}
        search = automaton(words)
        self.file.seek(0)
        tail = b""
        while chunk := self.file.read(CHUNK):
            window = tail + chunk
            for end, needle in search(window):
                # What ends inside the overlap was counted with the chunk before.
                if end >= len(tail):
                    found[needle] = found.get(needle, 0) + 1
            tail = window[-LONGEST:]
        return found


@asynccontextmanager
async def observing(
    url: str, directory: Path, *, credentials: Credentials | None = None
) -> AsyncIterator[Observed]:
    """Record all that the broker delivers for as long as the block lasts; the file goes with it."""
    with tempfile.TemporaryFile(dir=directory) as file:
        observed = Observed(file)
        async with connect(url, name="observer", credentials=credentials) as transport:
            await transport.subscribe(">", observed.take)
            yield observed
