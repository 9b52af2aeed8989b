"""A mesh on AES-256-GCM-SIV: all works as on the other suite, and nothing on its wire is of another."""

from pathlib import Path

import anyio
import pytest

from lab.tap import classify, records
from schemas import codec
from schemas.messages import Hello
from schemas.subjects import Kind, Party, subject
from sealing.context import SUITE_GCM, SUITE_GCM_SIV
from tests.mesh.world import client_identity, eventually, joined, log_of, make_lab, share_layers, up
from transport import connect

pytestmark = pytest.mark.anyio

DONE_WITHIN = 120.0


async def test_a_lab_on_the_second_suite_works_and_hears_no_other(lab_template: Path, tmp_path: Path) -> None:
    lab = make_lab(tmp_path, suite=SUITE_GCM_SIV)
    share_layers(lab_template, lab)
    async with up(lab) as mesh:
        assert mesh.mesh.suite == SUITE_GCM_SIV
        async with joined(mesh, client_identity(mesh)) as desk:
            with anyio.fail_after(DONE_WITHIN):
                # Role frames, results, sessions, and an enclave that submits.
                task = await desk.context().submit("fan", ["one", "two"])
                assert await task.result(list[str]) == ["one", "two"]
                counted = await desk.context().submit("tally", "counted")
                assert await counted.result(str) == "counted"
                assert await desk.context().call("read", "counted", dict) == {"counted": [1, 0]}
        hello = codec.encode(Hello(SUITE_GCM, mesh.mesh.id, bytes(32)))
        credentials = mesh.credentials(Party.CLIENT)
        async with connect(mesh.url, name=Party.CLIENT.value, credentials=credentials) as transport:
            await transport.publish(subject(mesh.mesh.id, Kind.HELLO), hello)
            await eventually(lambda: "unsupported-suite" in log_of(mesh, "coordinator"))
        assert mesh.tap is not None
        seen = [classify(record.frame()) for _, record in records(mesh.tap.path)]
        said = {sight.kind: set[str]() for sight in seen if "suite" in sight.clear}
        for sight in seen:
            if sight.kind in said:
                said[sight.kind].add(sight.clear["suite"])
        assert said.pop(Kind.HELLO.value) == {"1", "2"}
        assert {"session", "task", "result", "beacon", "inbox"} <= set(said)
        assert set().union(*said.values()) == {"2"}
