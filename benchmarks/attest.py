"""What judging Evidence costs, against the bare signature checks in it, and for TDX another verifier.

The simulator's Evidence is in the true formats, with as many signatures of the same kinds, so a benchmark
needs no files of others. "Anew" verifies everything; "remembered" is what a coordinator does when chains and
collateral come again: then only the signature of the Evidence itself is left.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from types import ModuleType

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA384

from attestation import Memory, appraise
from attestation.x509 import PSS_PADDING
from benchmarks.ratios import Aim, Row
from benchmarks.slices import microseconds
from lab.setup import simulator
from lab.simulate import nitro, sev_snp, tdx
from schemas.evidence import (
    MEASURED,
    NITRO,
    SEV_SNP,
    TDX,
    Endorsements,
    Evidence,
    PlatformValues,
    ReferenceValues,
    WorkloadValues,
)

Work = Callable[[], object]
Say = Callable[[str], None]

_MAKE_ROOT = {SEV_SNP: sev_snp.make_root, TDX: tdx.make_root, NITRO: nitro.make_root}
_SIZES = {"host_data": 32}
KEY_BINDING = bytes(range(64))
CHALLENGE = bytes(range(32))


# The floor: as many bare checks by `cryptography` of signatures of the same kinds.
FLOOR = "its signatures"
FLOOR_AIM = Aim(1.5, "lower")


@dataclass(frozen=True, slots=True)
class _Contest:
    id: str
    name: str
    peer: str
    ours: Work
    theirs: Work
    aim: Aim | None


@dataclass(frozen=True, slots=True)
class _Case:
    evidence: Evidence
    endorsements: Endorsements
    values: ReferenceValues
    now: datetime
    root_der: bytes

    def appraise(self, memory: Memory | None = None) -> object:
        return appraise(
            self.evidence,
            self.endorsements,
            self.values,
            key_binding=KEY_BINDING,
            challenge=CHALLENGE,
            now=self.now,
            memory=memory,
        )


def measure(*, rounds: int, seconds: float, say: Say) -> list[Row]:
    """Measure all platforms by turns; `seconds` is the length of a slice. TDX's peer needs `dcap-qvl`."""
    contests: list[_Contest] = []
    for platform in (SEV_SNP, NITRO, TDX):
        say(f"a simulated {platform} machine")
        case = _case(platform)
        memory = Memory()
        case.appraise(memory)
        anew, again = case.appraise, _bound(case, memory)
        if platform == TDX:
            peer = _dcap_qvl(case)
            if peer is not None:
                pair = _both("tdx", "TDX", "dcap-qvl", (again, peer), (anew, peer), Aim(1.2, "lower"))
                contests += pair
        elif platform == SEV_SNP:
            report, chain = _p384(), _pss()
            everything = _all(report, *[chain] * 4)
            contests += _both("sev-snp", "SEV-SNP", FLOOR, (again, report), (anew, everything), FLOOR_AIM)
        else:
            document = _p384()
            everything = _all(*[document] * 6)
            contests += _both("nitro", "Nitro", FLOOR, (again, document), (anew, everything), FLOOR_AIM)
    return _rounds(contests, rounds, seconds, say)


def _both(
    label: str, title: str, peer: str, again: tuple[Work, Work], anew: tuple[Work, Work], aim: Aim
) -> tuple[_Contest, _Contest]:
    return (
        _Contest(f"{label}-remembered", f"{title}, remembered", peer, *again, aim),
        _Contest(f"{label}-anew", f"{title}, anew", peer, *anew, None),
    )


def _rounds(contests: list[_Contest], rounds: int, seconds: float, say: Say) -> list[Row]:
    ours: list[list[float]] = [[] for _ in contests]
    peers: list[list[float]] = [[] for _ in contests]
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}" if number else "warming up")
        for index, each in enumerate(contests):
            pair = microseconds(each.ours, seconds), microseconds(each.theirs, seconds)
            if number:
                ours[index].append(pair[0])
                peers[index].append(pair[1])
    return [
        Row(each.id, each.name, each.peer, "us", tuple(own), tuple(other), each.aim)
        for each, own, other in zip(contests, ours, peers, strict=True)
    ]


def _case(platform: str) -> _Case:
    now = datetime.now(UTC)
    files = _MAKE_ROOT[platform](now)
    machine = simulator(platform, files, 1)
    measurements = {name: os.urandom(_SIZES.get(name, 48)) for name in MEASURED[platform]}
    evidence, endorsements = machine.evidence(measurements, KEY_BINDING, CHALLENGE, now=now)
    pinned = {name: measurements[name].hex() for name in MEASURED[platform]}
    values = ReferenceValues(
        platforms={platform: PlatformValues(lab_roots=(machine.root,))},
        workloads=(WorkloadValues(workload="bench", platform=platform, measurements=pinned),),
    )
    root_der = files.get("tdx-root.der", b"")
    return _Case(evidence, endorsements, values, now, root_der)


def _bound(case: _Case, memory: Memory) -> Work:
    return lambda: case.appraise(memory)


def _all(*works: Work) -> Work:
    def run() -> None:
        for work in works:
            work()

    return run


def _p384() -> Work:
    message = os.urandom(1184)
    key = ec.generate_private_key(ec.SECP384R1())
    public, signature, algorithm = key.public_key(), key.sign(message, ec.ECDSA(SHA384())), ec.ECDSA(SHA384())
    return lambda: public.verify(signature, message, algorithm)


def _pss() -> Work:
    message = os.urandom(1024)
    key = rsa.generate_private_key(public_exponent=65537, key_size=4096)
    public, signature = key.public_key(), key.sign(message, PSS_PADDING, SHA384())
    return lambda: public.verify(signature, message, PSS_PADDING, SHA384())


def _dcap_qvl(case: _Case) -> Work | None:
    peer = _import("dcap_qvl")
    if peer is None:
        return None
    given = case.endorsements
    tcb, tcb_signature = _split(given["tcb_info.json"], "tcbInfo")
    identity, identity_signature = _split(given["qe_identity.json"], "enclaveIdentity")
    collateral = peer.QuoteCollateralV3(
        pck_crl_issuer_chain=given["pck_crl_chain.pem"].decode("ascii"),
        root_ca_crl=given["root_ca_crl.der"],
        pck_crl=given["pck_crl.der"],
        tcb_info_issuer_chain=given["tcb_info_chain.pem"].decode("ascii"),
        tcb_info=tcb,
        tcb_info_signature=tcb_signature,
        qe_identity_issuer_chain=given["qe_identity_chain.pem"].decode("ascii"),
        qe_identity=identity,
        qe_identity_signature=identity_signature,
    )
    at = int(case.now.timestamp())
    return lambda: peer.verify_with_root_ca(case.evidence.value, collateral, case.root_der, at)


def _import(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


def _split(document: bytes, name: str) -> tuple[str, bytes]:
    parts = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    signature = msgspec.json.decode(parts["signature"], type=str)
    return bytes(parts[name]).decode("utf-8"), bytes.fromhex(signature)
