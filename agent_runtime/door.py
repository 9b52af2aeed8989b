"""The door at which strangers knock: what could be an init waits here, and some of it is judged each turn.

Whoever owns the broker can send inits at any rate. What is none dies at a look at its header; what could be
one waits in a bounded queue, so that calls on sessions that exist come between.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from transport import Delivery, Pace

WAITING = (
    1_024  # a third of a second of true inits; more are a flood, and who was honest among them asks again
)
WAITING_BYTES = 8 * 1024 * 1024
# Of the connection on which inits come: a fifth of a processor for looking at them, however many there are.
# A true one, of 5 KB, is read in one go.
DOOR_PACE = Pace(most=16 * 1024, rest=4.0, behind=1.0)
PER_TURN = 4  # forged ones cost some 30 us each; a true one costs a hundred times as much, and ends the turn


D = TypeVar("D", bound=Delivery)


class Door(Generic[D]):
    """Judges what waits, a few a turn. `judge` tells whether one was true."""

    def __init__(self, judge: Callable[[D], bool]) -> None:
        self._judge = judge
        self._waiting: deque[D] = deque()
        self._bytes = 0
        self._scheduled = False

    def knock(self, delivery: D) -> bool:
        """Let a delivery wait for its turn; say False where too many do."""
        size = len(delivery.payload)
        if len(self._waiting) >= WAITING or self._bytes + size > WAITING_BYTES:
            return False
        self._bytes += size
        self._waiting.append(delivery)
        self._schedule()
        return True

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        for _ in range(min(PER_TURN, len(self._waiting))):
            delivery = self._waiting.popleft()
            self._bytes -= len(delivery.payload)
            if self._judge(delivery):
                break
        if self._waiting:
            self._schedule()
