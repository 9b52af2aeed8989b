"""The acts in their order, and how they are played: one at a time, with honest work before and after."""

from collections.abc import Callable, Sequence

from lab.theatre import hosts, thieves, wire
from lab.theatre.act import Act, Outcome, Played, Verdict
from lab.theatre.stage import Stage
from schemas.errors import Reason, UsageError

ACTS: tuple[Act, ...] = (
    Act(
        "tampered-image",
        "Only code that the operators signed gets keys",
        "launches an agent whose file is one byte longer",
        Reason.MEASUREMENT_NOT_IN_POLICY,
        "docs/protocol.md#4-admission",
        hosts.tampered_image,
    ),
    Act(
        "debug-enclave",
        "An enclave that its host can look into gets no keys",
        "launches the honest image in debug mode",
        Reason.DEBUG_ENABLED,
        "docs/threat-model.md#watch-it-hold",
        hosts.debug_enclave,
    ),
    Act(
        "replayed-evidence",
        "Evidence is good for one challenge",
        "hands a new enclave the Evidence that admitted another",
        Reason.CHALLENGE_UNKNOWN,
        "docs/protocol.md#4-admission",
        hosts.replayed_evidence,
    ),
    Act(
        "relayed-evidence",
        "Evidence is good for the keys that it names",
        "hands an enclave fresh Evidence over another one's keys",
        Reason.KEY_BINDING_MISMATCH,
        "docs/protocol.md#4-admission",
        hosts.relayed_evidence,
    ),
    Act(
        "foreign-root",
        "Only chips under a root that the policy names are believed",
        "runs the honest image on a machine of its own making",
        Reason.ROOT_NOT_IN_POLICY,
        "docs/threat-model.md#watch-it-hold",
        hosts.foreign_root,
    ),
    Act(
        "forged-grant",
        "Only the operators together permit anything",
        "writes one more rule into the signed policy and brings it to the coordinator",
        Reason.SIGNATURE_INVALID,
        "docs/threat-model.md#watch-it-hold",
        thieves.forged_grant,
    ),
    Act(
        "too-few-signatures",
        "One operator alone changes nothing",
        "brings a newer policy with one stolen key's signature",
        Reason.SIGNATURES_TOO_FEW,
        "docs/threat-model.md#watch-it-hold",
        thieves.too_few_signatures,
    ),
    Act(
        "old-policy",
        "A policy never goes back",
        "brings the policy that was replaced, with all its signatures",
        Reason.VERSION_NOT_NEWER,
        "docs/threat-model.md#watch-it-hold",
        thieves.old_policy,
    ),
    Act(
        "revoked-agent",
        "Who is revoked is out at once, on whatever Evidence",
        "has an evicted instance ask for admission again",
        Reason.INSTANCE_REVOKED,
        "docs/threat-model.md#watch-it-hold",
        thieves.revoked_agent,
    ),
    Act(
        "flipped-bit",
        "No byte of a sealed frame can be changed",
        "flips one bit in tasks on their way to the agents",
        Reason.NOT_AUTHENTIC,
        "docs/protocol.md#8-tasks",
        wire.flipped_bit,
    ),
    Act(
        "replayed-task",
        "An instance runs a task once",
        "delivers tasks a second time",
        Reason.REPLAYED,
        "docs/protocol.md#8-tasks",
        wire.replayed_task,
    ),
    Act(
        "redirected-task",
        "A task opens only for the role that it was sealed to",
        "delivers one role's tasks to another, under that one's epoch",
        Reason.NOT_AUTHENTIC,
        "docs/protocol.md#8-tasks",
        wire.redirected_task,
    ),
    Act(
        "withheld-beacons",
        "Who cannot hear what is revoked stops",
        "keeps every word of the coordinator from one agent, for a while",
        Reason.NOT_LIVE,
        "docs/threat-model.md#watch-it-hold",
        wire.withheld_beacons,
        Outcome.RECOVERED,
    ),
    Act(
        "lying-scheduler",
        "The scheduler can waste work, never do it or have it done twice by an instance",
        "assigns tasks twice, and to agents of other roles",
        Reason.EPOCH_UNKNOWN,
        "docs/threat-model.md#watch-it-hold",
        wire.lying_scheduler,
        Outcome.RECOVERED,
    ),
)


def chosen(names: Sequence[str]) -> tuple[Act, ...]:
    """Return the acts of these names, all if none is named."""
    known = {act.name: act for act in ACTS}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no act {name!r}: there are {', '.join(known)}")
    return tuple(known[name] for name in names) or ACTS


async def play(stage: Stage, acts: Sequence[Act], tell: Callable[[Played], None]) -> list[Played]:
    """Play acts one after the other; after each, honest work must come out right, or the attack succeeded."""
    played = []
    if trouble := await stage.work():
        raise UsageError(f"the mesh did not work before any attack ({trouble}): run again")
    for act in acts:
        verdict = await act.perform(stage)
        if verdict.outcome is not Outcome.SUCCEEDED and (trouble := await stage.work()):
            verdict = Verdict(Outcome.SUCCEEDED, verdict.reason, f"honest work suffered: {trouble}")
        played.append(Played(act, verdict))
        tell(played[-1])
    return played
