"""The shell: a whole coordinator on a transport, with simulated chips and the real appraisal."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

import coordinator.__main__ as entry
from attestation import Attester, AttesterError, appraise
from coordinator import AppraisalRequest, Service
from coordinator.clock import coordinator_clock, wall
from lab.broker import Broker
from lab.simulate import nitro, tdx
from schemas import codec
from schemas.errors import Reason
from schemas.evidence import (
    MEASURED,
    NITRO,
    TDX,
    AttestationResult,
    Endorsements,
    Evidence,
    PlatformValues,
)
from schemas.messages import (
    ENCLAVE,
    Admitted,
    Body,
    EvidenceAnswer,
    Hello,
    Offer,
    Refused,
    State,
)
from schemas.pinning import Pinned
from schemas.policy import Policy, Workload
from schemas.subjects import Kind, subject
from sealing import binding, merkle
from sealing.context import sha256
from sealing.keys import instance
from sealing.session import Peer, PendingSession, Session
from tests.coordinator.world import START, Party, Refusal, World
from transport import Delivery, FullError, MemoryBroker, NotPermittedError, Transport
from transport import State as BrokerState

pytestmark = pytest.mark.anyio

COORDINATOR, PLANNER = b"coordinator", b"planner"


def measurements(platform: str, image: bytes) -> dict[str, bytes]:
    """Return what an image measures as."""
    size = 48 if platform in (TDX, NITRO) else 32
    return {name: sha256(image, name.encode()).ljust(size, b"\0") for name in MEASURED[platform]}


def pinned(platform: str, image: bytes) -> Pinned:
    return Pinned(measurements={name: value.hex() for name, value in measurements(platform, image).items()})


@dataclass(frozen=True)
class Chips:
    """A simulated chip of each platform."""

    nitro: nitro.NitroCard
    tdx: tdx.TdxPlatform

    @property
    def roots(self) -> tuple[str, ...]:
        """Return what the anchor names."""
        return self.nitro.root, self.tdx.root

    def policy(self, world: World) -> Policy:
        """Return the world's policy for these chips: a planner on either, a coordinator on Nitro."""
        on = {platform: pinned(platform, PLANNER) for platform in (NITRO, TDX)}
        workloads = {role: Workload(roles=(role,), on=on) for role in ("planner",)}
        return world.policy(
            platforms={
                NITRO: PlatformValues(lab_roots=(self.nitro.root,)),
                TDX: PlatformValues(lab_roots=(self.tdx.root,)),
            },
            coordinators={NITRO: pinned(NITRO, COORDINATOR)},
            workloads=workloads,
            classes={},
            tools={},
            rules=(),
        )


@pytest.fixture(scope="module")
def chips() -> Chips:
    made = datetime.fromtimestamp(min(wall(), START) / 1000, UTC)
    return Chips(
        nitro.NitroCard.from_files(nitro.make_root(made), serial=1),
        tdx.TdxPlatform.from_files(tdx.make_root(made), serial=2),
    )


def really_appraise(request: AppraisalRequest) -> AttestationResult:
    return appraise(
        request.evidence,
        request.endorsements,
        request.reference_values,
        key_binding=request.key_binding,
        challenge=request.challenge,
        now=datetime.fromtimestamp(request.now / 1000, UTC),
    )


@pytest.mark.parametrize("platform", [NITRO, TDX])
async def test_true_evidence_is_admitted_and_a_changed_image_is_not(chips: Chips, platform: str) -> None:
    world = World(appraise=really_appraise, roots=chips.roots)
    world.up(chips.policy(world))
    chip = chips.nitro if platform == NITRO else chips.tdx

    def proven(image: bytes) -> Party:
        party = Party.enclave(world, "planner")
        party.say_init()
        party.take_accept()
        shown, endorsements = chip.evidence(
            measurements(platform, image),
            party.binding(),
            party.state.challenge,
            now=datetime.fromtimestamp(world.now / 1000, UTC),
        )
        world.frame(party.session, "evidence", EvidenceAnswer(shown, endorsements, ()), b"e" * 16)
        party.admitted = codec.convert(party.answer("admitted"), Admitted)
        return party

    assert proven(PLANNER).admitted
    with pytest.raises(Refusal, match="measurement-not-in-policy"):
        proven(b"one byte more")


