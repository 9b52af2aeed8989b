"""What stands behind a signature: the lab's machines sign whatever they are given, and `verify` reads it.

An input is what is signed, so that it means the same beside machines with other keys.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec

from attestation import Memory, nitro, sev_snp, tdx
from attestation.appraise import verify
from attestation.errors import AttestationError
from lab.simulate import nitro as lab_nitro
from lab.simulate import sev_snp as lab_sev_snp
from lab.simulate import tdx as lab_tdx
from schemas.evidence import NITRO, SEV_SNP, TDX, Endorsements, Evidence
from tests.amd import amd_root
from tests.fuzz.world import NOW

MEDIA_TYPES = {SEV_SNP: sev_snp.MEDIA_TYPE, TDX: tdx.MEDIA_TYPE, NITRO: nitro.MEDIA_TYPE}
PCRS = dict.fromkeys(("pcr0", "pcr1", "pcr2"), b"\x01" * 48)


class MemoryMattersError(Exception):
    """Evidence is judged otherwise where its chain is remembered."""


@dataclass(frozen=True)
class Machine:
    """A machine without judgement, what endorses it, and a memory of that."""

    sign: Callable[[bytes], bytes]
    endorsements: Endorsements
    memory: Memory


def reader(platform: str) -> Callable[[bytes], object]:
    """Return what has bytes signed and verifies the evidence that they make, with a memory and without."""

    def read(data: bytes) -> object:
        machine = machine_of(platform)
        evidence = Evidence(MEDIA_TYPES[platform], machine.sign(data))
        remembered = _verdict(evidence, machine.endorsements, machine.memory)
        if _verdict(evidence, machine.endorsements, Memory()) != remembered:
            raise MemoryMattersError(platform)
        return remembered

    return read


def _verdict(evidence: Evidence, endorsements: Endorsements, memory: Memory) -> object:
    # What a stranger made is forgotten, as where the evidence is not accepted.
    try:
        return verify(evidence, endorsements, now=NOW, memory=memory.trial())
    except AttestationError as refusal:
        return type(refusal), str(refusal), refusal.also


@cache
def machine_of(platform: str) -> Machine:
    """Make a machine; the keys of the simulated AMD take seconds, so once a process."""
    sign, value, endorsements = {SEV_SNP: _sev_snp, TDX: _tdx, NITRO: _nitro}[platform]()
    memory = Memory()
    trial = memory.trial()
    verify(Evidence(MEDIA_TYPES[platform], value), endorsements, now=NOW, memory=trial)
    trial.keep()
    return Machine(sign, endorsements, memory)


_Made = tuple[Callable[[bytes], bytes], bytes, Endorsements]


def _sev_snp() -> _Made:
    chip = lab_sev_snp.SevSnpChip.from_files(amd_root(NOW), serial=1)
    body = chip.body({"measurement": bytes(48), "host_data": bytes(32)}, bytes(64))
    return chip.sign, chip.sign(body), chip.endorsements


def _tdx() -> _Made:
    platform = lab_tdx.TdxPlatform.from_files(lab_tdx.make_root(NOW), serial=1)
    measurements = dict.fromkeys(lab_tdx.MEASURED, bytes(48))
    evidence, endorsements = platform.evidence(measurements, bytes(64), bytes(32), now=NOW)
    return lambda signed: platform.quote(signed, now=NOW), evidence.value, endorsements


def _nitro() -> _Made:
    card = nitro_card()
    evidence, endorsements = card.evidence(PCRS, bytes(64), bytes(32), now=NOW)
    return card.sign_payload, evidence.value, endorsements


def nitro_card() -> lab_nitro.NitroCard:
    """Make a card with the same keys in every process: a document carries the chain that vouches for them."""
    made = lab_nitro.NitroCard.from_files(lab_nitro.make_root(NOW), serial=1)
    return replace(
        made, keys=tuple(ec.derive_private_key(number, ec.SECP384R1()) for number in range(11, 15))
    )
