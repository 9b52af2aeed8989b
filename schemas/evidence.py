"""Evidence, Endorsements, Reference Values and Attestation Results (RFC 9334) as data.

Digests, identifiers and root fingerprints are lower-case hexadecimal text, so that the policy a
person reviews and the one a machine applies are the same characters.
"""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, field

from schemas.codec import Document, Message

Hex = Annotated[str, Meta(pattern="^([0-9a-f]{2})+\\Z", max_length=4096)]

# A machine as its evidence names it: CHIP_ID or PPID in hexadecimal, on Nitro the parent's instance id.
Chip = Annotated[str, Meta(pattern="^(([0-9a-f]{2})+|i-[0-9a-f]{8,32})\\Z", max_length=256)]

# SEV-SNP: the kind of key that signs reports. A VCEK is one chip's; a VLEK is a cloud's, on all of its chips.
VCEK, VLEK = KEYS = ("vcek", "vlek")
KeyKind = Annotated[str, Meta(pattern="^(vcek|vlek)\\Z")]
MAX_CLOUD = 128  # characters; those that AMD wrote so far have some dozens
Cloud = Annotated[str, Meta(min_length=1, max_length=MAX_CLOUD)]  # CSP_ID as the VLEK's certificate has it

Svn = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Floors = dict[Annotated[str, Meta(max_length=40)], Annotated[int, Meta(ge=0, le=2**32 - 1)]]

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

_PPID_DIGITS = 32


def platform_of(chip: str) -> str:
    """Return the platform of a chip by the form of its name, as `Chip` has it."""
    if chip.startswith("i-"):
        return NITRO
    return TDX if len(chip) == _PPID_DIGITS else SEV_SNP


# What a publisher's key stands for. TDX has none: nobody checks MROWNER when a TD is launched.
PUBLISHED = {SEV_SNP: ("measurement",), NITRO: ("pcr0", "pcr1", "pcr2")}

# What Intel, or its library, may say of a TDX platform's TCB, but for `REVOKED`, which nothing can accept.
UP_TO_DATE, SW_HARDENING, REVOKED = "UpToDate", "SWHardeningNeeded", "Revoked"
STATUSES = frozenset(
    {
        UP_TO_DATE,
        SW_HARDENING,
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
    }
)

MAX_EVIDENCE = 64 * 1024  # the largest genuine quote seen is 8 KiB with padding, a Nitro document 5 KiB
MAX_ENDORSEMENTS = 160 * 1024  # in all; TDX collateral with its chains and CRLs is about 30 KiB
MAX_ENDORSEMENT_NAME = 40  # characters; "qe_identity_issuer_chain.pem" has 28


class Evidence(Message, frozen=True):
    """A conceptual message wrapper (RFC 9999): a media type and the TEE's own bytes."""

    type: Annotated[str, Meta(max_length=64)]
    value: Annotated[bytes, Meta(max_length=MAX_EVIDENCE)]


# Certificates, CRLs and collateral by their conventional names ("vcek.der", "tcb_info.json", ...).
Endorsements = dict[
    Annotated[str, Meta(max_length=MAX_ENDORSEMENT_NAME)],
    Annotated[bytes, Meta(max_length=MAX_ENDORSEMENTS)],
]


def required_measurements(platform: str, *, published: bool, unsafe: bool) -> tuple[str, ...]:
    """Name what Reference Values must pin on a platform, given what else they name."""
    if unsafe:
        return ()
    stands_for = PUBLISHED.get(platform, ()) if published else ()
    return tuple(name for name in MEASURED[platform] if name not in stands_for)


class ProductValues(Document, frozen=True, kw_only=True):
    """What a policy demands of one processor line, because SVNs of different lines do not compare."""

    minimum_tcb: Floors = field(default_factory=dict)  # of the TCB reported and the one at launch
    minimum_committed_tcb: Floors = field(default_factory=dict)  # below it firmware can't be rolled back
    any_chip: bool = False  # accept chips that no workload names, of a line whose keys have leaked


