"""Evidence, Endorsements, Reference Values and Attestation Results (RFC 9334) as data.

Digests, identifiers and root fingerprints are lower-case hexadecimal text, so that the policy a
person reviews and the one a machine applies are the same characters.
"""

from typing import Annotated

from msgspec import Meta, field

from schemas.codec import Document, Message

Hex = Annotated[str, Meta(pattern="^([0-9a-f]{2})+\\Z", max_length=4096)]

# A machine as its evidence names it: CHIP_ID or PPID in hexadecimal, on Nitro the parent's instance id.
Chip = Annotated[str, Meta(pattern="^(([0-9a-f]{2})+|i-[0-9a-f]{8,32})\\Z", max_length=256)]

SEV_SNP = "sev-snp"
TDX = "tdx"
NITRO = "nitro"
PLATFORMS = (SEV_SNP, TDX, NITRO)

# What a policy must name of each platform: an absent Reference Value refuses, there is no "any".
MEASURED = {
    SEV_SNP: ("measurement", "host_data"),
    TDX: ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid"),
    NITRO: ("pcr0", "pcr1", "pcr2"),
}

MAX_EVIDENCE = 64 * 1024  # the largest genuine quote seen is 8 KiB with padding, a Nitro document 5 KiB
MAX_ENDORSEMENTS = 160 * 1024  # in all; TDX collateral with its chains and CRLs is about 30 KiB


class Evidence(Message, frozen=True):
    """A conceptual message wrapper (RFC 9999): a media type and the TEE's own bytes."""

    type: Annotated[str, Meta(max_length=64)]
    value: Annotated[bytes, Meta(max_length=MAX_EVIDENCE)]


# Certificates, CRLs and collateral by their conventional names ("vcek.der", "tcb_info.json", ...).
Endorsements = dict[Annotated[str, Meta(max_length=40)], Annotated[bytes, Meta(max_length=MAX_ENDORSEMENTS)]]


class PlatformValues(Document, frozen=True, kw_only=True):
    """What a policy demands of one platform, whatever runs on it."""

    roots: Annotated[tuple[Hex, ...], Meta(min_length=1)]  # SHA-256 of the root certificates in DER
    lab: bool = False  # the roots are a simulator's; may not stand beside vendors' roots
    minimum_tcb: dict[str, Annotated[int, Meta(ge=0, le=65535)]] = field(
        default_factory=dict
    )  # component: lowest accepted SVN
    statuses: tuple[str, ...] = ("UpToDate", "SWHardeningNeeded")  # TDX only
    require_crl: bool = False  # SEV-SNP; TDX always requires its CRLs


class WorkloadValues(Document, frozen=True, kw_only=True):
    """The Reference Values of one workload on one platform."""

    workload: str
    platform: str
    measurements: dict[str, Hex]
    debuggable: bool = False
    chips: tuple[Chip, ...] | None = None  # None: any chip of the platform's roots


class ReferenceValues(Document, frozen=True, kw_only=True):
    """All that evidence is appraised against."""

    platforms: dict[str, PlatformValues]
    workloads: tuple[WorkloadValues, ...]


class AttestationResult(Document, frozen=True, kw_only=True):
    """What an appraisal found: only made of evidence that was accepted."""

    platform: str
    workload: str
    workload_id: bytes  # SHA-256 over the platform and the measurements that the policy names
    measurements: dict[str, str]
    chip: str  # as in `Chip`; empty where masked
    debug: bool
    lab: bool
    status: str  # TDX TCB status; "" elsewhere
    advisories: tuple[str, ...] = ()
