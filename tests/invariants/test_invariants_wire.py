"""Invariants 1, 9 and 11, on the real wire of a mesh at work."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest

from agent_runtime import Node
from console.leakage import table
from lab.mesh import OBSERVER, RunningMesh
from schemas import codec
from schemas.documents import Beacon
from schemas.messages import Hello, Offer
from schemas.scheduling import Load, TaskHints, TaskMessage
from schemas.subjects import TABLE, Kind, Party, Row, subject
from tests.invariants.wire import ROWS, Seen, UnclassifiedError, classify
from tests.mesh.world import client_identity, eventually, is_alive, joined, log_of
from transport import Delivery, connect

pytestmark = pytest.mark.anyio

CANARY = "a-word-that-nobody-else-says"


@dataclass
class Recorded:
    """What an observer of the whole broker got."""

    messages: list[tuple[str, bytes]] = field(default_factory=list)

    async def take(self, delivery: Delivery) -> None:
        self.messages.append((delivery.subject, delivery.payload))


@asynccontextmanager
async def recording(mesh: RunningMesh) -> AsyncIterator[Recorded]:
    recorded = Recorded()
    async with connect(mesh.url, name="observer", credentials=mesh.credentials(OBSERVER)) as transport:
        await transport.subscribe(">", recorded.take)
        await transport.flush()
        yield recorded


async def work(node: Node, text: str) -> None:
    """Submit, have an agent submit, and call: every way in which payloads travel."""
    context = node.context()
    with anyio.fail_after(30):
        assert await (await context.submit("echo", text)).result(str) == text
        assert await (await context.submit("fan", [text])).result(list[str]) == [text]
        await (await context.submit("tally", text)).result(str)
        assert await context.call("read", text, dict) == {text: [1, 0]}


async def test_invariant_01_every_byte_on_the_wire_is_ciphertext_or_listed(mesh: RunningMesh) -> None:
    async with recording(mesh) as recorded:
        async with joined(mesh, client_identity(mesh)) as node:
            await work(node, CANARY)
        # The restart of an agent puts its whole admission on the wire as well.
        await mesh.rack.kill("relay")
        admitted = log_of(mesh, "relay").count("admitted as")
        with anyio.fail_after(30):
            while log_of(mesh, "relay").count("admitted as") == admitted:  # noqa: ASYNC110 - a file
                await anyio.sleep(0.05)
    seen = Seen()
    for name, payload in recorded.messages:
        seen.take(name, payload)
        assert CANARY.encode() not in payload
    assert seen.kinds == {row.kind for row in TABLE}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.kind.value)
def test_invariant_01_cleartext_on_any_subject_is_noticed(row: Row) -> None:
    name = subject(bytes(32), row.kind, bytes(16))
    for text in (CANARY.encode(), codec.encode({"text": CANARY}), b"\x01\x01" + CANARY.encode() * 20):
        with pytest.raises(UnclassifiedError):
            classify(name, text)


async def test_invariant_09_junk_on_every_subject_is_counted_and_stops_nobody(mesh: RunningMesh) -> None:
    pids = mesh.pids()
    async with joined(mesh, client_identity(mesh)) as node, recording(mesh) as recorded:
        await work(node, "before the junk")
        for _, publishers in sorted((row.kind, row.publishers) for row in TABLE):
            for party in publishers:
                await junk(mesh, party, recorded)
        await work(node, "after the junk")
        assert node.membership.live()
    assert mesh.pids() == pids
    assert all(is_alive(pid) for pid in pids.values())
    await eventually(lambda: "refused at beacon" in log_of(mesh, "worker-1"))
    await eventually(lambda: "refused in the last second" in log_of(mesh, "coordinator"))


async def junk(mesh: RunningMesh, party: Party, recorded: Recorded) -> None:
    """Say junk, and true messages cut, changed or said again, on every subject that a party uses."""
    chance = random.Random(9)
    names = {name for name, _ in recorded.messages if name.startswith("sb.")}
    mine = {name for name in names if party in ROWS[name.split(".")[2]].publishers}
    mine |= {subject(mesh.mesh.id, row.kind) for row in TABLE if party in row.publishers}
    async with connect(mesh.url, name="junk", credentials=mesh.credentials(party)) as transport:
        for name in sorted(mine):
            if name.split(".")[2] in (Kind.TASK, Kind.RESULT):
                continue  # they are in streams: their junk is the scheduler's tests' business
            genuine = [payload for seen, payload in recorded.messages if seen == name][-3:]
            for payload in (b"", b"\x00", chance.randbytes(300), b"\x9f" * 1000, *genuine):
                await transport.publish(name, payload)
                if payload:
                    await transport.publish(name, payload[: len(payload) // 2])
                    place = chance.randrange(len(payload))
                    changed = payload[:place] + bytes((payload[place] ^ 1,)) + payload[place + 1 :]
                    await transport.publish(name, changed)
        await transport.flush()


def test_invariant_11_what_is_said_in_the_clear_is_what_is_written_down() -> None:
    # The only open messages are these, and each of their fields has its word in the row of its subject.
    words = {
        Hello: {"suite": "suite", "mesh": "mesh", "nonce": "challenge"},
        Offer: {
            "hello": "hash of the hello",
            "index": "Merkle path",
            "path": "Merkle path",
            "count": "Merkle path",
            "evidence": "coordinator's Evidence, endorsements and public keys",
            "endorsements": "coordinator's Evidence, endorsements and public keys",
            "signing_key": "coordinator's Evidence, endorsements and public keys",
            "kem_key": "coordinator's Evidence, endorsements and public keys",
            "profile": "signed profile",
            "term": "term and its record",
            "term_record": "term and its record",
        },
        Load: {
            "assign_token": "assign token",
            "class_tokens": "class tokens",
            "credits": "credits",
            "level": "load level",
            "statuses": "task ids and their progress",
            "draining": "draining",
        },
        TaskHints: {
            "class_token": "class token",
            "priority": "priority",
            "deadline": "deadline",
            "size_class": "size class",
            "affinity": "affinity",
        },
    }
    rows = {Hello: Kind.HELLO, Offer: Kind.OFFER, Load: Kind.LOAD, TaskHints: Kind.TASK}
    for message, fields in words.items():
        assert set(message.__struct_fields__) == set(fields)
        assert set(fields.values()) <= set(ROWS[rows[message].value].clear)
        assert all(word in table() for word in fields.values())
    assert set(TaskMessage.__struct_fields__) == {"hints", "frame"}
    assert "affinity" not in Beacon.__struct_fields__