# The service on a transport.


@dataclass
class Card:
    """The coordinator's device: a simulated Nitro card, in order or broken."""

    chips: Chips
    broken: bool = False
    asked: list[bytes] = field(default_factory=list)

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        self.asked.append(challenge)
        if self.broken:
            raise AttesterError(Reason.UNAVAILABLE, "the device is gone")
        return self.chips.nitro.evidence(
            measurements(NITRO, COORDINATOR), key_binding, challenge, now=datetime.now(UTC)
        )


@asynccontextmanager
async def serving(world: World, attester: Attester, broker: MemoryBroker) -> AsyncIterator[Service]:
    """Run a coordinator of the world's mesh on a broker."""
    async with broker.connect(name="coordinator") as transport, anyio.create_task_group() as tasks:
        clock = coordinator_clock(world.anchor.issued)
        service = Service(world.council, world.mesh, world.keys, transport, attester, clock)
        tasks.start_soon(service.run)
        await anyio.wait_all_tasks_blocked()
        yield service
        tasks.cancel_scope.cancel()


class Remote:
    """A scripted party on a transport: the flights of `Party`, over a broker."""

    def __init__(self, party: Party, transport: Transport) -> None:
        self.party, self.transport = party, transport
        self.session: Session
        self.state: State
        self._frames: asyncio.Queue[bytes]

    async def listen(self, to: str) -> "asyncio.Queue[bytes]":
        queue: asyncio.Queue[bytes] = asyncio.Queue()

        async def enqueue(delivery: Delivery) -> None:
            queue.put_nowait(delivery.payload)

        await self.transport.subscribe(to, enqueue)
        return queue

    async def offer(self) -> bytes:
        world = self.party.world
        hello = codec.encode(Hello(world.mesh.suite, world.mesh.id, os.urandom(32)))
        offers = await self.listen(subject(world.mesh.id, Kind.OFFER, sha256(hello)[:16]))
        await self.transport.publish(subject(world.mesh.id, Kind.HELLO), hello)
        wire = await offers.get()
        offer = codec.decode(wire, Offer)
        root = merkle.root_of_path(merkle.leaf(world.mesh, hello), offer.index, offer.count, offer.path)
        assert instance(offer.signing_key, offer.kem_key) == world.keys.instance
        if world.appraise is really_appraise:
            bound = binding.key_binding(
                world.mesh, binding.COORDINATOR, root, bytes(32), offer.signing_key, offer.kem_key
            )
            appraise(
                offer.evidence,
                offer.endorsements,
                self.values,
                key_binding=bound,
                challenge=root,
                now=datetime.now(UTC),
            )
        return wire

    async def open(self, chips: Chips) -> "Remote":
        """Go from hello to a confirmed session."""
        world, party = self.party.world, self.party
        self.values = chips.policy(world).coordinator_values()
        context = sha256(await self.offer())
        pending = PendingSession(
            world.mesh,
            party.keys,
            responder=Peer(world.keys.instance, world.keys.signing.public),
            responder_kem=world.keys.kem.public,
            credential=codec.encode(party.credential()),
            context=context,
            secret=os.urandom(32),
            session_id=os.urandom(8),
        )
        accepts = await self.listen(pending.accept_subject)
        await self.transport.publish(subject(world.mesh.id, Kind.BOOT), pending.wire)
        states: list[State] = []
        self.session = pending.accept(
            await accepts.get(), lambda accept: states.append(codec.decode(accept.state or b"", State))
        )
        self.state = states[0]
        self._frames = await self.listen(self.session.receive_subject)
        return self

    async def ask(self, purpose: str, fields: Any) -> Any:
        """Ask and return the answer's fields, or raise its refusal; pushes are passed over."""
        request = os.urandom(16)
        wire = self.session.seal(codec.encode(Body(purpose, request, fields)))
        await self.transport.publish(self.session.send_subject, wire)
        while True:
            body = codec.decode(self.session.open(await self._frames.get()), Body)
            if body.request == request:
                if body.purpose == "refused":
                    raise Refusal(codec.convert(body.fields, Refused))
                return body.fields

    async def join(self, chips: Chips, image: bytes = PLANNER) -> Admitted:
        """Go from hello to admitted."""
        await self.open(chips)
        answer = EvidenceAnswer(None, {}, ())
        if self.party.kind == ENCLAVE:
            bound = binding.key_binding(
                self.party.world.mesh,
                binding.AGENT,
                self.state.challenge,
                self.session.transcript,
                self.party.keys.signing.public,
                self.party.keys.kem.public,
            )
            shown = chips.nitro.evidence(
                measurements(NITRO, image), bound, self.state.challenge, now=datetime.now(UTC)
            )
            answer = EvidenceAnswer(*shown, ())
        return codec.convert(await self.ask("evidence", answer), Admitted)


