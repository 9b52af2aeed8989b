"""How far evidence can be trusted: trustworthiness claims and tiers (AR4SI, as EAR carries them).

A `Finding` is one thing that an appraisal has to say. The vector has, for each claim, the worst value that
any finding gave it, and an appraisal's status is the worst tier in its vector.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from attestation.hints import Hint
from schemas.errors import Reason


class Claim(StrEnum):
    """Trustworthiness claims (draft-ietf-rats-ar4si, section 2.3.4), as EAR names them."""

    INSTANCE_IDENTITY = "instance-identity"
    CONFIGURATION = "configuration"
    EXECUTABLES = "executables"
    HARDWARE = "hardware"
    RUNTIME_OPAQUE = "runtime-opaque"


class Value(IntEnum):
    """Values of the claims that occur here (the same, section 2.3.4.1 and after); one number, one meaning.

    The low numbers of a tier mean something else for each claim, hence the prefix.
    """

    NONE = 0
    AFFIRMED = 2  # of every claim: recognised, genuine, approved
    EXECUTABLES_PARTLY = 33  # warning: recognised, with something not known
    HARDWARE_UNSAFE = 32  # warning: genuine, with known weaknesses
    CONFIGURATION_UNSAFE = 32
    RUNTIME_VISIBLE = 32
    INSTANCE_UNKNOWN = 97  # contraindicated
    EXECUTABLES_UNKNOWN = 96  # its own number in AR4SI is 33, but a mesh runs nothing that it does not know
    HARDWARE_REFUSED = 96  # genuine, and known to be broken or revoked
    HARDWARE_UNKNOWN = 97
    CONFIGURATION_REFUSED = 96
    RUNTIME_EXPOSED = 96
    CRYPTO_FAILED = 99  # of every claim: the signatures do not hold


class Tier(StrEnum):
    """AR4SI's tiers, as EAR names a status."""

    NONE = "none"
    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"


_ORDER = tuple(Tier)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that policy has to say of genuine evidence."""

    claim: Claim
    value: int
    reason: Reason
    seen: str = ""  # what the evidence has; never a key
    wanted: str = ""  # what the policy asks for
    hint: Hint | None = None

    @property
    def tier(self) -> Tier:
        """Return the tier of the value."""
        return tier_of(self.value)


def tier_of(value: int) -> Tier:
    """Return the tier that a trustworthiness value is in (AR4SI section 2.3.3)."""
    if value >= 96:
        return Tier.CONTRAINDICATED
    if value >= 32:
        return Tier.WARNING
    return Tier.AFFIRMING if value >= 2 else Tier.NONE


def vector_of(findings: Iterable[Finding]) -> dict[Claim, int]:
    """Return every claim's worst value, affirmed where nothing was found."""
    vector = dict.fromkeys(Claim, int(Value.AFFIRMED))
    for finding in findings:
        vector[finding.claim] = max(vector[finding.claim], finding.value)
    return vector


def status_of(vector: dict[Claim, int]) -> Tier:
    """Return the worst tier of a vector."""
    return max((tier_of(value) for value in vector.values()), key=_ORDER.index, default=Tier.NONE)


def of_failure() -> dict[Claim, int]:
    """Return the vector of evidence that is not genuine: nothing in it can be believed."""
    return dict.fromkeys(Claim, int(Value.CRYPTO_FAILED))
