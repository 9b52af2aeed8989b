"""Real SEV-SNP and Nitro evidence is judged as its collectors recorded, under the vendors' own roots."""

import json
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from attestation import AttestationError, appraise, nitro, sev_snp
from attestation.acceptable import judge, judge_binding
from attestation.appraise import accepted
from attestation.claims import Genuine
from schemas.errors import Reason
from schemas.evidence import (
    MEASURED,
    NITRO,
    SEV_SNP,
    Endorsements,
    Evidence,
    PlatformValues,
    ProductValues,
    ReferenceValues,
    WorkloadValues,
)

DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "evidence"
EVIDENCE = Path(os.environ.get("SEALBUS_EVIDENCE", DEFAULT))
KEY_BINDING = bytes(range(64))
CHALLENGE = bytes(32)

# SHA-256 of the certificates, as AMD and AWS publish them: ARK of Milan, Genoa, Turin; Nitro Enclaves G1.
ROOTS = {
    SEV_SNP: (
        "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
        "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
        "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
    ),
    NITRO: ("641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b",),
}
MEDIA_TYPES = {SEV_SNP: sev_snp.MEDIA_TYPE, NITRO: nitro.MEDIA_TYPE}

# Why each vector that must fail does.
REASONS = {
    "sev-snp/neg-derived-debug-bit-set": Reason.SIGNATURE_INVALID,
    "sev-snp/neg-derived-expired-vcek": Reason.CERTIFICATE_EXPIRED,
    # Its authorities lack basic constraints, so it fails before anyone asks whose root it is.
    "sev-snp/neg-derived-forged-chain": Reason.CHAIN_INVALID,
    "sev-snp/neg-derived-measurement-flipped": Reason.SIGNATURE_INVALID,
    "sev-snp/neg-v2-altered-vcek-legacy-trustee": Reason.CHAIN_INVALID,
    "nitro/neg-base-hinted-corrupt-2026-01": Reason.MALFORMED,
    "nitro/neg-derived-expired": Reason.CERTIFICATE_EXPIRED,
    "nitro/neg-derived-forged-root": Reason.ROOT_NOT_IN_POLICY,
    "nitro/neg-derived-pcr0-flipped": Reason.SIGNATURE_INVALID,
}


def found(prefix: str) -> list[Any]:
    """List the vectors of both platforms, or one that says that there are none."""
    folders = sorted(
        each.parent for name in (SEV_SNP, NITRO) for each in EVIDENCE.glob(f"{name}/*/meta.json")
    )
    chosen = [each for each in folders if each.name.startswith("neg-") == (prefix == "neg-")]
    return [pytest.param(each, id=f"{each.parent.name}/{each.name}") for each in chosen] or [None]


def meta_of(vector: Path | None) -> dict[str, Any]:
    if vector is None:
        message = "no evidence vectors: set SEALBUS_EVIDENCE to the folder that holds sev-snp/ and nitro/"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    meta: dict[str, Any] = json.loads((vector / "meta.json").read_text())
    return meta


def load(vector: Path) -> tuple[Evidence, Endorsements]:
    platform = vector.parent.name
    value = (vector / {SEV_SNP: "report.bin", NITRO: "attestation.cbor"}[platform]).read_bytes()
    endorsements = {each.name: each.read_bytes() for each in vector.glob("*.der")}
    return Evidence(MEDIA_TYPES[platform], value), endorsements


def verified(vector: Path, meta: dict[str, Any]) -> Genuine:
    evidence, endorsements = load(vector)
    verify = {SEV_SNP: sev_snp.verify, NITRO: nitro.verify}[vector.parent.name]
    return verify(evidence.value, endorsements, now=datetime.fromisoformat(meta["valid_at"]))


def policy(platform: str, measurements: dict[str, str]) -> ReferenceValues:
    """Write the policy under which this evidence is as good as it gets."""
    pinned = {name: measurements.get(name, "00") for name in MEASURED[platform]}
    products = {"Milan": ProductValues(any_chip=True), "Genoa": ProductValues(), "Turin": ProductValues()}
    return ReferenceValues(
        platforms={
            platform: PlatformValues(
                roots=ROOTS[platform], products=products if platform == SEV_SNP else None
            )
        },
        workloads=(WorkloadValues(workload="vector", platform=platform, measurements=pinned),),
    )


