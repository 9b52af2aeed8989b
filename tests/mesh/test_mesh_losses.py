"""Whatever a broker drops while a party joins is asked again soon, and in its place: nobody begins anew."""

from collections import Counter

import pytest

from agent_runtime.coordination import UnreachableError
from lab.mesh import RunningMesh
from lab.plan import CLIENTS
from lab.tap import Drop, Match, Towards
from lab.tap.script import Passing
from schemas.messages import Get
from schemas.subjects import Kind
from tests.mesh.world import client_identity, joined

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (Match(CLIENTS, kind=Kind.HELLO, most=1), {Kind.HELLO: 2, Kind.BOOT: 1}),
        (Match(CLIENTS, kind=Kind.OFFER, most=1), {Kind.HELLO: 2, Kind.BOOT: 1}),
        (Match(CLIENTS, kind=Kind.BOOT, most=1), {Kind.HELLO: 1, Kind.BOOT: 2}),
        (Match(CLIENTS, kind=Kind.ACCEPT, most=1), {Kind.HELLO: 1, Kind.BOOT: 2}),
        (Match(CLIENTS, Towards.BROKER, Kind.SESSION, most=1), {Kind.HELLO: 1, Kind.BOOT: 1}),  # confirm
        (Match(CLIENTS, Towards.BROKER, Kind.SESSION, every=2, most=1), {Kind.HELLO: 1, Kind.BOOT: 1}),
        (Match(CLIENTS, Towards.PARTY, Kind.SESSION, most=2), {Kind.HELLO: 1, Kind.BOOT: 1}),  # admitted
    ],
    ids=["hello", "offer", "init", "accept", "confirm", "evidence", "admitted"],
)
async def test_a_flight_that_is_lost_is_sent_again(
    mesh: RunningMesh, lost: Match, said: dict[Kind, int]
) -> None:
    assert mesh.tap is not None
    counted: Counter[str] = Counter()

    def count(passing: Passing) -> bool:
        if passing.towards is Towards.BROKER:
            counted[passing.kind] += 1
        return False

    script = mesh.tap.script
    watching = script.add("watch", Match(CLIENTS, where=count), Drop())
    losing = script.add("lose", lost, Drop())
    try:
        async with joined(mesh, client_identity(mesh)) as desk:
            assert desk.membership.live()
        # A hello more may follow an offer that comes late on a busy machine: it is small, and said often.
        assert counted[Kind.BOOT] == said[Kind.BOOT]
        assert counted[Kind.HELLO] >= said[Kind.HELLO]
        assert losing.fired == (lost.most or 0)
    finally:
        script.remove(watching)
        script.remove(losing)


async def test_who_asks_on_a_line_that_was_replaced_is_told_so_and_may_ask_again(mesh: RunningMesh) -> None:
    async with joined(mesh, client_identity(mesh)) as desk:
        line = desk.coordination._line
        assert line is not None
        await desk.coordination.renew()
        with pytest.raises(UnreachableError, match="replaced"):
            await desk.coordination._ask(line, "get", Get("holdings", ""), 60)
        await desk.coordination.refresh()
