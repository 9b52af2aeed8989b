"""Evidence of this machine over random report data, and whether a verifier would accept it."""

import secrets
from dataclasses import dataclass
from typing import Any

from attestation import Attester, AttesterError, nitro
from attestation.appraise import CHALLENGE_SIZE, KEY_BINDING_SIZE
from attestation.assess import Assessment, assess, assess_by_policy
from attestation.bundles.bundle import completed
from attestation.bundles.dated import older_in
from attestation.result import Basis, as_json
from schemas.collateral import Entries
from schemas.evidence import ReferenceValues


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the attempt: an assessment, or the reason for which there is no Evidence to assess."""

    outcome: Assessment | AttesterError
    basis: Basis
    older: tuple[str, ...] = ()  # what came and is older than in the collateral that was named
    outdated: tuple[str, ...] = ()  # what is older in that collateral than what came

    @property
    def accepted(self) -> bool:
        """Say whether Evidence could be had, and nothing refuses it."""
        return isinstance(self.outcome, Assessment) and self.outcome.accepted

    @property
    def lacks_endorsements(self) -> bool:
        """Say whether it was refused because something is not there that the operator can give."""
        found = self.outcome
        return isinstance(found, Assessment) and any(each.value.startswith("no-") for each in found.reasons)

    def plain(self, platform: str) -> dict[str, Any]:
        """Return it as JSON data: `sealbus evidence verify`'s, or no more than the reason."""
        found = self.outcome
        if isinstance(found, Assessment):
            result = as_json(found, platform, self.basis)
            stale = {"older_than_collateral": [*self.older], "newer_than_collateral": [*self.outdated]}
            return {"obtained": True, "accepted": self.accepted, **stale, **result}
        return {
            "obtained": False,
            "accepted": False,
            "reasons": [found.reason.value],
            "detail": found.detail,
        }


async def try_own_evidence(
    attester: Attester, policy: ReferenceValues | None, basis: Basis, *, entries: Entries = ()
) -> Verdict:
    """Take Evidence and judge it by the policy or, without one, by the built-in one: all but measurements.

    `entries` is collateral that completes what the device gives beside it.
    """
    key_binding, challenge = secrets.token_bytes(KEY_BINDING_SIZE), secrets.token_bytes(CHALLENGE_SIZE)
    try:
        evidence, endorsements = await attester.evidence(key_binding, challenge)
    except AttesterError as error:
        return Verdict(error, basis)
    held = completed(evidence, {}, entries)
    stale = older_in(endorsements, held), older_in(held, endorsements)
    endorsements = completed(evidence, endorsements, entries)
    nonce = challenge if evidence.type == nitro.MEDIA_TYPE else key_binding
    if policy is None:
        return Verdict(assess(evidence, endorsements, now=basis.at, nonce=nonce), basis, *stale)
    found = assess_by_policy(evidence, endorsements, policy, now=basis.at, nonce=nonce)
    return Verdict(found, basis, *stale)
