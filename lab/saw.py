"""What the broker saw: everything that crossed the tap, and what lies in the broker's store, searched.

A zero is worth what its controls are: something planted in the clear is found in each place, the recording
holds as many messages as the broker itself counted, and every byte in it is accounted for.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio import to_thread

from lab.search import Found, Haystacks, files_below, search
from lab.tap import Unclassified, classify, payloads, records
from lab.view import MeshView
from schemas.errors import UsageError
from schemas.subjects import Kind, Party, subject
from sealing.own_keys import OwnKeys
from transport import connect

RECORDING, STORE = "recording", "store"
CONTROL = re.compile(b"control [0-9a-f]{32}")  # the form of what is planted
COUNT_PATIENCE = 10.0  # seconds for a moment in which nothing is under way


@dataclass(frozen=True, slots=True)
class Saw:
    """The outcome. `broker_messages` and the store are None where the broker is somebody else's."""

    messages: int
    size: int
    broker_messages: int | None
    found: Found
    unclassified: int
    own_keys: dict[str, OwnKeys]
    enclaves: int

    @property
    def complete(self) -> bool | None:
        """Tell whether the recording has every message that the broker counted."""
        return None if self.broker_messages is None else self.messages == self.broker_messages

    @property
    def controls(self) -> bool:
        """Tell whether what was planted was found wherever it was planted."""
        return self.found.controls == frozenset(self.found.size)

    @property
    def own_keys_found(self) -> int:
        """How often an enclave found a key of its own."""
        return sum(each.found for each in self.own_keys.values())

    @property
    def nothing(self) -> bool:
        """Tell whether the broker saw nothing, and whether that was shown."""
        answered = len(self.own_keys) == self.enclaves and all(
            each.control for each in self.own_keys.values()
        )
        return (
            self.found.total == self.unclassified == self.own_keys_found == 0
            and self.complete is not False
            and self.controls
            and answered
        )


async def look(mesh: MeshView, words: Iterable[str]) -> Saw:
    """Search what the broker of a mesh that runs had in its hands for words of the input."""
    path = mesh.recording
    if path is None:
        raise UsageError("this mesh runs without a tap: there is no recording")
    control = f"control {secrets.token_hex(16)}"
    await _plant(mesh, control)
    messages, size, counted = await _count(mesh)
    own_keys = await mesh.own_keys()
    places: dict[str, Haystacks] = {RECORDING: lambda: payloads(path)}
    store = mesh.store
    if store is not None:
        places[STORE] = lambda: files_below(store)
    found = await to_thread.run_sync(lambda: search(words, places, control=control))
    unclassified = await to_thread.run_sync(_unclassified, path, _planted(mesh, control))
    return Saw(messages, size, counted, found, unclassified, own_keys, mesh.enclaves)


async def _plant(mesh: MeshView, control: str) -> None:
    # Cleartext on purpose, where anyone may say hello, and in a stream so that the store has it too.
    client, agent = Party.CLIENT.value, Party.AGENT.value
    async with connect(mesh.url, name=client, credentials=mesh.credentials(client)) as transport:
        await transport.publish(subject(mesh.mesh.id, Kind.HELLO), control.encode())
        await transport.flush()
    async with connect(mesh.url, name=agent, credentials=mesh.credentials(agent)) as transport:
        nobody = subject(mesh.mesh.id, Kind.RESULT, secrets.token_bytes(16))
        await transport.append(nobody, control.encode(), message_id=secrets.token_hex(16))


async def _count(mesh: MeshView) -> tuple[int, int, int | None]:
    """Count messages at a moment at which tap and broker agree, or by the last look if there is none."""
    (messages, size), counted = await mesh.recorded(), await mesh.broker_messages()
    with anyio.move_on_after(COUNT_PATIENCE):
        while counted is not None and messages != counted:
            await anyio.sleep(0.01)  # something was under way between the two looks
            messages, size = await mesh.recorded()
            counted = await mesh.broker_messages()
    return messages, size, counted


def _planted(mesh: MeshView, control: str) -> re.Pattern[bytes]:
    # Who looked before us has planted as well, and all that we know of it is its form.
    return CONTROL if mesh.shared else re.compile(re.escape(control.encode()))


def _unclassified(path: Path, planted: re.Pattern[bytes]) -> int:
    count = 0
    for _, record in records(path):
        frame = record.frame()
        if planted.fullmatch(frame.body):
            continue
        try:
            classify(frame)
        except Unclassified:
            count += 1
    return count
