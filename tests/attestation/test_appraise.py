"""Simulated evidence passes the door; with one thing changed it is refused, for that one reason."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.hashes import SHA384
from msgspec.structs import replace

from attestation import (
    AttestationError,
    EvidenceMalformedError,
    NotAcceptableError,
    NotGenuineError,
    appraise,
    der,
    nitro,
    workload_id,
)
from attestation.acceptable import judge, judge_binding
from attestation.appraise import accepted, verify
from attestation.assess import assess
from attestation.claims import Genuine
from attestation.describe import describe
from attestation.errors import UnsupportedPlatformError
from attestation.nitro.parse import LAST_TIMESTAMP
from attestation.x509 import ECDSA_SHA384, PSS_PADDING, PSS_SHA384
from lab.simulate import certificates
from lab.simulate import sev_snp as simulated_snp
from lab.simulate.nitro import NitroCard
from lab.simulate.sev_snp import SevSnpChip
from schemas.errors import Reason, UsageError
from schemas.evidence import (
    MAX_ENDORSEMENTS,
    MAX_EVIDENCE,
    MEASURED,
    NITRO,
    SEV_SNP,
    TDX,
    AttestationResult,
    Endorsements,
    Evidence,
    PlatformValues,
    ProductValues,
    Publisher,
    ReferenceValues,
    WorkloadValues,
)
from tests.attestation.clouds import CLOUD, SIGNED_BY_VLEK, cloud_chain, ia5

NOW = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
KEY_BINDING = bytes(range(64))
CHALLENGE = bytes(range(100, 132))
AMD = "1.3.6.1.4.1.3704.1"
MEASUREMENTS = {
    "measurement": b"\x11" * 48,
    "host_data": b"\x22" * 32,
    "pcr0": b"\x33" * 48,
    "pcr1": b"\x44" * 48,
    "pcr2": b"\x55" * 48,
}


@dataclass
class Case:
    """One appraisal that succeeds as it stands; a test changes one part of it."""

    evidence: Evidence
    endorsements: Endorsements
    platforms: dict[str, PlatformValues]
    workloads: list[WorkloadValues]
    key_binding: bytes = KEY_BINDING
    challenge: bytes = CHALLENGE
    now: datetime = NOW

    def appraise(self) -> AttestationResult:
        return appraise(
            self.evidence,
            self.endorsements,
            ReferenceValues(platforms=self.platforms, workloads=tuple(self.workloads)),
            key_binding=self.key_binding,
            challenge=self.challenge,
            now=self.now,
        )

    def demand(self, **changes: Any) -> None:
        """Change what the policy says of the platform."""
        self.platforms = {name: replace(values, **changes) for name, values in self.platforms.items()}

    def name(self, **changes: Any) -> None:
        """Change what the policy says of the workload."""
        self.workloads = [replace(each, **changes) for each in self.workloads]

    def assert_refused(self, kind: type[AttestationError], reason: Reason) -> AttestationError:
        with pytest.raises(AttestationError) as refusal:
            self.appraise()
        assert (type(refusal.value), refusal.value.reason) == (kind, reason)
        return refusal.value


def reference(platform: str, workload: str = "redactor") -> WorkloadValues:
    measurements = {name: MEASUREMENTS[name].hex() for name in MEASURED[platform]}
    return WorkloadValues(workload=workload, platform=platform, measurements=measurements)


@pytest.fixture
def snp(chip: SevSnpChip) -> Case:
    evidence, endorsements = chip.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW)
    platforms = {SEV_SNP: PlatformValues(lab_roots=(chip.root,), require_crl=True)}
    return Case(evidence, dict(endorsements), platforms, [reference(SEV_SNP)])


@pytest.fixture
def enclave(card: NitroCard) -> Case:
    evidence, endorsements = card.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW)
    platforms = {NITRO: PlatformValues(lab_roots=(card.root,))}
    return Case(evidence, dict(endorsements), platforms, [reference(NITRO)])


@pytest.fixture(params=["snp", "enclave"])
def either(request: pytest.FixtureRequest) -> Case:
    case: Case = request.getfixturevalue(request.param)
    return case


@pytest.fixture
def report_with(chip: SevSnpChip) -> Callable[[dict[int, bytes]], Evidence]:
    """Give a maker of reports in which some bytes differ, signed by the chip all the same."""

    def make(changes: dict[int, bytes]) -> Evidence:
        body = bytearray(chip.body(MEASUREMENTS, KEY_BINDING))
        for offset, value in changes.items():
            body[offset : offset + len(value)] = value
        return Evidence("application/vnd.sealbus.sev-snp-report", chip.sign(bytes(body)))

    return make


@pytest.fixture
def document_with(card: NitroCard) -> Callable[[dict[str, Any]], Evidence]:
    """Give a maker of documents in which some fields differ, signed by the card all the same."""

    def make(changes: dict[str, Any]) -> Evidence:
        fields = card.fields(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW)
        return Evidence(nitro.MEDIA_TYPE, card.sign({**fields, **changes}))

    return make


ReportWith = Callable[[dict[int, bytes]], Evidence]
DocumentWith = Callable[[dict[str, Any]], Evidence]


# What is accepted, and what is said of it


def test_what_the_policy_names_is_accepted(either: Case) -> None:
    result = either.appraise()
    assert result.workload == "redactor"
    assert result.workload_id == workload_id(either.workloads[0])
    assert result.platform in either.platforms
    assert not result.debug


def test_invariant_07_lab_is_the_policys_own_word_and_nothing_else(either: Case) -> None:
    assert either.appraise().lab
    [values] = either.platforms.values()
    either.demand(roots=values.lab_roots, lab_roots=())
    assert not either.appraise().lab


def test_workload_id_tells_platform_and_measurements_apart_and_not_the_name() -> None:
    named = reference(SEV_SNP)
    more = replace(named, measurements={**named.measurements, "image_id": "00" * 16})
    assert workload_id(named) == workload_id(replace(named, workload="other", debuggable=True))
    assert len({workload_id(each) for each in (named, more, reference(NITRO))}) == 3


def test_chip_and_instance_are_named_as_a_policy_names_them(
    snp: Case, enclave: Case, chip: SevSnpChip, card: NitroCard
) -> None:
    assert snp.appraise().chip == chip.chip_id.hex()
    assert enclave.appraise().chip == card.instance_id


# 1 and 2: platform and root


def test_media_type_without_verifier_is_refused(either: Case) -> None:
    either.evidence = replace(either.evidence, type="application/vnd.sealbus.sgx-quote")
    either.assert_refused(UnsupportedPlatformError, Reason.UNSUPPORTED_PLATFORM)


def test_evidence_under_anothers_media_type_is_malformed(snp: Case, enclave: Case) -> None:
    snp.evidence, enclave.evidence = (
        replace(snp.evidence, type=enclave.evidence.type),
        replace(enclave.evidence, type=snp.evidence.type),
    )
    snp.assert_refused(EvidenceMalformedError, Reason.MALFORMED)
    enclave.assert_refused(EvidenceMalformedError, Reason.MALFORMED)


def test_platform_that_the_policy_does_not_name_is_refused(either: Case) -> None:
    either.platforms = {TDX: PlatformValues(roots=("00" * 32,))}
    either.assert_refused(NotAcceptableError, Reason.PLATFORM_NOT_IN_POLICY)


def test_root_that_the_policy_does_not_name_is_refused(either: Case) -> None:
    either.demand(lab_roots=("ab" * 32,))
    either.assert_refused(NotAcceptableError, Reason.ROOT_NOT_IN_POLICY)


def test_root_of_one_platform_is_no_root_of_another(snp: Case, card: NitroCard) -> None:
    snp.platforms = {
        SEV_SNP: PlatformValues(lab_roots=(card.root,)),
        NITRO: PlatformValues(lab_roots=snp.platforms[SEV_SNP].lab_roots),
    }
    snp.assert_refused(NotAcceptableError, Reason.ROOT_NOT_IN_POLICY)


# 3: binding


def test_other_keys_are_refused(either: Case) -> None:
    either.key_binding = bytes(64)
    either.assert_refused(NotAcceptableError, Reason.KEY_BINDING_MISMATCH)


def test_nitro_document_for_another_challenge_is_refused(enclave: Case) -> None:
    enclave.challenge = bytes(32)
    enclave.assert_refused(NotAcceptableError, Reason.CHALLENGE_UNKNOWN)


def test_nitro_document_without_challenge_is_refused(enclave: Case, document_with: DocumentWith) -> None:
    enclave.evidence = document_with({"nonce": None})
    enclave.assert_refused(NotAcceptableError, Reason.CHALLENGE_UNKNOWN)


@pytest.mark.parametrize("user_data", [None, b"", KEY_BINDING[:63], KEY_BINDING + b"\0"])
def test_nitro_document_that_binds_less_or_more_is_refused(
    user_data: bytes | None, enclave: Case, document_with: DocumentWith
) -> None:
    enclave.evidence = document_with({"user_data": user_data})
    enclave.assert_refused(NotAcceptableError, Reason.KEY_BINDING_MISMATCH)


def test_nitro_document_with_a_key_of_its_own_is_refused(enclave: Case, document_with: DocumentWith) -> None:
    enclave.evidence = document_with({"public_key": b"k"})
    enclave.assert_refused(NotAcceptableError, Reason.KEY_BINDING_MISMATCH)


def test_caller_who_hands_in_no_digest_is_told_so(either: Case) -> None:
    either.key_binding = b""
    with pytest.raises(UsageError):
        either.appraise()
    either.key_binding, either.challenge = KEY_BINDING, b""
    with pytest.raises(UsageError):
        either.appraise()


# 4: debug, migration, privilege


def test_invariant_07_debuggable_guest_is_refused(
    snp: Case, enclave: Case, chip: SevSnpChip, card: NitroCard
) -> None:
    snp.evidence, _ = chip.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW, debug=True)
    snp.assert_refused(NotAcceptableError, Reason.DEBUG_ENABLED)
    enclave.evidence, _ = card.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW, debug=True)
    enclave.assert_refused(NotAcceptableError, Reason.DEBUG_ENABLED)


def test_debuggable_guest_is_accepted_only_as_the_workload_named_so(snp: Case, chip: SevSnpChip) -> None:
    other = reference(SEV_SNP, "other")
    other = replace(other, measurements={**other.measurements, "host_data": "00" * 32}, debuggable=True)
    snp.workloads.append(other)
    snp.evidence, _ = chip.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW, debug=True)
    snp.assert_refused(NotAcceptableError, Reason.DEBUG_ENABLED)
    snp.name(debuggable=True)
    result = snp.appraise()
    assert (result.workload, result.debug) == ("redactor", True)


def test_zeros_named_by_the_policy_do_not_make_a_debug_enclave_production(
    enclave: Case, card: NitroCard
) -> None:
    enclave.evidence, _ = card.evidence(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW, debug=True)
    enclave.name(measurements=dict.fromkeys(MEASURED[NITRO], "00" * 48))
    enclave.assert_refused(NotAcceptableError, Reason.DEBUG_ENABLED)
    enclave.name(debuggable=True)
    assert enclave.appraise().debug


@pytest.mark.parametrize(
    "changes",
    [{0x008: (0x30000 | 1 << 18).to_bytes(8, "little")}, {0x160: bytes(32)}],
    ids=["policy allows an agent", "an agent is bound"],
)
def test_guest_that_can_migrate_is_refused(
    changes: dict[int, bytes], snp: Case, report_with: ReportWith
) -> None:
    snp.evidence = report_with(changes)
    snp.assert_refused(NotAcceptableError, Reason.MIGRATABLE)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_report_for_a_lesser_privilege_level_is_refused(
    level: int, snp: Case, report_with: ReportWith
) -> None:
    snp.evidence = report_with({0x030: level.to_bytes(4, "little")})
    snp.assert_refused(NotAcceptableError, Reason.PRIVILEGE_LEVEL)


@pytest.mark.parametrize("level", [4, 0xFFFFFFFF])
def test_report_that_the_host_asked_for_is_not_genuine(
    level: int, snp: Case, report_with: ReportWith
) -> None:
    snp.evidence = report_with({0x030: level.to_bytes(4, "little")})
    snp.assert_refused(NotGenuineError, Reason.PRIVILEGE_LEVEL)


# 5: TCB


def test_tcb_at_its_floor_is_accepted_and_one_below_refused(snp: Case) -> None:
    snp.demand(minimum_tcb={"boot_loader": 4, "tee": 0, "snp": 0x18, "microcode": 0xDB})
    snp.appraise()
    snp.demand(minimum_tcb={"microcode": 0xDC})
    snp.assert_refused(NotAcceptableError, Reason.TCB_NOT_ACCEPTED)


def test_floor_for_a_component_that_the_platform_lacks_is_refused(either: Case) -> None:
    either.demand(minimum_tcb={"fmc": 0})
    either.assert_refused(NotAcceptableError, Reason.TCB_NOT_ACCEPTED)


def test_guest_launched_below_the_floor_is_refused_though_the_firmware_was_updated_since(
    snp: Case, report_with: ReportWith
) -> None:
    snp.demand(minimum_tcb={"snp": 0x18})
    snp.evidence = report_with({0x1F0: bytes.fromhex("04000000000017db")})
    snp.assert_refused(NotAcceptableError, Reason.TCB_NOT_ACCEPTED)


def test_launch_tcb_lifts_no_floor(snp: Case, report_with: ReportWith) -> None:
    snp.demand(minimum_tcb={"microcode": 0xDC})
    snp.evidence = report_with({0x1F0: bytes.fromhex("04000000000018ff")})
    snp.assert_refused(NotAcceptableError, Reason.TCB_NOT_ACCEPTED)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({}, None),
        ({"status": "OutOfDate"}, Reason.TCB_STATUS_NOT_ACCEPTED),
        ({"status": "Revoked"}, Reason.TCB_REVOKED),
        ({"status": "", "missing": ("tcb_info.json",)}, Reason.NO_COLLATERAL),
        ({"missing": ("pck_crl.der",)}, Reason.NO_COLLATERAL),
        ({"sept_ve_disable": False}, Reason.SEPT_VE_ENABLED),
        ({"service_td": True}, Reason.SERVICE_TD),
        ({"unknown_attributes": True}, Reason.ATTRIBUTE_UNKNOWN),
        ({"migratable": True}, Reason.MIGRATABLE),
        ({"debug": True}, Reason.DEBUG_ENABLED),
    ],
)
def test_claims_of_a_trust_domain_are_judged_alike(claims: dict[str, Any], reason: Reason | None) -> None:
    measurements = dict.fromkeys(MEASURED[TDX], "aa" * 48)
    good: dict[str, Any] = {
        "status": "UpToDate",
        "measurements": measurements,
        "tcb": {},
    }
    genuine = Genuine(platform=TDX, root="cc" * 32, report_data=KEY_BINDING, **(good | claims))
    values = ReferenceValues(
        platforms={TDX: PlatformValues(roots=("cc" * 32,))},
        workloads=(WorkloadValues(workload="linker", platform=TDX, measurements=measurements),),
    )
    judgement = judge(genuine, values, binding=judge_binding(genuine, KEY_BINDING, CHALLENGE), now=NOW)
    if reason is None:
        result = accepted(genuine, judgement, values)
        assert (result.workload, result.status) == ("linker", "UpToDate")
        return
    with pytest.raises(NotAcceptableError) as refusal:
        accepted(genuine, judgement, values)
    assert refusal.value.reason is reason


# 6 and 7: measurements and chips


@pytest.mark.parametrize("name", [*MEASURED[SEV_SNP], *MEASURED[NITRO]])
def test_every_measurement_counts(name: str, snp: Case, enclave: Case) -> None:
    case = snp if name in MEASURED[SEV_SNP] else enclave
    [workload] = case.workloads
    case.name(measurements={**workload.measurements, name: "ee" + workload.measurements[name][2:]})
    case.assert_refused(NotAcceptableError, Reason.MEASUREMENT_NOT_IN_POLICY)


def test_measurement_that_was_launched_otherwise_is_refused(snp: Case, report_with: ReportWith) -> None:
    snp.evidence = report_with({0x090: b"\x10"})
    snp.assert_refused(NotAcceptableError, Reason.MEASUREMENT_NOT_IN_POLICY)


def test_measurements_beyond_the_required_ones_can_be_pinned(either: Case, card: NitroCard) -> None:
    [workload] = either.workloads
    extra = {SEV_SNP: ("image_id", "00" * 16), NITRO: ("pcr3", "00" * 48)}[workload.platform]
    either.name(measurements={**workload.measurements, extra[0]: extra[1]})
    either.appraise()
    either.name(measurements={**workload.measurements, extra[0]: "01" + extra[1][2:]})
    either.assert_refused(NotAcceptableError, Reason.MEASUREMENT_NOT_IN_POLICY)


def test_measurement_that_the_platform_does_not_have_never_matches(either: Case) -> None:
    [workload] = either.workloads
    either.name(measurements={**workload.measurements, "mrtd": "00" * 48})
    either.assert_refused(NotAcceptableError, Reason.MEASUREMENT_NOT_IN_POLICY)


@pytest.mark.parametrize("change", ["absent", "empty"])
def test_incomplete_reference_values_match_nothing_and_the_refusal_says_so(change: str, either: Case) -> None:
    [workload] = either.workloads
    for name in workload.measurements:
        measurements = dict(workload.measurements)
        if change == "absent":
            del measurements[name]
        else:
            measurements[name] = ""
        either.workloads = [replace(workload, measurements=measurements)]
        refusal = either.assert_refused(NotAcceptableError, Reason.MEASUREMENT_NOT_PINNED)
        assert name in refusal.detail


def test_values_of_another_platform_do_not_count(snp: Case) -> None:
    snp.workloads = [replace(reference(NITRO), measurements={})]
    refusal = snp.assert_refused(NotAcceptableError, Reason.MEASUREMENT_NOT_IN_POLICY)
    assert "none is named on this platform" in refusal.detail


def test_chip_that_the_workload_does_not_name_is_refused(
    snp: Case, enclave: Case, chip: SevSnpChip, card: NitroCard
) -> None:
    for case, own in ((snp, chip.chip_id.hex()), (enclave, card.instance_id)):
        case.name(chips=(own,))
        case.appraise()
        case.name(chips=("00" * 64, "i-00000000000000000"))
        case.assert_refused(NotAcceptableError, Reason.CHIP_NOT_IN_POLICY)
        case.name(chips=())
        case.assert_refused(NotAcceptableError, Reason.CHIP_NOT_IN_POLICY)


def test_chip_that_the_report_masks_is_the_one_of_its_certificate(
    snp: Case, chip: SevSnpChip, report_with: ReportWith
) -> None:
    snp.evidence = report_with({0x1A0: bytes(64)})
    snp.name(chips=(chip.chip_id.hex(),))
    assert snp.appraise().chip == chip.chip_id.hex()
    # So a host that masks it takes no chip off a list.
    snp.name(chips=("00" * 64,))
    snp.assert_refused(NotAcceptableError, Reason.CHIP_NOT_IN_POLICY)


def test_same_image_is_another_workload_on_another_chip(snp: Case, chip: SevSnpChip) -> None:
    elsewhere = replace(reference(SEV_SNP, "elsewhere"), chips=("00" * 64,))
    here = replace(reference(SEV_SNP, "here"), chips=(chip.chip_id.hex(),))
    snp.workloads = [elsewhere, here]
    assert snp.appraise().workload == "here"


# SEV-SNP: genuine or not


def test_bytes_changed_after_signing_are_refused(snp: Case) -> None:
    value = bytearray(snp.evidence.value)
    value[0x090] ^= 1
    snp.evidence = replace(snp.evidence, value=bytes(value))
    snp.assert_refused(NotGenuineError, Reason.SIGNATURE_INVALID)


@pytest.mark.parametrize("name", ["vcek.der", "ask.der", "ark.der"])
def test_missing_certificate_is_refused(name: str, snp: Case) -> None:
    del snp.endorsements[name]
    snp.assert_refused(NotGenuineError, Reason.NO_COLLATERAL)


def test_certificate_of_another_chip_is_refused(snp: Case, amd: dict[str, bytes]) -> None:
    snp.endorsements = SevSnpChip.from_files(amd, serial=2).endorsements
    snp.assert_refused(NotGenuineError, Reason.CHIP_MISMATCH)


def test_report_that_its_own_chip_did_not_sign_is_called_forged(snp: Case, report_with: ReportWith) -> None:
    value = bytearray(snp.evidence.value)
    value[-400] ^= 1  # within the signature's S
    snp.evidence = replace(snp.evidence, value=bytes(value))
    snp.assert_refused(NotGenuineError, Reason.SIGNATURE_INVALID)


def test_report_that_names_another_chip_is_refused(snp: Case, report_with: ReportWith) -> None:
    snp.evidence = report_with({0x1A0: b"\x01" * 64})
    snp.assert_refused(NotGenuineError, Reason.CHIP_MISMATCH)


@pytest.mark.parametrize("cpuid", [b"\x19\x01", b"\x1a\x11", b"\x1a\x01", b"\x00\x00"])
def test_report_of_another_processor_line_is_refused(
    cpuid: bytes, snp: Case, report_with: ReportWith
) -> None:
    snp.evidence = report_with({0x188: cpuid})
    snp.assert_refused(NotGenuineError, Reason.CHIP_MISMATCH)


@pytest.mark.parametrize("position", [0, 1, 6, 7])
def test_certificate_for_another_tcb_is_refused(position: int, snp: Case, report_with: ReportWith) -> None:
    tcb = bytearray(simulated_snp.TCB)
    tcb[position] += 1
    snp.evidence = report_with({0x180: bytes(tcb)})
    snp.assert_refused(NotGenuineError, Reason.TCB_MISMATCH)


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (NOW - timedelta(days=365), Reason.CERTIFICATE_NOT_YET_VALID),
        (NOW + timedelta(days=8 * 365), Reason.CERTIFICATE_EXPIRED),
    ],
    ids=["before the VCEK", "after the VCEK"],
)
def test_report_outside_its_certificates_validity_is_refused(
    moment: datetime, reason: Reason, snp: Case
) -> None:
    snp.now = moment
    snp.assert_refused(NotGenuineError, reason)


def test_report_of_a_cloud_key_needs_a_cloud_certificate(snp: Case, report_with: ReportWith) -> None:
    snp.evidence = report_with({0x048: b"\x04"})
    snp.assert_refused(NotGenuineError, Reason.NO_COLLATERAL)
    snp.endorsements["vlek.der"] = snp.endorsements["vcek.der"]
    snp.assert_refused(NotGenuineError, Reason.CHAIN_INVALID)


def test_report_says_whether_its_chips_key_is_masked(report_with: ReportWith) -> None:
    for key_info, masked in ((b"\0", False), (b"\2", True)):
        evidence = report_with({0x048: key_info})
        assert {each.name: each.value for each in describe(evidence)}["chip key masked"] is masked


def test_report_of_a_chips_key_that_it_says_is_masked_is_refused(snp: Case, report_with: ReportWith) -> None:
    snp.evidence = report_with({0x048: b"\2"})
    snp.assert_refused(NotGenuineError, Reason.SIGNATURE_INVALID)


def test_report_of_no_key_is_refused(snp: Case, report_with: ReportWith) -> None:
    snp.evidence = report_with({0x048: b"\x1e"})
    snp.assert_refused(EvidenceMalformedError, Reason.SIGNATURE_INVALID)


@pytest.mark.parametrize("version", [0, 1, 6])
def test_report_of_unknown_version_is_refused(version: int, snp: Case, report_with: ReportWith) -> None:
    snp.evidence = report_with({0x000: version.to_bytes(4, "little")})
    snp.assert_refused(EvidenceMalformedError, Reason.UNSUPPORTED_VERSION)


@pytest.mark.parametrize(
    "changes",
    [
        {0x00B: b"\x04"},
        {0x00A: b"\x01"},
        {0x048: b"\x20"},
        {0x04C: b"\1"},
        {0x182: b"\1"},
        {0x18B: b"\1"},
        {0x1F4: b"\1"},
        {0x1F8: b"\1"},
        {0x208: b"\1"},
    ],
    ids=["policy bit", "policy's one bit", "key info", "reserved", "TCB", "CPUID", "launch", "v5", "end"],
)
def test_report_with_unknown_bits_is_refused(
    changes: dict[int, bytes], snp: Case, report_with: ReportWith
) -> None:
    snp.evidence = report_with(changes)
    snp.assert_refused(EvidenceMalformedError, Reason.MALFORMED)


def test_report_from_before_processors_were_named_names_none(snp: Case, report_with: ReportWith) -> None:
    snp.evidence = report_with({0x000: b"\2", 0x188: bytes(3)})
    snp.appraise()
    for offset in (0x188, 0x189, 0x18A):
        snp.evidence = report_with({0x000: b"\2", 0x188: bytes(3), offset: b"\x19"})
        snp.assert_refused(EvidenceMalformedError, Reason.MALFORMED)


def test_features_are_those_that_the_platform_has_on(snp: Case, report_with: ReportWith) -> None:
    # The simulated platform has SMT, ECC memory and checked aliases.
    snp.demand(features=("ecc", "alias-check"))
    snp.appraise()
    for feature in ("tsme", "rapl-disabled", "ciphertext-hiding", "tio", "smt-disabled"):
        snp.demand(features=("ecc", feature))
        snp.assert_refused(NotAcceptableError, Reason.FEATURE_ABSENT)
    snp.demand(features=("smt-disabled",))
    snp.evidence = report_with({0x040: b"\x24"})
    snp.appraise()


def test_zeros_where_a_publisher_would_be_mean_that_nobody_signed(
    snp: Case, enclave: Case, report_with: ReportWith
) -> None:
    for case, key in ((snp, "00" * 48), (enclave, "00" * 48)):
        case.name(publisher=Publisher(key=key, minimum_svn=0 if case is snp else None))
        case.assert_refused(NotAcceptableError, Reason.PUBLISHER_NOT_IN_POLICY)
    # An author key counts only where the report says that there is one.
    author = {0x110: b"\x0f" * 48}
    snp.name(publisher=Publisher(key="0f" * 48, minimum_svn=0))
    snp.evidence = report_with(author)
    snp.assert_refused(NotAcceptableError, Reason.PUBLISHER_NOT_IN_POLICY)
    snp.evidence = report_with({**author, 0x048: b"\x01"})
    snp.appraise()
    snp.evidence = report_with({0x0E0: b"\x0f" * 48})
    snp.appraise()


def test_report_of_another_signature_algorithm_is_refused(snp: Case, report_with: ReportWith) -> None:
    snp.evidence = report_with({0x034: b"\2"})
    snp.assert_refused(EvidenceMalformedError, Reason.UNSUPPORTED_VERSION)


@pytest.mark.parametrize("offset", [0x330, 0x49F])
def test_bytes_after_the_signature_are_refused(offset: int, snp: Case) -> None:
    value = bytearray(snp.evidence.value)
    value[offset] = 1
    snp.evidence = replace(snp.evidence, value=bytes(value))
    snp.assert_refused(EvidenceMalformedError, Reason.MALFORMED)


def test_crl_that_the_policy_requires_may_not_be_absent(snp: Case) -> None:
    del snp.endorsements["crl.der"]
    snp.assert_refused(NotAcceptableError, Reason.NO_REVOCATION_LIST)
    snp.demand(require_crl=False)
    assert snp.appraise().warnings == (Reason.NO_REVOCATION_LIST,)


def crl(files: Mapping[str, bytes], **changes: Any) -> bytes:
    issuer = changes.pop("issuer", "ark.der")
    key = changes.pop("key", "ark.pem")
    defaults: dict[str, Any] = {"this_update": NOW - timedelta(hours=1), "lifetime": timedelta(days=30)}
    return certificates.make_crl(
        certificates.load_certificate(files, issuer),
        certificates.load_rsa_key(files, key),
        **defaults | changes,
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"revoked": [simulated_snp.ASK_SERIAL]}, Reason.CERTIFICATE_REVOKED),
        ({"lifetime": timedelta(minutes=1)}, Reason.COLLATERAL_EXPIRED),
        ({"this_update": NOW + timedelta(hours=1)}, Reason.COLLATERAL_EXPIRED),
        ({"key": "ask.pem"}, Reason.SIGNATURE_INVALID),
        ({"issuer": "ask.der", "key": "ask.pem"}, Reason.COLLATERAL_MISMATCH),
    ],
    ids=["revoked", "old", "not yet", "another key", "another issuer"],
)
def test_crl_is_believed_only_of_the_root_and_of_today(
    changes: dict[str, Any], reason: Reason, snp: Case, amd: dict[str, bytes]
) -> None:
    snp.endorsements["crl.der"] = crl(amd, revoked=[7])
    snp.appraise()
    snp.endorsements["crl.der"] = crl(amd, **changes)
    snp.assert_refused(NotGenuineError, reason)


def test_offered_crl_counts_though_the_policy_requires_none(snp: Case, amd: dict[str, bytes]) -> None:
    snp.demand(require_crl=False)
    snp.endorsements["crl.der"] = crl(amd, revoked=[simulated_snp.ASK_SERIAL])
    snp.assert_refused(NotGenuineError, Reason.CERTIFICATE_REVOKED)


@pytest.mark.parametrize("serial", [simulated_snp.ASK_SERIAL, simulated_snp.ARK_SERIAL])
@pytest.mark.parametrize("name", ["crl_2.der", "crl_5.der"])
def test_every_valid_list_beside_the_first_is_applied_and_no_other(
    name: str, serial: int, snp: Case, amd: dict[str, bytes]
) -> None:
    first = crl(amd, revoked=[7])
    for listed in ({"crl.der": first}, {}):
        snp.demand(require_crl=False)
        snp.endorsements.pop("crl.der", None)
        snp.endorsements |= listed
        for unlike in ({"this_update": NOW + timedelta(days=1)}, {"key": "ask.pem"}, {"issuer": "ask.der"}):
            snp.endorsements[name] = crl(amd, revoked=[serial], **unlike)
            snp.appraise()
        for nobodys in (b"junk", crl(amd, revoked=[7], this_update=NOW - timedelta(days=90))):
            snp.endorsements[name] = nobodys
            snp.appraise()
        # A revocation outlives its list.
        for days in (2, 90):
            snp.endorsements[name] = crl(amd, revoked=[serial], this_update=NOW - timedelta(days=days))
            snp.assert_refused(NotGenuineError, Reason.CERTIFICATE_REVOKED)


def test_crl_that_names_the_root_itself_is_believed(snp: Case, amd: dict[str, bytes]) -> None:
    snp.endorsements["crl.der"] = crl(amd, revoked=[simulated_snp.ARK_SERIAL])
    refusal = snp.assert_refused(NotGenuineError, Reason.CERTIFICATE_REVOKED)
    assert f"the root certificate, serial number {simulated_snp.ARK_SERIAL:x}," in refusal.seen


def test_crl_is_as_old_as_the_policy_allows_and_no_older(snp: Case, amd: dict[str, bytes]) -> None:
    snp.demand(max_collateral_days=30, require_crl=False)
    issued = NOW.replace(microsecond=0)
    snp.endorsements["crl.der"] = crl(amd, this_update=issued - timedelta(days=29), lifetime=timedelta(90))
    snp.appraise()
    snp.endorsements["crl.der"] = crl(amd, this_update=issued - timedelta(days=31), lifetime=timedelta(90))
    snp.assert_refused(NotAcceptableError, Reason.COLLATERAL_TOO_OLD)
    # Of one that is absent nobody knows how old it is.
    del snp.endorsements["crl.der"]
    snp.assert_refused(NotAcceptableError, Reason.NO_REVOCATION_LIST)


def test_committed_tcb_is_no_higher_than_what_is_certified(snp: Case, report_with: ReportWith) -> None:
    floor = simulated_snp.TCB[6]
    snp.evidence = report_with({0x1E6: bytes((floor + 1,))})
    snp.demand(products={"Genoa": ProductValues(minimum_committed_tcb={"snp": floor})})
    snp.appraise()
    snp.demand(products={"Genoa": ProductValues(minimum_committed_tcb={"snp": floor + 1})})
    snp.assert_refused(NotAcceptableError, Reason.TCB_NOT_ACCEPTED)


def test_intermediate_that_the_root_did_not_sign_is_refused(snp: Case, amd: dict[str, bytes]) -> None:
    # It says that the root issued it, and is signed by its own key.
    key = certificates.load_rsa_key(amd, "ask.pem")
    impostor = certificates.make_ca(
        "SEV-Genoa",
        key,
        serial=9,
        not_before=NOW - timedelta(days=30),
        lifetime=timedelta(days=90),
        issuer=(certificates.load_certificate(amd, "ark.der"), key),
    )
    snp.endorsements["ask.der"] = certificates.der(impostor)
    snp.assert_refused(NotGenuineError, Reason.CHAIN_INVALID)


def test_root_that_did_not_sign_itself_is_refused(snp: Case, amd: dict[str, bytes]) -> None:
    # The chain is signed all through, but what it ends in is not a root.
    ask_key, ark_key = (certificates.load_rsa_key(amd, name) for name in ("ask.pem", "ark.pem"))
    ask = certificates.load_certificate(amd, "ask.der")
    cross = certificates.make_ca(
        "ARK-Genoa",
        ark_key,
        serial=9,
        not_before=NOW - timedelta(days=30),
        lifetime=timedelta(days=90),
        issuer=(ask, ask_key),
    )
    snp.endorsements["ark.der"] = certificates.der(cross)
    snp.assert_refused(NotGenuineError, Reason.CHAIN_INVALID)


def test_certificate_signed_with_other_padding_than_it_names_is_refused(
    snp: Case, amd: dict[str, bytes]
) -> None:
    outer = der.read_only(snp.endorsements["vcek.der"], der.SEQUENCE)
    body = outer.item(der.SEQUENCE)
    key = certificates.load_rsa_key(amd, "ask.pem")
    for scheme in (padding.PKCS1v15(), padding.PSS(padding.MGF1(SHA384()), salt_length=32)):
        signature = key.sign(body, scheme, SHA384())
        snp.endorsements["vcek.der"] = der.item(der.SEQUENCE, body, PSS_SHA384, der.bits(signature))
        snp.assert_refused(NotGenuineError, Reason.CHAIN_INVALID)


def test_certificate_that_names_another_algorithm_than_it_is_signed_with_is_refused(
    snp: Case, amd: dict[str, bytes]
) -> None:
    body = der.read_only(snp.endorsements["vcek.der"], der.SEQUENCE).item(der.SEQUENCE)
    content = der.Reader(body).content(der.SEQUENCE)
    key = certificates.load_rsa_key(amd, "ask.pem")
    for named, sound in ((PSS_SHA384, True), (ECDSA_SHA384, False)):
        # It is the right key's, with the right padding, over these very bytes.
        changed = der.item(der.SEQUENCE, content.replace(PSS_SHA384, named))
        signature = der.bits(key.sign(changed, PSS_PADDING, SHA384()))
        snp.endorsements["vcek.der"] = der.item(der.SEQUENCE, changed, named, signature)
        if sound:
            snp.appraise()
        else:
            snp.assert_refused(NotGenuineError, Reason.CHAIN_INVALID)


def reissue(vcek: bytes, amd: Mapping[str, bytes], old: bytes, new: bytes) -> bytes:
    """Change a few bytes of a VCEK's body and have AMD sign it again."""
    body = der.read_only(vcek, der.SEQUENCE).item(der.SEQUENCE)
    assert body.count(old) == 1
    assert len(old) == len(new)
    changed = body.replace(old, new)
    signature = certificates.load_rsa_key(amd, "ask.pem").sign(changed, PSS_PADDING, SHA384())
    return der.item(der.SEQUENCE, changed, PSS_SHA384, der.bits(signature))