class Tolerance(Document, frozen=True, kw_only=True):
    """A TCB status or an advisory that is accepted all the same, until a day that the operators chose."""

    accept: Annotated[str, Meta(min_length=1, max_length=64)]
    until: Annotated[datetime, Meta(tz=True)]


class PlatformValues(Document, frozen=True, kw_only=True):
    """What a policy demands of one platform, whatever runs on it."""

    roots: tuple[Hex, ...] = ()  # of manufacturers: SHA-256 of the root certificates in DER
    lab_roots: tuple[Hex, ...] = ()  # of simulators: they prove nothing, and stand alone
    minimum_tcb: Floors = field(default_factory=dict)  # whatever the processor line
    products: dict[str, ProductValues] | None = None  # SEV-SNP: the lines accepted; None: every known one
    statuses: tuple[str, ...] = (UP_TO_DATE, SW_HARDENING)  # TDX only
    advisories: tuple[str, ...] | None = None  # the only ones accepted; None: any that a status comes with
    exceptions: tuple[Tolerance, ...] = ()  # what one names is accepted by it alone, and by no list
    keys: tuple[KeyKind, ...] = KEYS  # SEV-SNP: which kinds of key may have signed
    clouds: tuple[Cloud, ...] | None = None  # SEV-SNP: whose VLEKs are accepted; None: any cloud's
    features: tuple[str, ...] = ()  # SEV-SNP: names of `sev_snp.FEATURES` that must be on
    highest_vmpl: Annotated[int, Meta(ge=0, le=3)] = 0  # SEV-SNP: the least privileged level accepted
    require_crl: bool = False  # SEV-SNP; TDX always requires its CRLs
    require_stated: bool = False  # TDX: refuse quotes that have no field for service TDs
    max_collateral_days: Annotated[int, Meta(ge=1, le=366)] | None = None  # SEV-SNP, TDX: since it was issued
    max_evidence_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 300  # where evidence states a time

    @property
    def lab(self) -> bool:
        """Say whether the roots are a simulator's."""
        return bool(self.lab_roots)

    @property
    def anchors(self) -> tuple[str, ...]:
        """Return the roots, of whichever kind."""
        return self.roots + self.lab_roots

    def lists(self, name: str) -> bool:
        """Say whether a status or advisory is accepted without an end if no exception names it."""
        if name in STATUSES:
            return name in self.statuses
        return self.advisories is None or name in self.advisories


class Publisher(Document, frozen=True, kw_only=True):
    """Who signed what runs, in place of what it measures: an update then needs no new policy."""

    key: Hex  # digest of the key: ID or author key on SEV-SNP; PCR 8 on Nitro
    minimum_svn: Svn | None = None  # SEV-SNP: GUEST_SVN of the ID block, required; Nitro states none


class WorkloadValues(Document, frozen=True, kw_only=True):
    """The Reference Values of one workload on one platform."""

    workload: str
    platform: str
    measurements: dict[str, Hex]
    publisher: Publisher | None = None
    debuggable: bool = False
    # None: any chip of the platform's roots. A list is met by a chip that is proven, so never by a VLEK.
    chips: tuple[Chip, ...] | None = None
    unsafe_any_measurement: bool = False  # only under lab roots

    @property
    def required(self) -> tuple[str, ...]:
        """Name the measurements without which these values would match more than they say."""
        return required_measurements(
            self.platform, published=self.publisher is not None, unsafe=self.unsafe_any_measurement
        )


class ReferenceValues(Document, frozen=True, kw_only=True):
    """All that evidence is appraised against."""

    platforms: dict[str, PlatformValues]
    workloads: tuple[WorkloadValues, ...]


class AttestationResult(Document, frozen=True, kw_only=True, gc=False):
    """What an appraisal found: only made of evidence that was accepted."""

    platform: str
    workload: str
    workload_id: bytes  # SHA-256 over the platform and the measurements that the policy names
    measurements: dict[str, str]
    chip: str  # as in `Chip`; empty where masked. Under a VLEK it is the report's word alone
    debug: bool
    lab: bool
    status: str  # TDX TCB status; "" elsewhere
    advisories: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # reason codes of what the policy lets pass
