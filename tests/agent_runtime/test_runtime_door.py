"""The door: a few are judged each turn, in order, and whoever knocks too often waits in vain."""

import asyncio
from collections.abc import Callable

import pytest

from agent_runtime.door import PER_TURN, Door
from transport import Delivery

pytestmark = pytest.mark.anyio


def knocks(number: int, size: int = 1) -> list[Delivery]:
    return [Delivery("sb", bytes([at % 256]) * size) for at in range(number)]


def into(judged: list[Delivery], verdict: bool) -> Callable[[Delivery], bool]:
    """Return what judges everything alike and remembers what it judged."""

    def judge(delivery: Delivery) -> bool:
        judged.append(delivery)
        return verdict

    return judge


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_some_are_judged_each_turn_in_order_and_others_come_between() -> None:
    judged: list[Delivery] = []
    door = Door(into(judged, False))
    said = knocks(PER_TURN + 1)
    assert all(door.knock(each) for each in said)
    assert judged == []
    await turns(1)
    assert judged == said[:PER_TURN]
    await turns(1)
    assert judged == said


async def test_a_true_one_ends_the_turn() -> None:
    judged: list[Delivery] = []
    door = Door(into(judged, True))
    said = knocks(3)
    for each in said:
        door.knock(each)
    await turns(1)
    assert judged == said[:1]
    await turns(2)
    assert judged == said


@pytest.mark.parametrize(("limit", "size"), [("WAITING", 1), ("WAITING_BYTES", 100)])
async def test_no_more_wait_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, limit: str, size: int
) -> None:
    monkeypatch.setattr(f"agent_runtime.door.{limit}", 2 * size)
    judged: list[Delivery] = []
    door = Door(into(judged, False))
    said = knocks(3, size)
    assert [door.knock(each) for each in said] == [True, True, False]
    await turns(1)
    assert judged == said[:2]
    assert door.knock(said[2])
    await turns(1)
    assert judged == said