@pytest.mark.parametrize(
    ("old", "new", "kind", "reason"),
    [
        (b"SEV-VCEK", b"SEV-VLEK", NotGenuineError, Reason.CHAIN_INVALID),
        (b"SEV-Genoa", b"SEV-Milan", NotGenuineError, Reason.CHAIN_INVALID),
        (b"\x16\x05Genoa", b"\x16\x05Milan", NotGenuineError, Reason.CHAIN_INVALID),
        (b"\x16\x05Genoa", b"\x16\x05Turin", EvidenceMalformedError, Reason.UNSUPPORTED_VERSION),
        (b"\x16\x05Genoa", b"\x16\x05Siena", EvidenceMalformedError, Reason.UNSUPPORTED_VERSION),
        # Hardware id and a TCB component under object identifiers that mean nothing.
        (
            der.oid("1.3.6.1.4.1.3704.1.4"),
            der.oid("1.3.6.1.4.1.3704.1.6"),
            NotGenuineError,
            Reason.CHAIN_INVALID,
        ),
        (
            der.oid("1.3.6.1.4.1.3704.1.3.8"),
            der.oid("1.3.6.1.4.1.3704.1.9.8"),
            EvidenceMalformedError,
            Reason.MALFORMED,
        ),
        (
            der.oid("1.3.6.1.4.1.3704.1.1") + b"\x04\x03\x02\x01\x00",
            der.oid("1.3.6.1.4.1.3704.1.1") + b"\x04\x03\x02\x01\x01",
            EvidenceMalformedError,
            Reason.UNSUPPORTED_VERSION,
        ),
    ],
    ids=["kind", "issuer", "product", "layout", "unknown product", "no chip", "no microcode", "structure"],
)
def test_certificate_that_says_something_else_is_refused_though_signed(
    old: bytes,
    new: bytes,
    kind: type[AttestationError],
    reason: Reason,
    snp: Case,
    amd: dict[str, bytes],
) -> None:
    snp.endorsements["vcek.der"] = reissue(snp.endorsements["vcek.der"], amd, old, new)
    found = snp.assert_refused(kind, reason)
    assert bool(found.seen and found.wanted) or reason is not Reason.UNSUPPORTED_VERSION


