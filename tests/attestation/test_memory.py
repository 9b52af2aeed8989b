"""Memory makes an appraisal faster and changes no verdict; what was refused leaves nothing in it."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import AttestationError, appraise
from attestation.appraise import verify
from attestation.claims import Genuine
from attestation.memory import FORGETFUL, OVERHEAD, Memory, Remembers
from lab.simulate import certificates
from lab.simulate import sev_snp as simulated_snp
from lab.simulate.nitro import NitroCard
from lab.simulate.sev_snp import SevSnpChip
from lab.simulate.tdx import assemble
from lab.simulate.tdx_issuer import TdxIssuer, make_root
from schemas.errors import Reason
from schemas.evidence import (
    MEASURED,
    NITRO,
    PLATFORMS,
    SEV_SNP,
    Endorsements,
    Evidence,
    PlatformValues,
    ReferenceValues,
    WorkloadValues,
)
from tests.attestation.tdx_forge import NOW, Forge
from tests.attestation.vectors import folders, load, parameters, present

Verdict = Genuine | tuple[type[AttestationError], Reason, str, tuple[Reason, ...]]
ISSUER = TdxIssuer.from_files(make_root(NOW))


def remembered(memory: Memory, kind: str, *inputs: bytes) -> bool:
    """Say whether a fact is known."""

    class UnknownError(Exception):
        pass

    def unknown() -> object:
        raise UnknownError

    try:
        memory.trial().recall(kind, inputs, unknown)
    except UnknownError:
        return False
    return True


def learn(memory: Memory, kind: str, *inputs: bytes, fact: object = True) -> None:
    trial = memory.trial()
    trial.recall(kind, inputs, lambda: fact)
    trial.keep()


# --- facts --------------------------------------------------------------------------------------


def test_fact_is_made_once_and_then_remembered() -> None:
    memory, made = Memory(), iter([1, 2])
    for _ in range(3):
        trial = memory.trial()
        assert trial.recall("fact", (b"about",), lambda: next(made)) == 1
        trial.keep()


@given(
    st.tuples(st.text(max_size=3), st.lists(st.binary(max_size=3), max_size=3).map(tuple)),
    st.tuples(st.text(max_size=3), st.lists(st.binary(max_size=3), max_size=3).map(tuple)),
)
def test_fact_answers_for_its_own_kind_and_inputs_only(
    one: tuple[str, tuple[bytes, ...]], other: tuple[str, tuple[bytes, ...]]
) -> None:
    memory = Memory()
    learn(memory, one[0], *one[1])
    assert remembered(memory, other[0], *other[1]) == (one == other)


def test_two_ways_to_cut_the_same_bytes_are_two_facts() -> None:
    memory = Memory()
    learn(memory, "fact", b"ab", b"c")
    for other in ((b"a", b"bc"), (b"abc",), (b"abc", b""), (b"", b"abc"), (b"ab",), (b"c", b"ab")):
        assert not remembered(memory, "fact", *other)


def test_what_fails_is_not_remembered() -> None:
    memory = Memory()
    trial = memory.trial()
    with pytest.raises(ZeroDivisionError):
        trial.recall("fact", (b"x",), lambda: 1 // 0)
    trial.keep()
    assert not remembered(memory, "fact", b"x")


def test_falsehood_is_a_fact_too() -> None:
    memory = Memory()
    learn(memory, "fact", b"x", fact=None)
    assert memory.trial().recall("fact", (b"x",), lambda: 1) is None


def test_trial_knows_what_it_learned_and_nobody_else_does_until_it_keeps_it() -> None:
    memory = Memory()
    trial = memory.trial()
    assert trial.recall("fact", (b"x",), lambda: 1) == 1
    assert trial.recall("fact", (b"x",), lambda: 2) == 1
    assert not remembered(memory, "fact", b"x")
    trial.keep()
    assert remembered(memory, "fact", b"x")


def test_forgetful_memory_remembers_nothing() -> None:
    made = iter([1, 2])
    assert [FORGETFUL.recall("fact", (b"x",), lambda: next(made)) for _ in "12"] == [1, 2]


def test_memory_is_bounded_by_what_its_facts_weigh() -> None:
    weight = OVERHEAD + 2 * 100
    memory = Memory(max_bytes=3 * weight)
    for number in range(4):
        learn(memory, "fact", bytes([number]) * 100)
    assert [remembered(memory, "fact", bytes([number]) * 100) for number in range(4)] == [
        False,
        True,
        True,
        True,
    ]
    # One that is heavier than all there is room for pushes out all, itself too, and breaks nothing.
    learn(memory, "fact", bytes(10 * weight))
    assert not any(remembered(memory, "fact", bytes([number]) * 100) for number in range(4))
    learn(memory, "fact", b"\x05" * 100)
    assert remembered(memory, "fact", b"\x05" * 100)


def test_fact_that_was_learned_twice_weighs_once() -> None:
    memory = Memory(max_bytes=2 * (OVERHEAD + 2 * 1))
    trials = [memory.trial() for _ in range(5)]
    for trial in trials:
        trial.recall("fact", (b"x",), lambda: True)
    for trial in trials:
        trial.keep()
    learn(memory, "fact", b"y")
    assert remembered(memory, "fact", b"x")
    assert remembered(memory, "fact", b"y")


def test_least_recently_used_fact_is_forgotten_first() -> None:
    memory = Memory(max_bytes=2 * (OVERHEAD + 2 * 1))
    learn(memory, "fact", b"1")
    learn(memory, "fact", b"2")
    assert remembered(memory, "fact", b"1")
    learn(memory, "fact", b"3")
    assert [remembered(memory, "fact", each) for each in (b"1", b"2", b"3")] == [True, False, True]


def test_threads_may_share_a_memory() -> None:
    memory = Memory(max_bytes=20 * OVERHEAD)
    wrong: list[object] = []

    def work(seed: int) -> None:
        for number in range(400):
            about = bytes([(number * seed) % 50])
            learn(memory, "fact", about, fact=about)
            if memory.trial().recall("fact", (about,), about.upper) not in (about, about.upper()):
                wrong.append(about)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- verdicts -----------------------------------------------------------------------------------


def verdict(
    evidence: Evidence, endorsements: Endorsements, now: datetime, memory: Remembers = FORGETFUL
) -> Verdict:
    try:
        return verify(evidence, endorsements, now=now, memory=memory)
    except AttestationError as error:
        return type(error), error.reason, error.detail, error.also


def keeping(evidence: Evidence, endorsements: Endorsements, now: datetime, memory: Memory) -> Verdict:
    """Verify with a memory that keeps even what was refused: worse than any appraisal does."""
    trial = memory.trial()
    found = verdict(evidence, endorsements, now, trial)
    trial.keep()
    return found


def damaged(data: bytes, seed: int) -> bytes:
    position = (seed * 7919) % len(data)
    return data[:position] + bytes((data[position] ^ 1 << seed % 8,)) + data[position + 1 :]


@pytest.mark.parametrize("folder", parameters(folders(*PLATFORMS)))
def test_vector_is_judged_alike_with_and_without_memory(folder: Path | None) -> None:
    vector = load(present(folder))
    memory = Memory()
    plain = verdict(vector.evidence, vector.endorsements, vector.now)
    for _ in range(2):
        assert keeping(vector.evidence, vector.endorsements, vector.now, memory) == plain
    # Now that the genuine is remembered, nothing passes for it.
    for seed in range(1, 9):
        value = damaged(vector.evidence.value, seed)
        other = Evidence(vector.evidence.type, value)
        expected = verdict(other, vector.endorsements, vector.now)
        assert keeping(other, vector.endorsements, vector.now, memory) == expected
    for seed, name in enumerate(vector.endorsements, 1):
        endorsements = {**vector.endorsements, name: damaged(vector.endorsements[name], seed)}
        expected = verdict(vector.evidence, endorsements, vector.now)
        assert keeping(vector.evidence, endorsements, vector.now, memory) == expected
        del endorsements[name]
        expected = verdict(vector.evidence, endorsements, vector.now)
        assert keeping(vector.evidence, endorsements, vector.now, memory) == expected
    for days in (-10_000, 10_000):
        moment = vector.now + timedelta(days=days)
        expected = verdict(vector.evidence, vector.endorsements, moment)
        assert not isinstance(expected, Genuine)
        assert keeping(vector.evidence, vector.endorsements, moment, memory) == expected
    assert keeping(vector.evidence, vector.endorsements, vector.now, memory) == plain


def test_certificates_of_one_vector_do_not_vouch_for_another() -> None:
    # All of them share one memory, each has the next one's endorsements.
    found = [load(folder) for folder in folders(SEV_SNP)]
    if not found:
        present(None)
    memory = Memory()
    for vector in found:
        keeping(vector.evidence, vector.endorsements, vector.now, memory)
    for vector, other in pairwise(found):
        expected = verdict(vector.evidence, other.endorsements, vector.now)
        assert keeping(vector.evidence, other.endorsements, vector.now, memory) == expected


def test_chain_that_is_remembered_expires_all_the_same(chip: SevSnpChip) -> None:
    measurements = {"measurement": b"\x11" * 48, "host_data": b"\x22" * 32}
    evidence, endorsements = chip.evidence(measurements, bytes(64), bytes(32), now=NOW)
    memory = Memory()
    assert isinstance(keeping(evidence, endorsements, NOW, memory), Genuine)
    for later, reason in (
        (timedelta(days=8 * 365), Reason.CERTIFICATE_EXPIRED),
        (timedelta(days=-365), Reason.CERTIFICATE_NOT_YET_VALID),
    ):
        found = keeping(evidence, endorsements, NOW + later, memory)
        assert not isinstance(found, Genuine)
        assert found[1] is reason


def test_chain_that_is_remembered_is_revoked_all_the_same(chip: SevSnpChip, amd: dict[str, bytes]) -> None:
    measurements = {"measurement": b"\x11" * 48, "host_data": b"\x22" * 32}
    evidence, endorsements = chip.evidence(measurements, bytes(64), bytes(32), now=NOW)
    memory = Memory()
    assert isinstance(keeping(evidence, endorsements, NOW, memory), Genuine)
    revoked = certificates.make_crl(
        certificates.load_certificate(amd, "ark.der"),
        certificates.load_rsa_key(amd, "ark.pem"),
        this_update=NOW - timedelta(hours=1),
        lifetime=timedelta(days=1),
        revoked=[simulated_snp.ASK_SERIAL],
    )
    found = keeping(evidence, {**endorsements, "crl.der": revoked}, NOW, memory)
    assert not isinstance(found, Genuine)
    assert found[1] is Reason.CERTIFICATE_REVOKED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda forge: forge.replaced.update(
                {
                    "root_ca_crl.der": ISSUER.revoke(
                        ISSUER.root, [ISSUER.pck_ca.certificate.serial_number], now=NOW
                    )
                }
            ),
            Reason.CERTIFICATE_REVOKED,
        ),
        (
            lambda forge: forge.tcb_info.update(nextUpdate="2026-11-23T11:59:59Z"),
            Reason.COLLATERAL_EXPIRED,
        ),
        (lambda forge: forge.tcb_info.update(fmspc="00" * 6), Reason.COLLATERAL_MISMATCH),
        (lambda forge: setattr(forge.qe, "isvprodid", 9), Reason.TCB_MISMATCH),
        (lambda forge: setattr(forge, "authentication_data", b"\x0b" * 32), None),
    ],
    ids=["revoked", "expired", "foreign", "another enclave", "another QE report"],
)
def test_platform_that_is_remembered_is_judged_anew(
    change: Callable[[Forge], object], reason: Reason | None
) -> None:
    forge, memory = Forge(issuer=ISSUER), Memory()

    def judged() -> Verdict:
        return keeping(
            Evidence("application/vnd.sealbus.tdx-quote", forge.quote()), forge.endorsements(), NOW, memory
        )

    assert isinstance(judged(), Genuine)
    change(forge)
    found = judged()
    if reason is None:
        assert isinstance(found, Genuine)
    else:
        assert not isinstance(found, Genuine)
        assert found[1] is reason


def test_quoting_enclave_that_is_remembered_vouches_for_its_own_key_only() -> None:
    forge, memory = Forge(issuer=ISSUER), Memory()
    genuine = Evidence("application/vnd.sealbus.tdx-quote", forge.quote())
    assert isinstance(keeping(genuine, forge.endorsements(), NOW, memory), Genuine)
    other = Forge(issuer=ISSUER)
    # Another attestation key signs, with the remembered QE report beside it.
    forged = assemble(forge.signed(), other.attestation_key, forge.certification())
    found = keeping(Evidence(genuine.type, forged), forge.endorsements(), NOW, memory)
    assert not isinstance(found, Genuine)
    assert found[1] is Reason.SIGNATURE_INVALID


# --- the door -----------------------------------------------------------------------------------


class Watched(Memory):
    """A memory that tells what it was given to keep."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = 0

    def put(self, learned: dict[bytes, tuple[object, int]]) -> None:
        self.kept += len(learned)
        super().put(learned)


