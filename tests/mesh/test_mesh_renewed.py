"""A call that takes longer than its caller's admission lasts, and a call that would take too long."""

from collections import Counter
from pathlib import Path

import anyio
import pytest

from agent_runtime import Agent, Context, Node
from agent_runtime.errors import UsageError
from agent_runtime.listings import Listing
from schemas.limits import HOUR, SECOND
from tests.mesh.world import BLUEPRINT, client_identity, enclave_identity, eventually, joined, make_lab, up

pytestmark = pytest.mark.anyio

ADMISSION = 10  # seconds: the shortest that a policy may say
ASKED_AGAIN = 2  # times after the first admission's end


@pytest.mark.slow
async def test_a_call_outlives_its_callers_admission_and_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with up(make_lab(tmp_path, _blueprint(tmp_path))) as mesh:
        agent, runs, release = Agent("counter"), Counter[str](), anyio.Event()

        @agent.tool("read")
        async def read(prefix: str, context: Context) -> dict[str, list[int]]:
            runs[prefix] += 1
            await release.wait()
            return {prefix: [runs[prefix]]}

        async with (
            joined(mesh, client_identity(mesh)) as desk,
            joined(mesh, enclave_identity(mesh, "counter", "counter"), agent) as called,
        ):
            _only(desk, called, monkeypatch)
            answers: list[dict[str, list[int]]] = []

            async def ask() -> None:
                answers.append(await desk.context().call("read", "a", dict[str, list[int]], within=90))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await eventually(lambda: runs["a"] == 1)
                first = next(iter(called.calls._peering._links.values()))
                await eventually(lambda: called.membership.clock.now() > first.peer.expires * SECOND)
                asked = called.refusals.counts["call", "under-way"]
                await eventually(lambda: called.refusals.counts["call", "under-way"] >= asked + ASKED_AGAIN)
                release.set()
            assert answers == [{"a": [1]}]
            assert runs == {"a": 1}
            for within in (HOUR / SECOND + 1, float("inf")):
                with pytest.raises(UsageError, match="submit a task"):
                    await desk.context().call("read", "b", dict[str, list[int]], within=within)
            assert runs["b"] == 0


def _only(desk: Node, counter: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the coordinator list this one as the only counter, by its present admission."""

    async def looked_up(role: str, now: int) -> Listing:
        held = counter.membership.held()
        return Listing(((held.admission, held.admission_bytes),), now + SECOND, frozenset())

    monkeypatch.setattr(desk.calls.listings, "_looked_up", looked_up)


def _blueprint(home: Path) -> Path:
    blueprint = home / "blueprint"
    blueprint.mkdir()
    for each in BLUEPRINT.glob("*.*"):
        text = each.read_text("utf-8")
        if each.name == "blueprint.toml":
            text = text.replace("[limits]\n", f"[limits]\nadmission_seconds = {ADMISSION}\n")
        (blueprint / each.name).write_text(text, "utf-8")
    return blueprint