@pytest.mark.parametrize("vector", found(""))
def test_genuine_vector_is_genuine_under_the_vendors_root(vector: Path | None) -> None:
    meta = meta_of(vector)
    assert vector is not None
    genuine = verified(vector, meta)
    assert meta["expect"] == "ok"
    assert genuine.root in ROOTS[genuine.platform]
    assert genuine.debug == meta["debug"]
    recorded = meta["measurement"]
    for name in genuine.measurements.keys() & recorded.keys():
        assert genuine.measurements[name] == recorded[name]
    assert set(MEASURED[genuine.platform]) <= genuine.measurements.keys() & recorded.keys()


@pytest.mark.parametrize("vector", found(""))
def test_genuine_vector_is_accepted_as_a_strict_policy_should(vector: Path | None) -> None:
    meta = meta_of(vector)
    assert vector is not None
    # As if it had been made for us: none of them binds our keys, which the next test is about.
    genuine = replace(
        verified(vector, meta), report_data=KEY_BINDING, nonce=CHALLENGE, public_key_absent=True
    )
    values = policy(genuine.platform, genuine.measurements)
    judgement = judge(
        genuine,
        values,
        binding=judge_binding(genuine, KEY_BINDING, CHALLENGE),
        now=datetime.fromisoformat(meta["valid_at"]),
    )
    if meta["production_policy"]["verdict"] == "accept":
        assert accepted(genuine, judgement, values).workload == "vector"
        return
    with pytest.raises(AttestationError) as refusal:
        accepted(genuine, judgement, values)
    assert refusal.value.reason is Reason.DEBUG_ENABLED


@pytest.mark.parametrize("vector", found(""))
def test_genuine_vector_is_refused_for_keys_that_it_does_not_bind(vector: Path | None) -> None:
    meta = meta_of(vector)
    assert vector is not None
    evidence, endorsements = load(vector)
    platform = vector.parent.name
    with pytest.raises(AttestationError) as refusal:
        appraise(
            evidence,
            endorsements,
            policy(platform, meta["measurement"]),
            key_binding=KEY_BINDING,
            challenge=CHALLENGE,
            now=datetime.fromisoformat(meta["valid_at"]),
        )
    expected = {SEV_SNP: Reason.KEY_BINDING_MISMATCH, NITRO: Reason.CHALLENGE_UNKNOWN}
    assert refusal.value.reason is expected[platform]


@pytest.mark.parametrize("vector", found("neg-"))
def test_negative_vector_is_refused_for_its_own_reason(vector: Path | None) -> None:
    meta = meta_of(vector)
    assert vector is not None
    assert meta["expect"] == "fail"
    evidence, endorsements = load(vector)
    platform = vector.parent.name
    report_data = bytes.fromhex(meta["report_data"] or "")
    with pytest.raises(AttestationError) as refusal:
        appraise(
            evidence,
            endorsements,
            policy(platform, meta["measurement"]),
            key_binding=report_data if len(report_data) == 64 else KEY_BINDING,
            challenge=CHALLENGE,
            now=datetime.fromisoformat(meta["valid_at"]),
        )
    name = f"{platform}/{vector.name}"
    assert name not in REASONS or refusal.value.reason is REASONS[name]


@pytest.mark.parametrize("position", range(0, 0x4A0 * 8, 251))
def test_no_bit_of_a_real_report_can_change(position: int) -> None:
    vector = EVIDENCE / SEV_SNP / "milan-v3-vcek-oak-cb"
    meta = meta_of(vector if vector.exists() else None)
    evidence, endorsements = load(vector)
    value = bytearray(evidence.value)
    value[position // 8] ^= 1 << position % 8
    with pytest.raises(AttestationError):
        sev_snp.verify(bytes(value), endorsements, now=datetime.fromisoformat(meta["valid_at"]))


@pytest.mark.parametrize("position", range(0, 4480 * 8, 997))
def test_no_bit_of_a_real_document_can_change(position: int) -> None:
    vector = EVIDENCE / NITRO / "marlin-2024-02"
    meta = meta_of(vector if vector.exists() else None)
    evidence, _ = load(vector)
    value = bytearray(evidence.value)
    assert position // 8 < len(value)
    value[position // 8] ^= 1 << position % 8
    with pytest.raises(AttestationError):
        nitro.verify(bytes(value), {}, now=datetime.fromisoformat(meta["valid_at"]))