def test_refused_appraisal_leaves_nothing_and_an_accepted_one_all(card: NitroCard) -> None:
    measurements = dict.fromkeys(MEASURED[NITRO], b"\x33" * 48)
    evidence, endorsements = card.evidence(measurements, bytes(64), bytes(32), now=NOW)
    named = WorkloadValues(workload="w", platform=NITRO, measurements=dict.fromkeys(measurements, "33" * 48))
    good = PlatformValues(lab_roots=(card.root,))
    memory = Watched()

    def appraised(platform: PlatformValues, value: bytes, challenge: bytes = bytes(32)) -> str:
        return appraise(
            Evidence(evidence.type, value),
            endorsements,
            ReferenceValues(platforms={NITRO: platform}, workloads=(named,)),
            key_binding=bytes(64),
            challenge=challenge,
            now=NOW,
            memory=memory,
        ).workload

    stranger = PlatformValues(lab_roots=("dd" * 32,))
    flipped = evidence.value[:-1] + bytes((evidence.value[-1] ^ 1,))
    for platform, value, challenge in (
        (stranger, evidence.value, bytes(32)),
        (good, flipped, bytes(32)),
        (good, evidence.value, b"\x01" * 32),
        (good, b"junk", bytes(32)),
    ):
        with pytest.raises(AttestationError):
            appraised(platform, value, challenge)
        assert memory.kept == 0
    assert appraised(good, evidence.value) == "w"
    assert memory.kept > 0
    before = memory.kept
    assert appraised(good, evidence.value) == "w"
    assert memory.kept == before
    # What is remembered accepts nobody: the policy and the challenge are asked again.
    with pytest.raises(AttestationError):
        appraised(stranger, evidence.value)
    with pytest.raises(AttestationError):
        appraised(good, evidence.value, b"\x01" * 32)
    with pytest.raises(AttestationError):
        appraised(good, flipped)
