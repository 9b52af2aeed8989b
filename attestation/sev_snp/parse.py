"""The SEV-SNP attestation report: 1184 bytes of AMD's ABI (publication 56860, ATTESTATION_REPORT).

Strict for the versions it knows: what they reserve must be zero, because a bit whose meaning is not
known could take a guarantee away. Other versions are refused.
"""

from dataclasses import dataclass
from enum import IntEnum

from attestation.errors import EvidenceMalformedError
from schemas.errors import Reason

REPORT_SIZE = 0x4A0
SIGNED_SIZE = 0x2A0
SIGNATURE_FIELD = 72  # R and S, little-endian, of which P-384 fills 48 bytes
ECDSA_P384_SHA384 = 1

# 3 brought CPUID, 5 the mitigation vectors; 4 has the layout of 3.
VERSIONS = (2, 3, 4, 5)

POLICY_RESERVED_ONE = 1 << 17
POLICY_MIGRATE_MA = 1 << 18
POLICY_DEBUG = 1 << 19
POLICY_KNOWN_BITS = 26

# PLATFORM_INFO: what the host has switched on, by the bit. Bit 6 has no name and occurs; others may come.
FEATURES = {
    "tsme": 1,
    "ecc": 2,
    "rapl-disabled": 3,
    "ciphertext-hiding": 4,
    "alias-check": 5,
    "tio": 7,
}
SMT_ENABLED = 1 << 0
SMT_DISABLED = "smt-disabled"
NO_MIGRATION_AGENT = b"\xff" * 32

# Reserved in every version that is known here.
_RESERVED = ((0x04C, 0x050), (0x18B, 0x1A0), (0x1EB, 0x1EC), (0x1EF, 0x1F0), (0x208, 0x2A0), (0x330, 0x4A0))
_RESERVED_BEFORE_3 = (0x188, 0x18B)
_RESERVED_BEFORE_5 = (0x1F8, 0x208)


class SigningKey(IntEnum):
    """Which key signed: SIGNING_KEY of the key information."""

    VCEK = 0
    VLEK = 1


@dataclass(frozen=True, slots=True)
class Report:
    """One attestation report, not yet believed."""

    version: int
    guest_svn: int
    policy: int
    platform_info: int
    vmpl: int
    signing_key: SigningKey
    chip_key_masked: bool  # MASK_CHIP_KEY: the firmware is told not to use its chip's key
    report_data: bytes
    measurement: bytes
    host_data: bytes
    family_id: bytes
    image_id: bytes
    id_key_digest: bytes
    author_key_digest: bytes | None
    report_id_ma: bytes
    reported_tcb: bytes
    committed_tcb: bytes
    launch_tcb: bytes
    chip_id: bytes
    cpuid: tuple[int, int] | None  # family and model, from version 3 on
    signed: bytes
    r: int
    s: int

    @property
    def debug(self) -> bool:
        """Say whether the host may read and write the guest's memory."""
        return bool(self.policy & POLICY_DEBUG)

    @property
    def features(self) -> frozenset[str]:
        """Name what the platform has switched on."""
        on = {name for name, bit in FEATURES.items() if self.platform_info >> bit & 1}
        return frozenset(on if self.platform_info & SMT_ENABLED else on | {SMT_DISABLED})

    @property
    def migratable(self) -> bool:
        """Say whether a migration agent may, or does, hold the guest's keys."""
        return bool(self.policy & POLICY_MIGRATE_MA) or self.report_id_ma != NO_MIGRATION_AGENT


def parse(value: bytes) -> Report:
    """Read a report, or raise `EvidenceMalformedError`."""
    if len(value) != REPORT_SIZE:
        raise EvidenceMalformedError(
            "SEV-SNP report is not of its size",
            seen=f"SEV-SNP report of {len(value)} bytes",
            wanted=f"{REPORT_SIZE} bytes",
        )
    version = _number(value, 0x000, 4)
    if version not in VERSIONS:
        raise EvidenceMalformedError(
            "SEV-SNP report of unknown version",
            Reason.UNSUPPORTED_VERSION,
            seen=f"SEV-SNP report version {version}",
            wanted=f"one of {', '.join(map(str, VERSIONS))}",
        )
    if _number(value, 0x034, 4) != ECDSA_P384_SHA384:
        raise EvidenceMalformedError("SEV-SNP report of unknown signature", Reason.UNSUPPORTED_VERSION)
    policy = _number(value, 0x008, 8)
    if not policy & POLICY_RESERVED_ONE or policy >> POLICY_KNOWN_BITS:
        raise EvidenceMalformedError("SEV-SNP guest policy has unknown bits")
    key_info = _number(value, 0x048, 4)
    if key_info >> 5:
        raise EvidenceMalformedError("SEV-SNP key information has unknown bits")
    _check_reserved(value, version)
    return Report(
        version=version,
        guest_svn=_number(value, 0x004, 4),
        policy=policy,
        platform_info=_number(value, 0x040, 8),
        vmpl=_number(value, 0x030, 4),
        signing_key=_signing_key(key_info),
        chip_key_masked=bool(key_info & 2),
        report_data=value[0x050:0x090],
        measurement=value[0x090:0x0C0],
        host_data=value[0x0C0:0x0E0],
        family_id=value[0x010:0x020],
        image_id=value[0x020:0x030],
        id_key_digest=value[0x0E0:0x110],
        author_key_digest=value[0x110:0x140] if key_info & 1 else None,
        report_id_ma=value[0x160:0x180],
        reported_tcb=value[0x180:0x188],
        committed_tcb=value[0x1E0:0x1E8],
        launch_tcb=value[0x1F0:0x1F8],
        chip_id=value[0x1A0:0x1E0],
        cpuid=(value[0x188], value[0x189]) if version >= 3 else None,
        signed=value[:SIGNED_SIZE],
        r=_number(value, SIGNED_SIZE, SIGNATURE_FIELD),
        s=_number(value, SIGNED_SIZE + SIGNATURE_FIELD, SIGNATURE_FIELD),
    )


def _number(value: bytes, offset: int, size: int) -> int:
    return int.from_bytes(value[offset : offset + size], "little")


def _signing_key(key_info: int) -> SigningKey:
    # With MASK_CHIP_KEY set the firmware does not sign and says "none" here (7).
    try:
        return SigningKey(key_info >> 2 & 7)
    except ValueError as error:
        raise EvidenceMalformedError("SEV-SNP report is not signed", Reason.SIGNATURE_INVALID) from error


def _check_reserved(value: bytes, version: int) -> None:
    spans = list(_RESERVED)
    if version < 3:
        spans.append(_RESERVED_BEFORE_3)
    if version < 5:
        spans.append(_RESERVED_BEFORE_5)
    if any(any(value[start:end]) for start, end in spans):
        raise EvidenceMalformedError("SEV-SNP report uses bytes that its version reserves")
