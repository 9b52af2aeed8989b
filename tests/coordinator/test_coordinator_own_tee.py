"""Services on their machine's own TEE: no launcher, and admitted like any other."""

import ctypes
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio
import cbor2
import pytest

from agent_runtime import __main__ as agent
from attestation import Attester, appraise
from attestation.attesters.detect import detect
from attestation.attesters.nsm import NsmAttester
from attestation.attesters.own_machine import OwnMachine
from attestation.attesters.sev_guest import SevGuestAttester
from attestation.nitro import cbor
from coordinator import AppraisalRequest
from lab.broker import Broker
from lab.simulate import nitro, sev_snp
from schemas import codec
from schemas.evidence import MEASURED, NITRO, SEV_SNP, AttestationResult, PlatformValues
from schemas.messages import Admitted, EvidenceAnswer
from schemas.pinning import Pinned
from schemas.policy import Workload
from sealing.context import sha256
from tests.amd import amd_root
from tests.coordinator.world import START as EPOCH
from tests.coordinator.world import Party, Refusal, World

# The machine is played by a folder in which a Nitro enclave's device exists.
START = """
import sys
from pathlib import Path
import attestation.attesters.own_machine
from attestation.attesters.detect import detect
from coordinator.__main__ import main
root = Path(sys.argv.pop(1))
attestation.attesters.own_machine.detect = lambda _: detect(root)
sys.exit(main())
"""


@pytest.mark.anyio
async def test_a_coordinator_starts_and_ends_without_a_launcher(tmp_path: Path, broker: Broker) -> None:
    device = tmp_path / "machine" / "dev" / "nsm"
    device.parent.mkdir(parents=True)
    device.touch()
    anchor = tmp_path / "anchor.cbor"
    anchor.write_bytes(codec.encode(World().anchor))
    command = [sys.executable, "-c", START, str(tmp_path / "machine"), "--own-tee", "--anchor", str(anchor)]
    async with await anyio.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "SEALBUS_NATS_URL": broker.url},
    ) as process:
        assert process.stderr is not None
        said = b""
        with anyio.fail_after(30):
            while b"coordinator" not in said:
                said += await process.stderr.receive()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    assert b"Traceback" not in said


def test_an_agent_on_a_machine_without_a_tee_ends_with_a_usage_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if detect().attester is not None:
        pytest.skip("this machine is a TEE")
    file = tmp_path / "agent.py"
    file.write_text("from agent_runtime import Agent\nagent = Agent('greeter')\n")
    assert agent.main([str(file), "--own-tee", "--nats-url", "nats://127.0.0.1:1"]) == 2
    assert "sealbus doctor" in caplog.text


# What stands behind the drivers is a simulated chip, asked in the caller's memory.

NOW = datetime.fromtimestamp(EPOCH / 1000, UTC)
PLANNER = b"planner"


def measurements(platform: str, image: bytes) -> dict[str, bytes]:
    size = {"host_data": 32}
    return {
        name: sha256(image, name.encode()).ljust(size.get(name, 48), b"\0") for name in MEASURED[platform]
    }


def number_at(address: int) -> int:
    return int.from_bytes(ctypes.string_at(address, 8), "little")


def nsm(card: nitro.NitroCard, image: bytes, _: int, __: int, address: int) -> None:
    """Answer as the security module does."""
    request = cbor.read(ctypes.string_at(number_at(address), number_at(address + 8)))
    match request:
        case {"Attestation": {"user_data": bytes() as bound, "nonce": bytes() as challenge}}:
            document = card.evidence(measurements(NITRO, image), bound, challenge, now=NOW)[0].value
    answer = cbor2.dumps({"Attestation": {"document": document}})
    ctypes.memmove(number_at(address + 16), answer, len(answer))
    ctypes.memmove(address + 24, len(answer).to_bytes(8, "little"), 8)


def sev_guest(chip: sev_snp.SevSnpChip, image: bytes, _: int, __: int, address: int) -> None:
    """Answer as the driver of a host without certificates does."""
    bound = ctypes.string_at(number_at(address + 8), 64)
    report = chip.sign(chip.body(measurements(SEV_SNP, image), bound))
    answer = bytes(4) + len(report).to_bytes(4, "little") + bytes(24) + report
    ctypes.memmove(number_at(address + 16), answer, len(answer))


def really_appraise(request: AppraisalRequest) -> AttestationResult:
    return appraise(
        request.evidence,
        request.endorsements,
        request.reference_values,
        key_binding=request.key_binding,
        challenge=request.challenge,
        now=datetime.fromtimestamp(request.now / 1000, UTC),
    )


def pinned(platform: str) -> Pinned:
    named = measurements(platform, PLANNER)
    return Pinned(measurements={name: value.hex() for name, value in named.items()})


@pytest.fixture(scope="module")
def card() -> nitro.NitroCard:
    return nitro.NitroCard.from_files(nitro.make_root(NOW), serial=1)


@pytest.fixture(scope="module")
def chip() -> sev_snp.SevSnpChip:
    return sev_snp.SevSnpChip.from_files(amd_root(NOW), serial=1)


@pytest.mark.anyio
@pytest.mark.parametrize("platform", [NITRO, SEV_SNP])
async def test_an_agent_on_its_own_tee_is_admitted_and_a_changed_one_is_not(
    platform: str, card: nitro.NitroCard, chip: sev_snp.SevSnpChip, tmp_path: Path
) -> None:
    device, endorsements = tmp_path / "device", tmp_path / "endorsements"
    device.touch()
    endorsements.mkdir()
    for name, data in chip.endorsements.items() if platform == SEV_SNP else ():
        (endorsements / name).write_bytes(data)

    def attester(image: bytes) -> Attester:
        if platform == NITRO:
            return NsmAttester(device, ioctl=partial(nsm, card, image))
        return SevGuestAttester(device, ioctl=partial(sev_guest, chip, image))

    roots = {NITRO: card.root, SEV_SNP: chip.root}
    world = World(appraise=really_appraise, roots=tuple(roots.values()))
    world.up(
        world.policy(
            platforms={name: PlatformValues(lab_roots=(root,)) for name, root in roots.items()},
            coordinators={NITRO: pinned(NITRO)},
            workloads={"planner": Workload(roles=("planner",), on={name: pinned(name) for name in roots})},
            classes={},
            tools={},
            rules=(),
        )
    )

    async def proven(image: bytes) -> Admitted:
        party = Party.enclave(world, "planner")
        party.say_init()
        party.take_accept()
        machine = OwnMachine(attester(image), {}, endorsements)
        shown = await machine.evidence(party.binding(), party.state.challenge)
        world.frame(party.session, "evidence", EvidenceAnswer(*shown, ()), b"e" * 16)
        return codec.convert(party.answer("admitted"), Admitted)

    assert {each.group for each in (await proven(PLANNER)).holdings.members} == {"mesh", "planner"}
    with pytest.raises(Refusal, match="measurement-not-in-policy"):
        await proven(b"one byte more")
