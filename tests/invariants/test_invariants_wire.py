"""Invariants 1, 9 and 11, on the real wire of a mesh at work, recorded by the tap."""

import random
from collections.abc import Iterator

import anyio
import pytest

from agent_runtime import Node
from console.leakage import table
from lab.mesh import RunningMesh
from lab.tap import CONNECTION, JETSTREAM, Frame, Record, Tap, Unclassified, classify, payloads, records
from schemas import codec
from schemas.messages import Hello, Offer
from schemas.scheduling import Load, TaskHints, TaskMessage
from schemas.subjects import TABLE, Kind, Party, Row, subject
from tests.mesh.world import client_identity, eventually, is_alive, joined, log_of
from transport import connect

pytestmark = pytest.mark.anyio

CANARY = "a-word-that-nobody-else-says"
ROWS = {row.kind.value: row for row in TABLE}


def tap_of(mesh: RunningMesh) -> Tap:
    assert mesh.tap is not None
    return mesh.tap


def messages(mesh: RunningMesh) -> Iterator[tuple[Record, Frame]]:
    """Yield every message that was recorded so far."""
    for _, record in records(tap_of(mesh).path):
        frame = record.frame()
        if frame.is_message:
            yield record, frame


async def work(node: Node, text: str) -> None:
    """Submit, have an agent submit, and call: every way in which payloads travel."""
    context = node.context()
    with anyio.fail_after(90):
        assert await (await context.submit("echo", text)).result(str) == text
        assert await (await context.submit("fan", [text])).result(list[str]) == [text]
        await (await context.submit("tally", text)).result(str)
        assert await context.call("read", text, dict) == {text: [1, 0]}


async def test_invariant_01_every_byte_on_the_wire_is_ciphertext_or_listed(mesh: RunningMesh) -> None:
    async with joined(mesh, client_identity(mesh)) as node:
        await work(node, CANARY)
    # The restart of an agent puts its whole admission on the wire as well.
    await mesh.rack.kill("relay")
    admitted = log_of(mesh, "relay").count("admitted as")
    await eventually(lambda: log_of(mesh, "relay").count("admitted as") > admitted)
    seen = {classify(record.frame()).kind for _, record in records(tap_of(mesh).path)}
    assert seen == {row.kind.value for row in TABLE} | {CONNECTION, JETSTREAM}
    assert not any(CANARY.encode() in payload for payload in payloads(tap_of(mesh).path))


async def test_invariant_01_the_recording_is_complete(mesh: RunningMesh) -> None:
    async with joined(mesh, client_identity(mesh)) as node:
        await work(node, "to be counted")
    counted, recorded = 0, -1
    with anyio.fail_after(90):
        while counted != recorded:
            recorded = tap_of(mesh).recorder.messages
            counted = await mesh.broker_messages() or 0
    assert counted > 100


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.kind.value)
def test_invariant_01_cleartext_on_any_subject_is_noticed(row: Row) -> None:
    name = subject(bytes(32), row.kind, bytes(16))
    for text in (CANARY.encode(), codec.encode({"text": CANARY}), b"\x01\x01" + CANARY.encode() * 20):
        with pytest.raises(Unclassified):
            classify(Frame("PUB", subject=name, body=text))


async def test_invariant_11_what_the_wire_shows_is_what_is_written_down(mesh: RunningMesh) -> None:
    async with joined(mesh, client_identity(mesh)) as node:
        await work(node, "to be looked at")
    shown: dict[str, set[str]] = {}
    for _, frame in messages(mesh):
        sight = classify(frame)
        shown.setdefault(sight.kind, set()).update(sight.clear)
    for row in TABLE:
        # Nobody here asks for affinity; message ids stand beside the table.
        listed = set(row.clear) - {"affinity"}
        assert shown.get(row.kind.value, set()) - {"message id"} == listed, row.kind


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
            "operators": "changes of operators",
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


# Behind the others: what it says stays in the recording of the module's mesh.
async def test_invariant_09_junk_on_every_subject_is_counted_and_stops_nobody(mesh: RunningMesh) -> None:
    pids = mesh.pids()
    async with joined(mesh, client_identity(mesh)) as node:
        await work(node, "before the junk")
        genuine: dict[str, list[bytes]] = {}
        for _, frame in messages(mesh):
            genuine.setdefault(frame.subject, []).append(frame.body)
        for party in Party:
            await junk(mesh, party, genuine)
        await work(node, "after the junk")
        assert node.membership.live()
    assert mesh.pids() == pids
    assert all(is_alive(pid) for pid in pids.values())
    await eventually(lambda: "refused at beacon" in log_of(mesh, "worker-1"))
    await eventually(lambda: "refused in the last second" in log_of(mesh, "coordinator"))


async def junk(mesh: RunningMesh, party: Party, genuine: dict[str, list[bytes]]) -> None:
    """Say junk, and true messages cut, changed or said again, on every subject that a party uses."""
    chance = random.Random(9)
    # What is in streams has the scheduler's and the submitters' own tests.
    rows = {row.kind.value for row in TABLE if party in row.publishers and not row.stream}
    names = {name for name in genuine if name.startswith("sb.") and name.split(".")[2] in rows}
    names |= {subject(mesh.mesh.id, Kind(kind)) for kind in rows}
    async with connect(mesh.url, name="junk", credentials=mesh.credentials(party)) as transport:
        for name in sorted(names):
            for payload in (b"", b"\x00", chance.randbytes(300), b"\x9f" * 1000, *genuine.get(name, [])[-3:]):
                await transport.publish(name, payload)
                if payload:
                    await transport.publish(name, payload[: len(payload) // 2])
                    place = chance.randrange(len(payload))
                    changed = payload[:place] + bytes((payload[place] ^ 1,)) + payload[place + 1 :]
                    await transport.publish(name, changed)
        await transport.flush()