def test_hardware_id_of_another_size_is_malformed(snp: Case, amd: dict[str, bytes], chip: SevSnpChip) -> None:
    since = NOW - timedelta(days=1)
    snp.endorsements["vcek.der"] = simulated_snp.make_vcek(
        amd, chip.key.public_key(), chip_id=chip.chip_id[:8], tcb=simulated_snp.TCB, not_before=since
    )
    snp.assert_refused(EvidenceMalformedError, Reason.MALFORMED)


@pytest.fixture
def in_cloud(snp: Case, amd: dict[str, bytes], chip: SevSnpChip, report_with: ReportWith) -> Case:
    """The same report, of the same chip, signed by a cloud's key."""
    del snp.endorsements["vcek.der"]
    snp.endorsements.update(cloud_chain(amd, chip, born=NOW - timedelta(days=30)))
    snp.evidence = report_with(SIGNED_BY_VLEK)
    return snp


def test_report_of_a_cloud_key_is_accepted_under_the_cloud_chain(
    in_cloud: Case, report_with: ReportWith
) -> None:
    in_cloud.appraise()
    claims = verify(in_cloud.evidence, in_cloud.endorsements, now=NOW)
    assert (claims.key, claims.cloud, claims.chip_is_proven) == ("vlek", CLOUD, False)
    # As clouds do, the chip is masked.
    in_cloud.evidence = report_with({**SIGNED_BY_VLEK, 0x1A0: bytes(64)})
    assert in_cloud.appraise().chip == ""
    in_cloud.evidence = report_with({0x048: b"\6"})  # and the chip's own key
    in_cloud.appraise()


