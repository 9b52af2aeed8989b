"""A policy against evidence that was recorded: who would be accepted, who excluded, who evicted.

Pure. The keys that evidence binds are nobody's to compare here; everything else is judged as at the door.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from msgspec.structs import replace

from attestation.appraise import accepted
from attestation.assess import Assessment, assess_by_policy
from attestation.explain import explain
from attestation.trust import Claim
from console.policy.finding import Finding
from console.policy.recorded import Recording
from schemas.evidence import AttestationResult, ReferenceValues
from schemas.policy import COORDINATOR, Policy, Workload
from schemas.succession import Verdict, judge_enclave
from schemas.toml_place import Path


class Outcome(StrEnum):
    """What a policy makes of a recording."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNREADABLE = "unreadable"  # refused as well, at the door; but it says nothing about the policy


class Replayed(NamedTuple):
    """A recording, and what a policy makes of it."""

    recording: Recording
    assessment: Assessment

    @property
    def workload(self) -> str:
        """Name the workload that it is; "" if it is none that the policy knows."""
        named = self.assessment.judgement.workload
        return named.workload if named else ""

    @property
    def platform(self) -> str:
        """Name the platform of the evidence, as far as it tells."""
        return self.assessment.unsupported or self.recording.found.platform

    @property
    def verdict(self) -> Outcome:
        """Say what becomes of it."""
        if not self.assessment.readable:
            return Outcome.UNREADABLE
        return Outcome.ACCEPTED if self.assessment.accepted else Outcome.REFUSED

    @property
    def refusals(self) -> tuple[str, ...]:
        """Return the codes of what refuses it, without what is only warned of."""
        failure = self.assessment.failure
        if failure is not None:
            return (failure.reason, *failure.also)
        return tuple(dict.fromkeys(each.reason for each in self.assessment.judgement.refusals))


class Evicted(NamedTuple):
    """A recording that an older policy accepts, and what becomes of it under the next."""

    name: str
    workload: str
    platform: str
    verdict: Verdict


def everyone(policy: Policy) -> ReferenceValues:
    """Return the Reference Values of all workloads and of the coordinator."""
    agents, coordinator = policy.reference_values(), policy.coordinator_values()
    return ReferenceValues(platforms=policy.platforms, workloads=agents.workloads + coordinator.workloads)


def replay(values: ReferenceValues, recordings: Iterable[Recording]) -> list[Replayed]:
    """Judge every recording by a policy's Reference Values."""
    return [
        Replayed(each, assess_by_policy(each.found.evidence, each.found.endorsements, values, now=each.at))
        for each in recordings
    ]


def excluded(replayed: Iterable[Replayed]) -> Iterator[Finding]:
    """Tell which recordings the demands on platforms refuse, whatever runs there."""
    for each in replayed:
        assessment, platform = each.assessment, each.platform
        at: Path = ("platforms", platform)
        if assessment.failure is not None:
            text = f"{each.recording.name} is not genuine: {'; '.join(explain(assessment))}"
            yield Finding("evidence-not-genuine", at, text)
            continue
        for refusal in assessment.judgement.refusals:
            if refusal.claim in (Claim.HARDWARE, Claim.CONFIGURATION):
                text = f"{each.recording.name} would be excluded: {refusal.seen}; wanted is {refusal.wanted}"
                yield Finding("evidence-excluded", at, f"{text} ({refusal.reason})")


def evictions(old: Policy, new: Policy, recordings: Iterable[Recording]) -> list[Evicted]:
    """Tell what becomes under `new` of every enclave that `old` admits on its recording."""
    found = []
    for each in replay(everyone(old), recordings):
        result = _result(each, old)
        if result is None:
            continue
        before, after = _as_workload(old, result.workload), _as_workload(new, result.workload)
        verdict = judge_enclave(result, before.workloads[result.workload].roles, before, after)
        found.append(Evicted(each.recording.name, result.workload, result.platform, verdict))
    return found


def _result(replayed: Replayed, policy: Policy) -> AttestationResult | None:
    assessment = replayed.assessment
    if assessment.claims is None or not assessment.accepted:
        return None
    return accepted(assessment.claims, assessment.judgement, everyone(policy))


def _as_workload(policy: Policy, name: str) -> Policy:
    """Return the policy in which `name` is a workload also if it is the coordinator, which holds no role."""
    if name != COORDINATOR:
        return policy
    return replace(policy, workloads={**policy.workloads, name: Workload(on=policy.coordinators)})
