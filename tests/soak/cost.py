"""What one junk init costs an agent in CPU: measured in this process, so that a busy machine matters less.

The way is the agent's own, from what a broker says to the refusal; the kernel's share is not in it.
"""

import asyncio
import random
import time
from dataclasses import asdict, dataclass

from agent_runtime.door import Door
from agent_runtime.refusals import Refusals
from tests.agent_runtime.world import Member, enclave, mesh_up
from tests.soak.flood import KINDS
from tests.soak.flooder import junk
from transport import Delivery
from transport.nats_parser import NatsParser

MADE = 256
BLOCK = 64  # frames a read
FLOOD, ALONE, MAKE = 20_000, 3_000, 50


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU."""

    size: int  # bytes
    flooded: float  # one of a flood: most are dropped at the door
    judged: float  # one that is judged to its end


class _Reader:
    """What a transport tells, as `agent_runtime.calls` takes it for an inbox."""

    def __init__(self, vault: Member, inbox: str) -> None:
        self._vault, self._inbox = vault, inbox
        self.refusals = Refusals()
        self._door = Door(self.judge)

    def on_message(self, sid: int, subject: bytes, reply: bytes, payload: memoryview, headers: bytes) -> None:
        if not self._vault.peering.may_be_init(payload):
            self.refusals.note("inbox", "epoch-unknown")
        elif not self._door.knock(Delivery(self._inbox, bytes(payload))):
            self.refusals.note("inbox", "flood")

    def on_ping(self) -> None: ...

    def on_pong(self) -> None: ...

    def on_error(self, text: str) -> None: ...

    def judge(self, delivery: Delivery) -> bool:
        """Judge junk: it is refused, or the measurement is of something else."""
        refused = self.refusals.counts.total()
        with self.refusals.at("inbox"):
            self._vault.peering.inbox(delivery.payload, delivery.subject)
        assert self.refusals.counts.total() == refused + 1
        return False


def costs() -> dict[str, object]:
    """Return the costs of each kind of junk, and what a true init costs who makes it."""
    return asyncio.run(_costs())


async def _costs() -> dict[str, object]:
    world, _ = mesh_up()
    redactor, vault = enclave(world, "redactor"), enclave(world, "vault")
    admission = vault.party.admitted.admission
    _, inbox, init = redactor.peering.open(admission, "vault")
    vault.peering.inbox(init, inbox)
    told: dict[str, object] = {}
    for kind in KINDS[:-1]:  # nobody reads the last
        reader = _Reader(vault, inbox)
        frames = [junk(kind, init, random.Random(number)) for number in range(MADE)]
        said = [b"MSG %s 7 %d\r\n%s\r\n" % (inbox.encode(), len(frame), frame) for frame in frames]
        blocks = [b"".join(said[at : at + BLOCK]) for at in range(0, MADE, BLOCK)]
        parser = NatsParser(reader, 1 << 20)
        started = time.process_time()
        for number in range(FLOOD // BLOCK):
            parser.feed(blocks[number % len(blocks)])
            await asyncio.sleep(0)
        flooded = time.process_time() - started
        started = time.process_time()
        for number in range(ALONE):
            reader.judge(Delivery(inbox, frames[number % MADE]))
        judged = time.process_time() - started
        cost = Cost(len(frames[0]), round(flooded / FLOOD * 1e6, 1), round(judged / ALONE * 1e6, 1))
        told[kind] = asdict(cost)
    started = time.process_time()
    for _ in range(MAKE):
        redactor.peering.abandon(redactor.peering.open(admission, "vault")[0].accept_subject)
    told["making_one_us"] = round((time.process_time() - started) / MAKE * 1e6)
    return told