def test_chip_that_a_cloud_key_names_is_on_no_list(in_cloud: Case, chip: SevSnpChip) -> None:
    in_cloud.name(chips=(chip.chip_id.hex(),))
    refusal = in_cloud.assert_refused(NotAcceptableError, Reason.CHIP_NOT_IN_POLICY)
    assert "a VLEK, which proves no chip" in refusal.detail


def test_policy_says_which_kind_of_key_signs(in_cloud: Case) -> None:
    in_cloud.demand(keys=("vlek",))
    in_cloud.appraise()
    in_cloud.demand(keys=("vcek",))
    in_cloud.assert_refused(NotAcceptableError, Reason.KEY_NOT_IN_POLICY)


def test_policy_says_whose_cloud_key_signs(in_cloud: Case) -> None:
    in_cloud.demand(clouds=("other.example", CLOUD))
    in_cloud.appraise()
    in_cloud.demand(clouds=("other.example",))
    in_cloud.assert_refused(NotAcceptableError, Reason.CLOUD_NOT_IN_POLICY)


def test_cloud_key_that_names_no_cloud_is_none_of_those_listed(
    in_cloud: Case, amd: dict[str, bytes], chip: SevSnpChip
) -> None:
    in_cloud.endorsements.update(cloud_chain(amd, chip, born=NOW - timedelta(days=30), csp_id=b""))
    in_cloud.appraise()
    in_cloud.demand(clouds=(CLOUD,))
    in_cloud.assert_refused(NotAcceptableError, Reason.CLOUD_NOT_IN_POLICY)