async def test_mesh_comes_up_over_a_transport(chips: Chips, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    broker = MemoryBroker()
    world = World(appraise=really_appraise, now=wall(), roots=chips.roots)
    with anyio.fail_after(90):
        async with serving(world, Card(chips), broker), broker.connect(name="all") as transport:
            operator = Remote(Party(world, "operator", ("operator",), signing=world.operators[0]), transport)
            await operator.join(chips)
            await operator.ask("event", world.order())
            await operator.ask("event", world.policy_event(chips.policy(world)))
            beacons = await operator.listen(subject(world.mesh.id, Kind.BEACON))
            admitted = await Remote(Party.enclave(world, "planner"), transport).join(chips)
            assert {each.group for each in admitted.holdings.members} == {"mesh", "planner"}
            with pytest.raises(Refusal, match="measurement-not-in-policy"):
                await Remote(Party.enclave(world, "planner"), transport).join(chips, b"changed")
            assert await beacons.get()
    decisions = [record.message for record in caplog.records if record.name == "sealbus.audit"]
    told = [json.loads(each)["decision"] for each in decisions]
    assert [each for each in told if each not in ("turned", "grants")] == [
        *("admitted", "term", "policy", "admitted", "refused"),
    ]


async def test_one_quote_answers_the_hellos_of_a_tick(chips: Chips) -> None:
    broker, card = MemoryBroker(), Card(chips)
    world = World(appraise=really_appraise, now=wall(), roots=chips.roots)
    with anyio.fail_after(90):
        async with serving(world, card, broker), broker.connect(name="all") as transport:
            remotes = [Remote(Party.enclave(world, "planner"), transport) for _ in range(20)]
            async with anyio.create_task_group() as tasks:
                for remote in remotes:
                    remote.values = chips.policy(world).coordinator_values()
                    tasks.start_soon(remote.offer)
    assert len(card.asked) < 20


async def test_junk_is_counted_and_stops_nobody(chips: Chips, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    broker = MemoryBroker()
    world = World(appraise=really_appraise, now=wall(), roots=chips.roots)
    with anyio.fail_after(90):
        async with serving(world, Card(chips), broker) as service, broker.connect(name="all") as transport:
            operator = Remote(Party(world, "operator", ("operator",), signing=world.operators[0]), transport)
            await operator.open(chips)
            canary = b"canary" * 20
            for kind in (Kind.HELLO, Kind.BOOT):
                await transport.publish(subject(world.mesh.id, kind), canary)
                await transport.publish(subject(world.mesh.id, kind), bytes(100_000))
            await transport.publish(operator.session.send_subject, canary)
            await operator.ask("evidence", EvidenceAnswer(None, {}, ()))
            refusals = service.core.refusals
            while not refusals[Reason.NOT_AUTHENTIC]:
                await anyio.wait_all_tasks_blocked()
            service._sweep()
    assert refusals[Reason.TOO_LARGE] == 2
    assert refusals[Reason.SESSION_UNKNOWN] == 1
    assert refusals[Reason.NOT_AUTHENTIC] == 1
    assert refusals[Reason.MALFORMED] == 1
    assert "malformed 1" in caplog.text
    assert "canary" not in caplog.text


async def test_inits_that_wait_are_bounded(chips: Chips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.service.BOOTS_WAITING", 3)
    broker = MemoryBroker()
    world = World(appraise=really_appraise, now=wall(), roots=chips.roots)
    with anyio.fail_after(90):
        async with serving(world, Card(chips), broker) as service, broker.connect(name="all") as transport:
            for _ in range(5):
                await transport.publish(subject(world.mesh.id, Kind.BOOT), b"junk")
            while service.core.refusals.total() < 5:
                await anyio.wait_all_tasks_blocked()
    assert service.core.refusals == {Reason.UNAVAILABLE: 2, Reason.NOT_AUTHENTIC: 3}


async def test_broken_device_is_counted_and_stops_nobody(chips: Chips) -> None:
    broker, card = MemoryBroker(), Card(chips, broken=True)
    world = World(appraise=really_appraise, now=wall(), roots=chips.roots)
    with anyio.fail_after(90):
        async with serving(world, card, broker) as service, broker.connect(name="all") as transport:
            remote = Remote(Party.enclave(world, "planner"), transport)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(remote.offer)
                while not service.core.refusals[Reason.UNAVAILABLE]:
                    await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            card.broken = False
            await remote.open(chips)


class Outage:
    """A transport whose broker goes away, with no room to keep anything for its return."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.state = BrokerState.CONNECTED
        self.refused: list[str] = []
        self._back = anyio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, to: str, payload: bytes, hint: str = "") -> None:
        if self.state is not BrokerState.CONNECTED:
            self.refused.append(to)
            raise FullError("no room")
        await self._transport.publish(to, payload, hint)

    async def wait_connected(self) -> None:
        if self.state is not BrokerState.CONNECTED:
            await self._back.wait()

    def end(self) -> None:
        self.state = BrokerState.CONNECTED
        self._back.set()


async def test_what_is_said_while_the_broker_is_away_is_said_when_it_is_back_but_for_beacons(
    chips: Chips,
) -> None:
    broker = MemoryBroker()
    world = World(appraise=really_appraise, now=wall(), roots=chips.roots)
    beacon = subject(world.mesh.id, Kind.BEACON)
    with anyio.fail_after(120):
        async with serving(world, Card(chips), broker) as service, broker.connect(name="all") as transport:
            operator = Remote(Party(world, "operator", ("operator",), signing=world.operators[0]), transport)
            await operator.join(chips)
            await operator.ask("event", world.order())
            heard = await operator.listen(beacon)
            outage = service._transport = Outage(service._transport)
            outage.state = BrokerState.DISCONNECTED
            asking = asyncio.create_task(operator.ask("event", world.policy_event(chips.policy(world))))
            while not outage.refused:
                await anyio.wait_all_tasks_blocked()
            said = heard.qsize()
            for _ in range(50):
                service._beat()
            assert beacon not in outage.refused
            assert not asking.done()
            outage.end()
            assert await asking
            service._beat()
            while heard.qsize() == said:
                await anyio.wait_all_tasks_blocked()
    assert heard.qsize() - said < 50


async def test_a_broker_that_refuses_a_sessions_subject_ends_that_session_alone(
    chips: Chips, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    world = World(appraise=really_appraise, now=wall(), roots=chips.roots)
    with anyio.fail_after(120):
        async with serving(world, Card(chips), broker) as service, broker.connect(name="all") as transport:
            subscribe, refused = service._transport.subscribe, list[str]()

            async def lie(to: str, handler: Any) -> Any:
                if not refused:
                    refused.append(to)
                    raise NotPermittedError("says the broker")
                return await subscribe(to, handler)

            monkeypatch.setattr(service._transport, "subscribe", lie)
            operator = Party(world, "operator", ("operator",), signing=world.operators[0])
            with anyio.move_on_after(0.5):
                await Remote(operator, transport).join(chips)
            assert refused
            again = Party(world, "operator", ("operator",), signing=world.operators[0])
            await Remote(again, transport).join(chips)


async def serve_until_broken(world: World, chips: Chips, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise LookupError("a bug")

    async with serving(world, Card(chips), MemoryBroker()) as service:
        monkeypatch.setattr(service.core, "beacon", broken)
        await anyio.sleep_forever()


async def test_bug_in_the_service_ends_it(chips: Chips, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = pytest.RaisesGroup(LookupError, allow_unwrapped=True, flatten_subgroups=True)
    world = World(appraise=really_appraise, now=wall(), roots=chips.roots)
    with anyio.fail_after(90), bug:
        await serve_until_broken(world, chips, monkeypatch)


def test_clock_starts_at_the_later_of_host_and_floor() -> None:
    ahead = wall() + 1_000_000
    assert coordinator_clock(ahead)() >= ahead
    assert abs(coordinator_clock(0)() - wall()) < 1_000


# The process.


@contextmanager
def device(settings: dict[str, str]) -> Iterator[int]:
    """Return a descriptor whose other end answers one request with the host's settings."""
    ours, theirs = socket.socketpair()
    reply = codec.encode(["host", settings])
    ours.sendall(len(reply).to_bytes(4, "big") + reply)
    with ours:
        yield theirs.detach()


def anchor_file(folder: Path, world: World) -> Path:
    path = folder / "anchor.cbor"
    path.write_bytes(codec.encode(world.anchor))
    return path


def run_main(anchor: Path, settings: dict[str, str]) -> int:
    with device(settings) as descriptor:
        return entry.main(["--anchor", str(anchor), "--attester-fd", str(descriptor)])


def test_unreadable_anchor_is_a_usage_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert entry.main(["--anchor", str(tmp_path / "none"), "--attester-fd", "0"]) == 2
    assert "cannot read the anchor" in caplog.text


def test_wrong_anchor_is_a_usage_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "junk").write_bytes(b"junk")
    assert entry.main(["--anchor", str(tmp_path / "junk"), "--attester-fd", "0"]) == 2
    assert "is not an anchor" in caplog.text


def test_missing_device_is_a_usage_error(tmp_path: Path) -> None:
    assert entry.main(["--anchor", str(anchor_file(tmp_path, World())), "--attester-fd", "999"]) == 2


def test_missing_broker_url_is_a_usage_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run_main(anchor_file(tmp_path, World()), {}) == 2
    assert "nats_url" in caplog.text


def test_broker_that_is_not_there_is_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(entry, "BROKER_PATIENCE", 0.1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"nats://127.0.0.1:{closed.getsockname()[1]}"
        assert run_main(anchor_file(tmp_path, World()), {"nats_url": url}) == 3
    assert caplog.records[-1].levelno == logging.ERROR


async def test_sigterm_ends_the_process_cleanly(tmp_path: Path, broker: Broker) -> None:
    anchor = anchor_file(tmp_path, World())
    with device({"nats_url": broker.url}) as descriptor:
        process = await anyio.open_process(
            [sys.executable, "-m", "coordinator", "--anchor", str(anchor), "--attester-fd", str(descriptor)],
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        os.close(descriptor)
        async with process:
            assert process.stderr is not None
            said = b""
            with anyio.fail_after(90):
                while b"coordinator" not in said:
                    said += await process.stderr.receive()
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
    assert b"Traceback" not in said
