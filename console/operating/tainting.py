"""What a workload measures as: by those of it that are admitted, and by what the policy in force pins for it.

Pure. Only both together are all of it: an image of which nothing runs now is admitted tomorrow.
"""

from typing import NamedTuple

from attestation.appraise import workload_id
from console.operating.naming import FULL, Registry, digest_of, tidy
from schemas.errors import UsageError
from schemas.messages import ENCLAVE
from schemas.policy import Policy
from schemas.toml_errors import did_you_mean

PUBLISHED = (
    "it is named by its publisher: out is whatever that one signed, a mended image too, until a policy "
    "names another minimum_svn; of images that were never shown here that policy alone decides"
)


class Measured(NamedTuple):
    """One way in which a workload measures."""

    value: str  # the id that a revocation names
    workload: str
    platform: str
    is_pinned: bool  # by the policy in force
    note: str = ""  # what the id does not cover

    def __str__(self) -> str:
        return f"{self.workload} on {self.platform}"


def measured(told: Registry, policy: Policy | None) -> list[Measured]:
    """Return every way in which workloads measure, by name and platform."""
    found = {
        each.workload_id.hex(): Measured(each.workload_id.hex(), each.workload, each.platform, False)
        for each in told
        if each.kind == ENCLAVE
    }
    for name, workload in policy.workloads.items() if policy else ():
        for platform, pinned in workload.on.items():
            value = workload_id(pinned.values(name, platform)).hex()
            found[value] = Measured(value, name, platform, True, PUBLISHED if pinned.publisher else "")
    return sorted(found.values(), key=lambda each: (each.workload, each.platform, each.value))


def measured_as(known: list[Measured], text: str) -> list[Measured]:
    """Return all that a workload's name, or an id, means among `known`, or raise `UsageError`."""
    name = tidy(text)
    if len(name) == FULL:
        value = digest_of(name).hex()
        return [each for each in known if each.value == value] or [Measured(value, "", "", False)]
    if found := [each for each in known if each.workload == name]:
        return found
    meant = did_you_mean(name, {each.workload for each in known})
    raise UsageError(
        f"the policy in force names no workload {text!r}, and no instance of it is admitted: name one as "
        f"`sealbus workloads list` shows it, or a measurement by all 64 digits{meant}"
    )