@pytest.mark.parametrize("csp_id", [b"raw", ia5(CLOUD) + b"\0", der.integer(7)])
def test_cloud_that_is_no_text_is_malformed(
    csp_id: bytes, in_cloud: Case, amd: dict[str, bytes], chip: SevSnpChip
) -> None:
    in_cloud.endorsements.update(cloud_chain(amd, chip, born=NOW - timedelta(days=30), csp_id=csp_id))
    in_cloud.assert_refused(EvidenceMalformedError, Reason.MALFORMED)


def test_report_key_of_another_curve_is_refused(snp: Case, amd: dict[str, bytes], chip: SevSnpChip) -> None:
    snp.endorsements["vcek.der"] = simulated_snp.make_vcek(
        amd,
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        chip_id=chip.chip_id,
        tcb=simulated_snp.TCB,
        not_before=NOW - timedelta(days=1),
    )
    snp.assert_refused(NotGenuineError, Reason.CHAIN_INVALID)


# Nitro: genuine or not


def test_nitro_document_is_good_for_minutes(enclave: Case) -> None:
    enclave.now = NOW + timedelta(minutes=5)
    enclave.appraise()
    enclave.now = NOW + timedelta(minutes=5, seconds=1)
    enclave.assert_refused(NotAcceptableError, Reason.EVIDENCE_TOO_OLD)
    enclave.demand(max_evidence_seconds=301)
    enclave.appraise()


