"""A mesh for consoles: real key files, a real broker, coordinators in this process on simulated Nitro cards.

Commands run as a user runs them, in a thread beside the coordinators.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from msgspec.structs import replace

from agent_runtime import Agent, Identity, Node
from console import cli
from console.documents import SignedPolicy, make_anchor, sign_policy
from console.operating.kept import KeptReceipt
from coordinator import Service
from coordinator.clock import coordinator_clock
from lab.simulate import nitro
from lab.simulate.nitro import NitroCard
from schemas import codec
from schemas.audit import as_plain, open_entry
from schemas.documents import LogReceipt, RevocationOrder
from schemas.evidence import NITRO, Endorsements, Evidence, PlatformValues
from schemas.messages import Event
from schemas.pinning import Pinned
from schemas.policy import Client, Limits, Policy, TaskClass, Workload, compiled, dump
from schemas.rules import Rule
from sealing import cose, keyfile
from sealing.context import SUITE_GCM, sha256
from sealing.context import Mesh as Mesh_
from sealing.documents import open_anchor, sign_message
from sealing.keys import PartyKeys, SigningKey
from transport import connect

PHRASE = "correct horse battery"
NAMES = ("alice", "bob", "carol")
CODES = {"coordinator": b"\xc0", "planner": b"\x01", "vault": b"\x02", "other": b"\x0f"}


def pcrs(code: str) -> dict[str, bytes]:
    """Return what some code measures as."""
    return dict.fromkeys(("pcr0", "pcr1", "pcr2"), CODES[code] * 48)


def pinned(code: str) -> Pinned:
    """Return Reference Values of some code."""
    return Pinned(measurements={name: value.hex() for name, value in pcrs(code).items()})


def signed_revocation(chip: bytes, kind: str = "chip", time: int = 1) -> Event:
    """Return a revocation that somebody signed."""
    mesh = Mesh_(b"m" * 32, SUITE_GCM)
    text = codec.encode(RevocationOrder(mesh.id, kind, chip.hex(), "why", time))
    return Event("revocation", (cose.sign(SigningKey(b"s" * 32), mesh, "revocation", text),), None, ())


def kept_receipt(event: Event, term: int, index: int, mesh: bytes = b"m" * 32) -> KeptReceipt:
    """Return an event with the receipt of some coordinator."""
    key = SigningKey(b"k" * 32)
    receipt = LogReceipt(sha256(codec.encode(event)), index, term, 1)
    signed = sign_message(key, Mesh_(mesh, SUITE_GCM), "receipt", receipt)
    return KeptReceipt(event, signed, key.public)


@dataclass
class Card:
    """The device of an enclave that runs some code."""

    card: NitroCard
    code: str

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        now = datetime.now(UTC)
        return await to_thread.run_sync(
            lambda: self.card.evidence(pcrs(self.code), key_binding, challenge, now=now)
        )


@dataclass
class Coordinator:
    """A coordinator that runs; `stop` ends it."""

    service: Service
    stop: anyio.CancelScope

    @property
    def instance(self) -> str:
        return self.service.core.keys.instance.hex()


@dataclass
class Mesh:
    """Operators' files in `home`, and the mesh that they make."""

    home: Path
    url: str
    capture: pytest.CaptureFixture[str]
    keys: dict[str, SigningKey] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.card = NitroCard.from_files(nitro.make_root(datetime.now(UTC)), serial=7)
        (self.home / "phrase").write_text(f"{PHRASE}\n")
        for name in NAMES:
            seed = os.urandom(32)
            self.keys[name] = SigningKey(seed)
            locked = keyfile.lock(name, seed, PHRASE, salt=os.urandom(16), nonce=os.urandom(24))
            (self.home / f"{name}.key").write_bytes(locked)
        people = [(name, key.public) for name, key in self.keys.items()]
        issued = int(datetime.now(UTC).timestamp() * 1000) - 1000
        self.anchor_bytes = make_anchor(people, 2, [self.card.root], issued, SUITE_GCM)
        (self.home / "anchor.cbor").write_bytes(self.anchor_bytes)
        self.anchor, self.mesh = open_anchor(self.anchor_bytes)
        self.client = SigningKey(os.urandom(32))
        self.policy = Policy(
            mesh=self.mesh.id.hex(),
            version=1,
            issued=issued,
            platforms={NITRO: PlatformValues(lab_roots=(self.card.root,))},
            coordinators={NITRO: pinned("coordinator")},
            workloads={
                "planner": Workload(roles=("planner",), on={NITRO: pinned("planner")}),
                "vault": Workload(roles=("vault",), on={NITRO: pinned("vault")}),
            },
            clients={"desk": Client(key=self.client.public.hex(), roles=("requester",))},
            classes={"survey": TaskClass(role="planner")},
            tools={"pseudonym": "vault"},
            # As long as an evicted agent takes to ask, and to be told.
            limits=Limits(grace_seconds=4),
            rules=(
                Rule(role="requester", may="submit", what="survey"),
                Rule(role="planner", may="call", what="pseudonym"),
            ),
        )
        self.write("policy.toml", self.policy)

    def successor(self, policy: Policy, **changes: Any) -> Policy:
        """Return the next version of a policy."""
        fields = {"version": policy.version + 1, "predecessor": sha256(compiled(policy)).hex()}
        return replace(policy, **{**fields, **changes})

    def write(self, name: str, policy: Policy, signers: int = 2) -> None:
        """Write a policy, and its signatures beside it."""
        (self.home / name).write_text(dump(policy))
        signed = sign_policy(self.anchor, [self.keys[each] for each in NAMES[:signers]], policy)
        (self.home / f"{name}.signed").write_bytes(codec.encode(signed))

    def signed(self, name: str) -> SignedPolicy:
        """Return the signatures of a policy's file."""
        return codec.decode((self.home / f"{name}.signed").read_bytes(), SignedPolicy)

    def entries(self, coordinator: Coordinator) -> list[dict[str, object]]:
        """Return a coordinator's audit log."""
        return [as_plain(open_entry(each)) for each in coordinator.service.core.authority.audit._entries]

    async def run(
        self,
        *words: str,
        keys: tuple[str, ...] = ("alice",),
        state: str = "state",
        url: str | None = None,
        wait: float = 30.0,
    ) -> tuple[int, str]:
        """Run one command to its end; return its exit code and all that it said."""
        options = ["--passphrase-file", str(self.home / "phrase"), "--state", str(self.home / state)]
        options += ["--nats", url or self.url, "--wait", str(wait)]
        options += ["--mesh", str(self.home / "anchor.cbor")]
        for key in keys:
            options += ["--key", str(self.home / f"{key}.key")]
        self.capture.readouterr()
        code = await to_thread.run_sync(cli.run, [*words, *options])
        said = self.capture.readouterr()
        return code, said.out + said.err

    async def data(self, *words: str, **options: Any) -> Any:
        """Run one command that has to be done, and return what it says as data."""
        code, said = await self.run(*words, "--json", **options)
        assert code == 0, said
        return json.JSONDecoder().raw_decode(said)[0]  # what standard error said comes after it

    def file(self, name: str) -> str:
        """Name a file of the operators'."""
        return str(self.home / name)

    @asynccontextmanager
    async def coordinator(
        self, *, url: str | None = None, code: str = "coordinator"
    ) -> AsyncIterator[Coordinator]:
        """Run a coordinator of this mesh, with keys of its own and some code."""
        async with connect(url or self.url, name="coordinator") as transport:
            clock = coordinator_clock(self.anchor.issued)
            attester = Card(self.card, code)
            service = Service(self.anchor, self.mesh, PartyKeys(), transport, attester, clock)
            async with anyio.create_task_group() as tasks:
                scope = anyio.CancelScope()
                await tasks.start(_serve, service, scope)
                yield Coordinator(service, scope)
                tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def again(self, stopped: Coordinator) -> AsyncIterator[Coordinator]:
        """Run on with the state of a coordinator that was stopped."""
        async with self.coordinator() as coordinator:
            coordinator.service.core = stopped.service.core
            yield coordinator

    @asynccontextmanager
    async def up(self, **options: Any) -> AsyncIterator[Coordinator]:
        """Run a coordinator whose term is open and whose policy is the first."""
        async with self.coordinator() as coordinator:
            await self.data(
                "mesh", "open", "--policy", self.file("policy.toml"), keys=("alice", "bob"), **options
            )
            yield coordinator

    @asynccontextmanager
    async def agent(
        self,
        role: str,
        agent: Agent | None = None,
        *,
        code: str = "",
        roles: tuple[str, ...] = (),
        url: str = "",
    ) -> AsyncIterator[Node]:
        """Run an agent of a role, live; the code that it runs has the role's name if none is given."""
        identity = Identity(self.anchor_bytes, roles or (role,), Card(self.card, code or role))
        async with self._node(identity, agent or Agent(role), url) as node:
            yield node

    @asynccontextmanager
    async def desk(self) -> AsyncIterator[Node]:
        """Take part as the client, live."""
        async with self._node(Identity(self.anchor_bytes, ("requester",), key=self.client), None) as node:
            yield node

    @asynccontextmanager
    async def _node(self, identity: Identity, agent: Agent | None, url: str = "") -> AsyncIterator[Node]:
        async with connect(url or self.url, name="party") as transport:
            node = Node(identity, transport, agent)
            async with node.running():
                with anyio.fail_after(60):
                    await node.wait_live()
                yield node


async def _serve(
    service: Service,
    scope: anyio.CancelScope,
    *,
    task_status: "anyio.abc.TaskStatus[None]" = anyio.TASK_STATUS_IGNORED,
) -> None:
    with scope:
        task_status.started()
        await service.run()
