"""Which recorded evidence a proposed policy is made of: what that policy then accepts. Pure.

Whatever is left out is told with its reason: a policy that says nothing of half the machines in a folder
would be taken for one that admits them.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple

from attestation.amd_names import LEAKED
from attestation.assess import Assessment, assess
from attestation.claims import CRL, Genuine
from attestation.explain import explain
from attestation.vendors import VENDOR_ROOTS
from console.policy.against import replay
from console.policy.generator import Seen
from console.policy.recorded import Recording, Unread
from schemas.errors import Reason
from schemas.evidence import MAX_CLOUD, SEV_SNP, VLEK, PlatformValues, ReferenceValues
from schemas.toml_place import printable

UNREADABLE = "unreadable"
_HINTS = {
    Reason.ROOT_NOT_IN_POLICY.value: " (--lab takes a lab's, and nothing else)",
    Reason.CERTIFICATE_EXPIRED.value: " (--at judges at another time)",
    Reason.CERTIFICATE_NOT_YET_VALID.value: " (--at judges at another time)",
}


class Taken(NamedTuple):
    """Evidence that the policy is made of."""

    recording: Recording
    claims: Genuine

    @property
    def seen(self) -> Seen:
        """Return it as a proposal takes it."""
        return Seen(printable(self.recording.name), self.claims)


class LeftOut(NamedTuple):
    """Evidence that the policy says nothing of, by the first reason, and in a sentence."""

    name: str
    reason: str
    why: str
    readable: bool = True


def sift(read: Iterable[Recording | Unread], *, lab: bool) -> tuple[list[Taken], list[LeftOut]]:
    """Take what is genuine, not debuggable, and under the roots asked for: a lab's, or the manufacturers'."""
    taken, left_out = [], []
    for each in read:
        if isinstance(each, Unread):
            left_out.append(LeftOut(each.name, UNREADABLE, each.problem, readable=False))
            continue
        found = assess(each.found.evidence, each.found.endorsements, now=each.at)
        if (reason := _unfit(found, lab)) is not None:
            left_out.append(LeftOut(each.name, *reason, readable=found.readable))
        elif found.claims is not None:
            taken.append(Taken(each, found.claims))
    return taken, left_out


def _unfit(found: Assessment, lab: bool) -> tuple[str, str] | None:
    claims = found.claims
    if claims is None:
        return found.reasons[0].value, "; ".join(explain(found))
    if (claims.root in VENDOR_ROOTS[claims.platform]) == lab:
        root = "a manufacturer's root: --lab is for simulated machines alone"
        other = "another root than the manufacturer's: only a lab accepts it (--lab)"
        return Reason.ROOT_NOT_IN_POLICY.value, f"it ends at {root if lab else other}"
    if claims.debug:
        return Reason.DEBUG_ENABLED.value, "it may be debugged, so its host reads all that it holds"
    if claims.key == VLEK and len(claims.cloud) > MAX_CLOUD:
        # AMD's certificates set no limit, and a policy without `clouds` would accept every cloud's.
        why = f"its VLEK names a cloud of {len(claims.cloud)} characters, and `clouds` of a policy takes "
        return Reason.TOO_LARGE.value, f"{why}{MAX_CLOUD} at most: attest with a VCEK"
    return None


def settle(
    taken: Sequence[Taken], left_out: Sequence[LeftOut], propose: Callable[..., tuple[str, ReferenceValues]]
) -> tuple[str, list[Taken], list[LeftOut]]:
    """Return a proposal that accepts all of what it is made of, leaving out what it would refuse.

    `propose` makes text and Reference Values of what is taken and left out.
    """
    rest, out = list(taken), list(left_out)
    while rest:
        text, values = propose(rest, out)
        judged = list(zip(rest, replay(values, [each.recording for each in rest]), strict=True))
        refused = [(each, found) for each, found in judged if set(found.refusals) - {Reason.EVIDENCE_TOO_OLD}]
        if not refused:
            return text, rest, out
        rest = [each for each, found in judged if not set(found.refusals) - {Reason.EVIDENCE_TOO_OLD}]
        out += [
            LeftOut(each.recording.name, found.refusals[0], "; ".join(explain(found.assessment)))
            for each, found in refused
        ]
    return "", [], out


def remarks(taken: Sequence[Taken]) -> list[str]:
    """Say where the policy is weaker than a starter because of what was recorded."""
    snp = [each.claims for each in taken if each.claims.platform == SEV_SNP]
    bare = sum(CRL in each.missing for each in snp)
    lines = []
    if bare:
        lines.append(f"require_crl is off: {bare} of {len(snp)} on sev-snp came without a revocation list;")
        lines.append("  `sealbus collateral fetch` gets it")
    late = timedelta(seconds=PlatformValues().max_evidence_seconds)
    old = [
        each.seen.name for each in taken if each.claims.time and each.recording.at - each.claims.time > late
    ]
    if old:
        lines.append(
            f"{len(old)} older than max_evidence_seconds: the image is accepted, this evidence is not:"
        )
        lines += [f"  {name}" for name in old]
    if by_cloud := sorted({each.cloud or "no cloud that is named" for each in snp if each.key == VLEK}):
        count = sum(each.key == VLEK for each in snp)
        lines.append(
            f"chips are not named for {count} of {len(snp)} on sev-snp: a VLEK signed, which proves none;"
        )
        lines.append(f"  any machine of its cloud is accepted ({', '.join(by_cloud)})")
    leaked = sorted({each.product for each in snp} & set(LEAKED))
    return lines + [
        f"{line} is accepted, from the chips that were seen alone: keys of it have leaked" for line in leaked
    ]


def told(left_out: Sequence[LeftOut]) -> list[str]:
    """Say what was left out: how much for which reason, and its names."""
    by_reason: dict[str, list[str]] = {}
    for each in left_out:
        by_reason.setdefault(each.reason, []).append(each.name)
    lines = []
    for reason, names in sorted(by_reason.items()):
        hint = _HINTS.get(reason, "")
        lines += [f"left out {len(names)}, {reason}{hint}", *(f"  {name}" for name in names)]
    return lines
