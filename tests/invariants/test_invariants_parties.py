"""Invariants 3, 4, 6 and 8: what a party says to whom, what runs a handler, and what it never says."""

import ast
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

import agent_runtime
from agent_runtime import Node
from agent_runtime.membership import Membership
from agent_runtime.witness import Witness
from lab.mesh import RunningMesh
from lab.plan import COORDINATOR
from lab.tap import records
from schemas import codec
from schemas.errors import Reason
from schemas.messages import Hello, Offer, State
from schemas.subjects import Kind, subject
from sealing.context import sha256
from sealing.errors import SealingError
from sealing.keys import PartyKeys, SigningKey
from tests.coordinator.world import World
from tests.mesh.world import client_identity, joined
from transport import Delivery, MemoryBroker, Transport

pytestmark = pytest.mark.anyio


@dataclass
class Impostor:
    """Answers every hello with offers of its own making, and notes all that is said to it."""

    mesh: RunningMesh
    transport: Transport
    genuine: Offer
    said: list[str] = field(default_factory=list)
    keys: PartyKeys = field(default_factory=PartyKeys)

    async def listen(self) -> None:
        await self.transport.subscribe(">", self.note)
        await self.transport.subscribe(subject(self.mesh.mesh.id, Kind.HELLO), self.answer)

    async def note(self, delivery: Delivery) -> None:
        self.said.append(delivery.subject.split(".")[2])

    async def answer(self, delivery: Delivery) -> None:
        digest = sha256(delivery.payload)
        for offer in self.offers(digest):
            await self.transport.publish(
                subject(self.mesh.mesh.id, Kind.OFFER, digest[:16]), codec.encode(offer)
            )

    def offers(self, hello: bytes) -> Iterator[Offer]:
        """Make of a genuine offer what can be made of it without the coordinator's enclave."""
        yield self.genuine  # to somebody else's hello
        yield replace(self.genuine, hello=hello)  # its Evidence answers another challenge
        own = replace(
            self.genuine, hello=hello, signing_key=self.keys.signing.public, kem_key=self.keys.kem.public
        )
        yield own  # the operators' order names another instance
        yield replace(own, term=0, term_record=None)
        signed = self.genuine.profile
        yield replace(own, profile=signed[:1])
        yield replace(own, profile=tuple(document[:-1] + bytes((document[-1] ^ 1,)) for document in signed))


def genuine_offer(mesh: RunningMesh) -> Offer:
    """Return what the coordinator offered to somebody who said hello, once its term was open."""
    assert mesh.tap is not None
    for _, record in records(mesh.tap.path):
        if record.party == COORDINATOR and f".{Kind.OFFER.value}." in record.frame().subject:
            offer = codec.decode(record.frame().body, Offer)
            if offer.term_record is not None:
                return offer
    raise AssertionError("no offer was recorded")


async def test_invariant_03_whoever_did_not_prove_itself_hears_nothing_but_a_hello(mesh: RunningMesh) -> None:
    broker = MemoryBroker()
    expected = {
        Reason.CHALLENGE_UNKNOWN,
        Reason.KEY_BINDING_MISMATCH,
        Reason.TERM_NOT_ACCEPTED,
        Reason.SIGNATURES_TOO_FEW,
        Reason.SIGNATURE_INVALID,
    }
    async with (
        broker.connect(name="impostor") as theirs,
        broker.connect(name="agent") as ours,
    ):
        impostor = Impostor(mesh, theirs, genuine_offer(mesh))
        await impostor.listen()
        node = Node(client_identity(mesh), ours)
        async with node.running():
            with anyio.fail_after(90):
                while not expected <= {reason for _, reason in node.refusals.counts}:  # noqa: ASYNC110
                    await anyio.sleep(0.02)
            assert not node.membership.live()
    assert set(impostor.said) == {Kind.HELLO, Kind.OFFER}
    assert set(Hello.__struct_fields__) == {"suite", "mesh", "nonce"}


def users(function: str) -> set[str]:
    """Return which functions of the SDK call, or hand on, `function`."""
    found = set()
    for path in Path(agent_runtime.__file__).parent.glob("*.py"):
        for scope in ast.walk(ast.parse(path.read_text())):
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                named = (each for each in ast.walk(scope) if isinstance(each, ast.Name | ast.Attribute))
                if any(isinstance(each.ctx, ast.Load) and ast.unparse(each) == function for each in named):
                    found.add(f"{path.name}:{scope.name}")
    return found


def test_invariant_04_there_is_one_way_to_a_handler_and_it_leads_through_the_gate() -> None:
    # What runs a handler, who calls that, and who calls those: each after the gate's word.
    assert users("endpoint.handler") == {"handlers.py:run", "handlers.py:beginner"}
    assert users("handlers.run") == {"working.py:_result"}
    assert users("run_handler") == {"node.py:_serve_call"}
    assert users("beginner") == {"node.py:_take_message"}
    assert users("self._gate.task") == {"working.py:_take"}
    assert users("self._gate.call") == users("self._serve") == {"serving.py:_run"}
    assert users("self._gate.message") == {"serving.py:_heed"}
    assert users("self._take") == {"serving.py:_heed", "working.py:assigned"}


def test_invariant_06_a_witness_never_goes_back() -> None:
    council = World().council
    witness = Witness(council)
    key = SigningKey().public
    state = State(2, 5, b"p" * 32, 9, bytes(32), 0, bytes(32), 0, council.digest)
    witness.enter_term(2, key)
    witness.enter_state(state)
    witness.check_state(state)
    for older in (
        replace(state, term=1),
        replace(state, policy_version=4),
        replace(state, log_size=8),
    ):
        with pytest.raises(SealingError) as refusal:
            witness.check_state(older)
        assert refusal.value.reason is Reason.STATE_ROLLED_BACK
    # One text for each version, and one key for each term.
    with pytest.raises(SealingError):
        witness.check_state(replace(state, policy_hash=b"q" * 32))
    with pytest.raises(SealingError):
        witness.check_term(2, SigningKey().public)
    with pytest.raises(SealingError):
        witness.check_term(1, key)


def seed_of(key: SigningKey) -> bytes:
    assert key._key is not None
    return key._key.encode()


def epoch_secrets(member: Membership) -> set[bytes]:
    """Return the epoch secrets that a party holds in this process."""
    packages = [opener._package for opener in member.keyring._openers.values()]
    return {package.secret for package in packages if package is not None}


def kept(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file that a lab keeps but its images; a stream's may be gone before they are read."""
    for path in root.rglob("*"):
        if path.is_file() and "layers" not in path.parts:
            with contextlib.suppress(FileNotFoundError):
                yield path.name, path.read_bytes()


async def test_invariant_08_no_secret_is_in_a_log_a_repr_or_a_file(
    mesh: RunningMesh, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    payload = b"a payload that nobody may find"
    async with joined(mesh, client_identity(mesh)) as node:
        task = await node.context().submit("echo", payload.decode())
        with anyio.fail_after(90):
            await task.result(str)
        member = node.membership
        seed, secrets = seed_of(member.keys.signing), epoch_secrets(member)
        shown = repr([node, member, member.keyring, member.trust, vars(node), vars(member)])
        shown += "".join(repr(vars(each)) for each in member.keyring._openers.values()) + caplog.text
        files = list(kept(mesh.state.root))
    assert secrets
    for secret in (seed, payload, *secrets):
        for text in (secret.hex(), repr(secret)[2:-1], secret.decode("latin-1")):
            assert text not in shown
        # The client's own key, which the lab keeps for it, lies where it should and nowhere else.
        assert {name for name, data in files if secret in data} == ({"desk.key"} if secret == seed else set())