def test_nitro_document_from_the_future_is_refused(enclave: Case, document_with: DocumentWith) -> None:
    ahead = NOW + timedelta(minutes=1, seconds=1)
    enclave.evidence = document_with({"timestamp": round(ahead.timestamp() * 1000)})
    enclave.assert_refused(NotGenuineError, Reason.NOT_YET_VALID)


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        (timedelta(hours=4), Reason.CERTIFICATE_EXPIRED),
        (timedelta(days=-1), Reason.CERTIFICATE_NOT_YET_VALID),
    ],
)
def test_nitro_chain_is_judged_at_the_verifiers_time(later: timedelta, reason: Reason, enclave: Case) -> None:
    enclave.now = NOW + later
    enclave.assert_refused(NotGenuineError, reason)


@pytest.mark.parametrize("behind", [timedelta(seconds=4), timedelta(minutes=1)])
def test_nitro_document_is_accepted_by_a_clock_that_is_behind_its_new_certificate(
    behind: timedelta, enclave: Case
) -> None:
    enclave.now = NOW - behind
    enclave.appraise()
    enclave.now = NOW - timedelta(minutes=1, seconds=1)
    enclave.assert_refused(NotGenuineError, Reason.CERTIFICATE_NOT_YET_VALID)


@pytest.mark.parametrize("timestamp", [0, LAST_TIMESTAMP, round(NOW.timestamp() * 1000) - 4_000])
def test_nitro_document_of_a_time_at_which_its_certificate_was_not_valid_is_refused(
    timestamp: int, enclave: Case, document_with: DocumentWith
) -> None:
    enclave.evidence = document_with({"timestamp": timestamp})
    late = timestamp == LAST_TIMESTAMP
    reason = Reason.CERTIFICATE_EXPIRED if late else Reason.CERTIFICATE_NOT_YET_VALID
    enclave.assert_refused(NotGenuineError, reason)
    # Whatever its age counts for.
    assess_as_a_tool = assess(enclave.evidence, {}, now=NOW, root=enclave.platforms[NITRO].lab_roots[0])
    assert assess_as_a_tool.reasons == (reason,)


