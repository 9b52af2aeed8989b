"""How a lone call is waited for awake, on a loop and by a clock of our own."""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest

from agent_runtime.lingering import CROWDED, LINGER, Linger


class Loop:
    """Turns by hand; from one look at the clock to the next it takes `pace`."""

    def __init__(self) -> None:
        self.soon: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.now = 0.0
        self.pace = LINGER / 10

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self.soon.append((call, arguments))

    def time(self) -> float:
        self.now += self.pace
        return self.now

    def run(self) -> int:
        """Turn until nothing is to be done, and return how often that was."""
        turned = 0
        while self.soon:
            call, arguments = self.soon.popleft()
            call(*arguments)
            turned += 1
        return turned


class Answer:
    """Is done when it was looked at so many times."""

    def __init__(self, after: float) -> None:
        self.left = after

    def done(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def loop() -> Loop:
    return Loop()


def wait(linger: Linger, loop: Loop, after: float) -> int:
    linger.wait(cast("asyncio.AbstractEventLoop", loop), Answer(after).done)
    return loop.run()


def test_a_call_that_is_answered_soon_is_waited_for_awake(loop: Loop) -> None:
    linger = Linger(2, loop.time)
    assert wait(linger, loop, after=3) == 4
    assert wait(linger, loop, after=5) == 6


def test_the_loop_sleeps_when_the_answer_takes_long(loop: Loop) -> None:
    linger, begun = Linger(2, loop.time), loop.now
    assert 0 < wait(linger, loop, after=float("inf")) <= 10
    assert loop.now - begun <= LINGER + LINGER / 5


def test_calls_that_take_long_are_waited_for_awake_ever_more_seldom(loop: Loop) -> None:
    linger = Linger(2, loop.time)
    awake = [number for number in range(2_000) if wait(linger, loop, after=float("inf"))]
    pauses = [later - one for one, later in pairwise(awake)]
    assert pauses[:8] == [2, 4, 8, 16, 32, 64, 128, 256]
    assert set(pauses[8:]) == {256}


def test_one_answer_in_time_and_all_are_waited_for_awake_again(loop: Loop) -> None:
    linger = Linger(2, loop.time)
    while wait(linger, loop, after=float("inf")):
        pass
    while not wait(linger, loop, after=1):
        pass
    assert all(wait(linger, loop, after=1) for _ in range(20))


def test_who_has_the_processor_with_others_sleeps(loop: Loop) -> None:
    linger = Linger(2, loop.time)
    loop.pace = CROWDED
    assert wait(linger, loop, after=float("inf")) == 1
    loop.pace = CROWDED * 0.9
    assert wait(linger, loop, after=2) == 0  # it rests
    assert wait(linger, loop, after=2) == 3


def test_with_one_processor_nobody_who_would_answer_is_kept_from_it(loop: Loop) -> None:
    assert wait(Linger(1, loop.time), loop, after=1) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("after", [0.0, 0.01])
async def test_on_a_real_loop_what_else_is_to_be_done_is_done_meanwhile(after: float) -> None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    loop.call_later(after, answer.set_result, "there")
    Linger(2).wait(loop, answer.done)
    assert await asyncio.wait_for(answer, 10) == "there"
