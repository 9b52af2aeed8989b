"""Whoever carries a bundle of the operators' takes Evidence that came without collateral."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

import coordinator.__main__ as entry
from agent_runtime.coordination import _appraise
from agent_runtime.joining import Appraisal
from attestation import AttestationError, Memory
from attestation.attesters import own_machine
from attestation.attesters.detect import detect
from attestation.bundles.bundle import sign_bundle
from attestation.bundles.carried import Carried
from coordinator import Service
from coordinator.clock import coordinator_clock, wall
from lab.simulate import nitro, tdx
from schemas import codec
from schemas.evidence import TDX
from schemas.messages import Admitted, EvidenceAnswer
from sealing import binding
from tests.attestation.test_carried import entries_of
from tests.coordinator.test_coordinator_service import (
    PLANNER,
    Card,
    Chips,
    Remote,
    measurements,
    really_appraise,
)
from tests.coordinator.world import Party, Refusal, World
from transport import MemoryBroker

pytestmark = pytest.mark.anyio

BEGAN = wall()
SENT = datetime.fromtimestamp(BEGAN / 1000, UTC)


@pytest.fixture(scope="module")
def chips() -> Chips:
    return Chips(
        nitro.NitroCard.from_files(nitro.make_root(SENT), serial=1),
        tdx.TdxPlatform.from_files(tdx.make_root(SENT), serial=2),
    )


def bundle(chips: Chips, world: World, path: Path, *, age: timedelta = timedelta()) -> Carried:
    """Write what a TDX vendor issued so long ago, signed by two operators."""
    entries = entries_of(chips.tdx._issuer.collateral(now=SENT - age))
    path.write_bytes(sign_bundle(world.council, world.operators[:2], entries, issued=BEGAN))
    return Carried(path, world.council, world.mesh)


async def joined(chips: Chips, carried: Carried | None, world: World, *, days: int | None = None) -> Admitted:
    """Let a planner on TDX, whose host gave it no collateral, join a coordinator."""
    broker, policy = MemoryBroker(), chips.policy(world)
    demands = replace(policy.platforms[TDX], max_collateral_days=days)
    policy = replace(policy, platforms={**policy.platforms, TDX: demands})
    async with (
        broker.connect(name="coordinator") as transport,
        broker.connect(name="all") as line,
        anyio.create_task_group() as tasks,
    ):
        clock = coordinator_clock(world.anchor.issued)
        service = Service(world.council, world.mesh, world.keys, transport, Card(chips), clock, carried)
        tasks.start_soon(service.run)
        await anyio.wait_all_tasks_blocked()
        operator = Remote(Party(world, "operator", ("operator",), signing=world.operators[0]), line)
        await operator.join(chips)
        await operator.ask("event", world.order())
        await operator.ask("event", world.policy_event(policy))
        planner = await Remote(Party.enclave(world, "planner"), line).open(chips)
        bound = binding.key_binding(
            world.mesh,
            binding.AGENT,
            planner.state.challenge,
            planner.session.transcript,
            planner.party.keys.signing.public,
            planner.party.keys.kem.public,
        )
        challenge, now = planner.state.challenge, datetime.now(UTC)
        quote, _ = chips.tdx.evidence(measurements(TDX, PLANNER), bound, challenge, now=now)
        fields: object = None
        refusal: Refusal | None = None
        try:
            fields = await planner.ask("evidence", EvidenceAnswer(quote, {}, ()))
        except Refusal as refused:
            refusal = refused
        tasks.cancel_scope.cancel()
    if refusal is not None:
        raise refusal
    return codec.convert(fields, Admitted)


async def test_evidence_without_collateral_is_admitted_with_the_coordinators(
    chips: Chips, tmp_path: Path
) -> None:
    world = World(appraise=really_appraise, now=wall(), roots=chips.roots)
    with anyio.fail_after(90):
        admitted = await joined(chips, bundle(chips, world, tmp_path / "bundle"), world)
    assert {each.group for each in admitted.holdings.members} == {"mesh", "planner"}


async def test_evidence_without_collateral_is_refused_by_whoever_carries_none(
    chips: Chips,
) -> None:
    with anyio.fail_after(90), pytest.raises(Refusal, match="tcb-mismatch"):
        await joined(chips, None, World(appraise=really_appraise, now=wall(), roots=chips.roots))


async def test_carried_collateral_is_as_old_as_the_policy_allows(chips: Chips, tmp_path: Path) -> None:
    world = World(appraise=really_appraise, now=wall(), roots=chips.roots)
    carried = bundle(chips, world, tmp_path / "bundle", age=timedelta(days=5))
    with anyio.fail_after(90):
        assert await joined(chips, carried, world, days=6)
        again = World(appraise=really_appraise, now=wall(), roots=chips.roots)
        with pytest.raises(Refusal, match="collateral-too-old"):
            await joined(chips, carried, again, days=4)


def test_an_agent_takes_a_coordinator_whose_evidence_came_without_collateral(
    chips: Chips, tmp_path: Path
) -> None:
    world = World()
    policy = chips.policy(world)
    evidence, _ = chips.tdx.evidence(measurements(TDX, PLANNER), b"k" * 64, b"c" * 32, now=SENT)
    appraisal = Appraisal(evidence, {}, policy.reference_values(), b"k" * 64, b"c" * 32, SENT)
    with pytest.raises(AttestationError):
        _appraise(appraisal, Memory(), None, world.council)
    _appraise(appraisal, Memory(), bundle(chips, world, tmp_path / "bundle"), world.council)


def test_a_coordinator_that_is_given_something_else_ends_with_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = tmp_path / "machine" / "dev" / "nsm"
    device.parent.mkdir(parents=True)
    device.touch()
    monkeypatch.setattr(own_machine, "detect", lambda _: detect(tmp_path / "machine"))
    anchor, junk = tmp_path / "anchor.cbor", tmp_path / "bundle"
    anchor.write_bytes(codec.encode(World().anchor))
    junk.write_bytes(b"junk")
    options = ["--anchor", str(anchor), "--own-tee", "--nats-url", "nats://127.0.0.1:1"]
    assert entry.main([*options, "--collateral", str(junk)]) == 2
    assert "no collateral that this mesh's operators signed" in caplog.text