def test_nitro_document_signed_by_another_card_is_refused(enclave: Case, aws: dict[str, bytes]) -> None:
    other = NitroCard.from_files(aws, serial=2)
    mine = other.fields(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW)
    theirs = NitroCard.from_files(aws, serial=3).fields(MEASUREMENTS, KEY_BINDING, CHALLENGE, now=NOW)
    forged = {**mine, "certificate": theirs["certificate"], "cabundle": theirs["cabundle"]}
    enclave.evidence = replace(enclave.evidence, value=other.sign(forged))
    enclave.assert_refused(NotGenuineError, Reason.SIGNATURE_INVALID)


def test_nitro_chain_with_a_link_left_out_is_refused(
    enclave: Case, card: NitroCard, document_with: DocumentWith
) -> None:
    _, bundle = card.chain(NOW)
    for index in range(len(bundle)):
        enclave.evidence = document_with({"cabundle": bundle[:index] + bundle[index + 1 :]})
        enclave.assert_refused(NotGenuineError, Reason.CHAIN_INVALID)


def test_nitro_authority_signs_no_document(
    enclave: Case, card: NitroCard, document_with: DocumentWith
) -> None:
    # The instance's authority as the leaf: its key is not the enclave's.
    _, bundle = card.chain(NOW)
    enclave.evidence = document_with({"certificate": bundle[-1], "cabundle": bundle[:-1]})
    enclave.assert_refused(NotGenuineError, Reason.CHAIN_INVALID)


