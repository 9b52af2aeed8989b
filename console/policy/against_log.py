"""A policy against decisions that a coordinator recorded: whom of those admitted it names, and what they may.

Pure. An entry says who was admitted as what, and no more: what Evidence showed is judged by replaying that.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from attestation.appraise import workload_id
from schemas.audit import BY_REVOCATION, AuditEntry
from schemas.decisions import Decision, permitted
from schemas.errors import Reason
from schemas.messages import CLIENT, ENCLAVE, INSTANCE, MEASUREMENT, OPERATOR, WORKLOAD
from schemas.pinning import Pinned
from schemas.policy import Policy
from schemas.words import count
from sealing.keys import client_instance

NAMED, ADMITTED, REFUSED = "named", "admitted", "refused"
LEFT_OPEN = ("measurements", "chips", "the demands on platforms")  # of enclaves: no entry has them


class Party(NamedTuple):
    """Everybody whom a log admitted alike."""

    kind: str
    name: str  # of a workload, or of a client by the policy; its instance if that names none
    platform: str
    roles: tuple[str, ...]

    def __str__(self) -> str:
        on = f" on {self.platform}" if self.platform else ""
        return f"{self.kind} {self.name}{on} as {', '.join(self.roles)}"


class Decided(NamedTuple):
    """What a policy makes of them, as far as entries tell."""

    party: Party
    instances: tuple[str, ...]
    refusal: tuple[str, str] | None  # code and words
    may: tuple[Decision, ...]  # what grants there would be for their roles
    untaken: tuple[Decision, ...]  # of these, what nobody who was admitted, and would be, takes

    @property
    def verdict(self) -> str:
        """Say what becomes of them: a client is its key, of an enclave the name alone is judged."""
        if self.refusal is not None:
            return REFUSED
        return ADMITTED if self.party.kind == CLIENT else NAMED


class Replayed(NamedTuple):
    """What a policy makes of logs."""

    decided: tuple[Decided, ...]
    revoked: tuple[str, ...]  # what the policy pins and the log says is out: nobody is admitted as that
    newly: tuple[str, ...]  # clients that were refused for want of a name, and have one now
    unjudged: dict[str, int]  # reason: refusals of which entries do not say who asked for what

    @property
    def refused(self) -> int:
        """How many of those that were admitted alike would not be."""
        return sum(each.verdict == REFUSED for each in self.decided)


def replay_log(policy: Policy, entries: Iterable[AuditEntry]) -> Replayed:
    """Judge by a policy everybody whom the entries say was admitted, and what they may do then."""
    clients = {client_instance(bytes.fromhex(each.key)).hex(): n for n, each in policy.clients.items()}
    admitted: dict[Party, set[str]] = {}
    banned: set[tuple[str, str]] = set()
    refusals: list[tuple[str, str]] = []
    for entry in entries:
        facts: dict[str, Any] = entry.facts
        if entry.decision == "revoked":
            banned.add((facts["kind"], facts["value"]))
        elif entry.decision == "evicted" and facts["cause"] == BY_REVOCATION:
            # Whom a policy put out, another may name again, and who was late may prove; these stay out.
            banned.add((INSTANCE, facts["instance"]))
        elif entry.decision == "refused":
            refusals.append((facts["instance"], facts["reason"]))
        elif entry.decision == "admitted" and facts["kind"] != OPERATOR:
            name = facts["workload"] or clients.get(facts["instance"], facts["instance"])
            party = Party(facts["kind"], name, facts["platform"], tuple(facts["roles"]))
            admitted.setdefault(party, set()).add(facts["instance"])
    out = {value for kind, value in banned if kind == INSTANCE}
    stay = {party: sorted(held - out) for party, held in sorted(admitted.items()) if held - out}
    judged = {party: _refusal(policy, party, banned) for party in stay}
    held = {role for party, refusal in judged.items() if refusal is None for role in party.roles}
    rights = permitted(policy)
    decided = []
    for party, refusal in judged.items():
        may = [each for each in rights if refusal is None and each.role in party.roles]
        untaken = tuple(each for each in may if rights[each].audience not in held)
        decided.append(Decided(party, tuple(stay[party]), refusal, tuple(may), untaken))
    known = {each for held_ in admitted.values() for each in held_}
    newly = {
        clients[instance]
        for instance, reason in refusals
        if reason == Reason.CLIENT_NOT_IN_POLICY and instance in clients.keys() - known
    }
    unjudged = Counter(reason for instance, reason in refusals if clients.get(instance) not in newly)
    revoked = tuple(
        f"{name} on {platform}"
        for name, each in sorted(policy.workloads.items())
        for platform, pinned in sorted(each.on.items())
        if _is_banned(name, platform, pinned, banned)
    )
    return Replayed(tuple(decided), revoked, tuple(sorted(newly)), dict(sorted(unjudged.items())))


def _refusal(policy: Policy, party: Party, banned: set[tuple[str, str]]) -> tuple[str, str] | None:
    # As at the door: who it is, and then its roles.
    if party.kind == CLIENT:
        client = policy.clients.get(party.name)
        if client is None:
            return Reason.CLIENT_NOT_IN_POLICY.value, "no client of the policy has its key"
        return _roles(party, client.roles)
    if party.platform not in policy.platforms:
        return Reason.PLATFORM_NOT_IN_POLICY.value, "the policy names no such platform"
    workload = policy.workloads.get(party.name)
    pinned = workload.on.get(party.platform) if workload else None
    if workload is None or pinned is None:
        where = "on that platform" if workload else "of that name"
        return Reason.MEASUREMENT_NOT_IN_POLICY.value, f"the policy pins no workload {where}"
    if _is_banned(party.name, party.platform, pinned, banned):
        return Reason.INSTANCE_REVOKED.value, "the log says that it is revoked, and the policy still pins it"
    return _roles(party, workload.roles)


def _is_banned(name: str, platform: str, pinned: Pinned, banned: set[tuple[str, str]]) -> bool:
    value = workload_id(pinned.values(name, platform)).hex()
    return bool({(WORKLOAD, name), (MEASUREMENT, value)} & banned)


def _roles(party: Party, may_hold: tuple[str, ...]) -> tuple[str, str] | None:
    if lost := [role for role in party.roles if role not in may_hold]:
        return Reason.ROLE_NOT_PERMITTED.value, f"it may not hold {', '.join(lost)} any more"
    return None


def log_lines(found: Replayed) -> Iterator[str]:
    """Say what a policy makes of logs."""
    for each in found.decided:
        because = f": {each.refusal[1]} [{each.refusal[0]}]" if each.refusal else ""
        yield f"{each.verdict}: {each.party}, {count(len(each.instances), 'instance')}{because}"
        for decision in each.may:
            nobody = "; nobody who was admitted takes it" if decision in each.untaken else ""
            yield f"  {decision}{nobody}"
        if each.refusal is None and not each.may:
            yield "  may do nothing"
    yield from (f"pinned, and the log says that it is revoked: {each}" for each in found.revoked)
    yield from (f"admitted: client {name}, which was refused" for name in found.newly)
    if any(each.party.kind == ENCLAVE for each in found.decided):
        yield f"not judged, for no entry has them: {', '.join(LEFT_OPEN)}; replay the evidence too"
    for reason, number in found.unjudged.items():
        yield f"not judged, for no entry says who asked for what: {count(number, 'refusal')}, {reason}"
    verdicts = Counter(each.verdict for each in found.decided)
    yield ", ".join(f"{verdicts[each]} {each}" for each in (NAMED, ADMITTED, REFUSED))


def log_data(found: Replayed) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "decisions": [_data(each) for each in found.decided],
        "revoked": list(found.revoked),
        "newly_admitted": list(found.newly),
        "not_judged": {"facts": list(LEFT_OPEN), "refusals": found.unjudged},
        "decisions_refused": found.refused,
    }


def _data(each: Decided) -> dict[str, Any]:
    code, words = each.refusal or (None, None)
    return {
        **each.party._asdict(),
        "roles": list(each.party.roles),
        "platform": each.party.platform or None,
        "instances": list(each.instances),
        "verdict": each.verdict,
        "reason": code,
        "explanation": words,
        "may": [_decision(decision) for decision in each.may],
        "untaken": [_decision(decision) for decision in each.untaken],
    }


def _decision(decision: Decision) -> dict[str, str]:
    return {"role": decision.role, "action": decision.action, "what": decision.what}