def test_nitro_key_that_is_not_for_signatures_signs_no_document(
    enclave: Case, card: NitroCard, document_with: DocumentWith
) -> None:
    leaf, bundle = card.chain(NOW)
    body = der.read_only(leaf, der.SEQUENCE).item(der.SEQUENCE)
    usage, other = bytes.fromhex("03020780"), bytes.fromhex("03020640")  # signature; non-repudiation
    assert body.count(usage) == 1
    for changed, reason in ((body, None), (body.replace(usage, other), Reason.CHAIN_INVALID)):
        signature = der.bits(card.keys[2].sign(changed, ec.ECDSA(SHA384())))
        certificate = der.item(der.SEQUENCE, changed, ECDSA_SHA384, signature)
        enclave.evidence = document_with({"certificate": certificate, "cabundle": bundle})
        if reason is None:
            enclave.appraise()
        else:
            enclave.assert_refused(NotGenuineError, reason)


def test_nitro_signature_of_another_size_is_refused_though_its_numbers_are_right(enclave: Case) -> None:
    protected, unprotected, body, signature = cbor2.loads(enclave.evidence.value)
    # A zero before the second number changes neither.
    longer = signature[:48] + b"\0" + signature[48:]
    for each, sound in ((signature, True), (longer, False)):
        value = cbor2.dumps([protected, unprotected, body, each])
        enclave.evidence = replace(enclave.evidence, value=value)
        if sound:
            enclave.appraise()
        else:
            enclave.assert_refused(EvidenceMalformedError, Reason.SIGNATURE_INVALID)


def test_nitro_document_with_an_unprotected_header_is_refused(enclave: Case) -> None:
    value = enclave.evidence.value.replace(b"\x22\xa0", b"\x22\xa1\x01\x02", 1)
    enclave.evidence = replace(enclave.evidence, value=value)
    enclave.assert_refused(EvidenceMalformedError, Reason.SIGNATURE_INVALID)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digest": "SHA256"}, Reason.MALFORMED),
        ({"pcrs": {0: bytes(48), 1: bytes(48)}}, Reason.MALFORMED),
        ({"pcrs": {0: bytes(48), 1: bytes(48), 3: bytes(48)}}, Reason.MALFORMED),
        ({"pcrs": {0: bytes(32), 1: bytes(48), 2: bytes(48)}}, Reason.MALFORMED),
        ({"pcrs": {**dict.fromkeys(range(32), bytes(48)), 32: bytes(48)}}, Reason.MALFORMED),
        ({"timestamp": -1}, Reason.MALFORMED),
        ({"timestamp": True}, Reason.MALFORMED),
        ({"timestamp": 1 << 63}, Reason.MALFORMED),
        ({"cabundle": []}, Reason.MALFORMED),
        ({"nonce": b"n" * 1025}, Reason.MALFORMED),
        ({"sandbox": True}, Reason.MALFORMED),
        ({"nitrotpm_pcrs": {}}, Reason.UNSUPPORTED_PLATFORM),
        ({"module_id": "i-0df237f0418feb41e"}, Reason.UNSUPPORTED_PLATFORM),
        ({"module_id": "i-0df237f0418feb41e-tpm018d1c7ef94eb110"}, Reason.UNSUPPORTED_PLATFORM),
    ],
)
def test_document_of_anything_but_an_enclave_is_refused(
    changes: dict[str, Any], reason: Reason, enclave: Case, document_with: DocumentWith
) -> None:
    enclave.evidence = document_with(changes)
    unsupported = reason is Reason.UNSUPPORTED_PLATFORM
    enclave.assert_refused(UnsupportedPlatformError if unsupported else EvidenceMalformedError, reason)


def test_nitro_document_may_carry_the_cose_tag(enclave: Case) -> None:
    enclave.evidence = replace(enclave.evidence, value=b"\xd2" + enclave.evidence.value)
    enclave.appraise()


def test_emulated_nitro_document_is_refused(enclave: Case) -> None:
    # QEMU's emulation writes algorithm -1 and 64 zero bytes for signature and certificates.
    value = enclave.evidence.value.replace(bytes.fromhex("44a1013822"), bytes.fromhex("43a10120"), 1)
    enclave.evidence = replace(enclave.evidence, value=value)
    enclave.assert_refused(EvidenceMalformedError, Reason.SIGNATURE_INVALID)


# Sizes


@pytest.mark.parametrize("size", [0, 1, 1183, 1185, MAX_EVIDENCE])
def test_report_of_another_size_is_malformed(size: int, snp: Case) -> None:
    snp.evidence = replace(snp.evidence, value=snp.evidence.value.ljust(size, b"\0")[:size])
    snp.assert_refused(EvidenceMalformedError, Reason.MALFORMED)


def test_document_cut_anywhere_is_malformed(enclave: Case) -> None:
    whole = enclave.evidence.value
    for size in range(0, len(whole), 97):
        enclave.evidence = replace(enclave.evidence, value=whole[:size])
        enclave.assert_refused(EvidenceMalformedError, Reason.MALFORMED)


def test_ten_megabytes_are_refused_unread(either: Case) -> None:
    evidence, endorsements = either.evidence, either.endorsements
    either.evidence = replace(evidence, value=evidence.value + bytes(10 << 20))
    either.assert_refused(EvidenceMalformedError, Reason.TOO_LARGE)
    either.evidence, either.endorsements = evidence, {**endorsements, "more.der": bytes(MAX_ENDORSEMENTS + 1)}
    either.assert_refused(EvidenceMalformedError, Reason.TOO_LARGE)
