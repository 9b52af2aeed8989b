"""Whether somebody may do something in a mesh that runs: by its policy, its registry, and what is out.

Pure. The policy's word is `console.explain`'s; here stand the admissions that make it so, or their lack.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from agent_runtime import RefusedError
from attestation.appraise import workload_id
from console.explain import Explanation, Places, Question, as_data, explain, reasons, whom
from console.operating.naming import LEAST_PREFIX, instance_of, tidy
from console.operating.screen import SHOWN, party_data
from console.policy.signatures import date
from schemas.documents import BreakGlass
from schemas.errors import Reason, UsageError
from schemas.messages import (
    BREAK_GLASS,
    CHIP,
    INSTANCE,
    MEASUREMENT,
    OPERATOR,
    QUARANTINE,
    WORKLOAD,
    MeshStatus,
    PartyStatus,
    Revocation,
)
from schemas.policy import Policy
from schemas.rules import CALL, SEND, SUBMIT, Rule
from schemas.toml_place import printable
from schemas.words import count
from sealing.keys import client_instance

ADMITTED, QUARANTINED = "admitted", "quarantined"  # states of a party that is heard
LINES = 8  # admissions that are told to a person; a program gets all


class Broken(NamedTuple):
    """A right that is given beside the policy, and who signed that."""

    glass: BreakGlass
    signers: tuple[str, ...]

    @property
    def rule(self) -> Rule:
        """The rule that it adds."""
        return Rule(role=self.glass.role, may=self.glass.may, what=self.glass.what)


class Told(NamedTuple):
    """What a coordinator told of one moment; policy and break-glass are verified."""

    status: MeshStatus
    policy: Policy
    signers: tuple[str, ...]
    broken: tuple[Broken, ...]
    revoked: tuple[Revocation, ...]


class Asked(NamedTuple):
    """The answer, with everything that it rests on."""

    told: Told
    found: Explanation
    subjects: tuple[PartyStatus, ...]  # who may act so and is admitted
    takers: tuple[PartyStatus, ...]  # at whom it arrives
    out: tuple[Revocation, ...]  # what is revoked of those who could be either
    by: tuple[Broken, ...]  # what permits it beside the policy
    hindrance: str  # why it cannot be done now though it is permitted, "" if it can
    waits: str  # what it would wait for, "" if for nothing

    @property
    def may(self) -> bool:
        """Tell whether it may be done now, by somebody who is admitted."""
        return self.found.is_permitted and not self.hindrance


def asked(told: Told, places: Places | None, question: Question) -> Asked:
    """Answer as of the coordinator's time, or raise `UsageError` if nothing of that name is known.

    WHO may be an instance too, by its id or its first digits; raise `RefusedError` for one that is out.
    """
    policy, parties = told.policy, told.status.parties
    alone = _instance(told, question.who)
    party = None if alone is None else _party_of(told, alone)
    found = explain(
        policy,
        places,
        question,
        at=told.status.time,
        roles=party.roles if party else (),
        given=tuple(dict.fromkeys(each.rule for each in told.broken)),
    )
    role = found.decision.role
    subjects = tuple(
        each for each in parties if role in each.roles and _is(policy, question.who, each, alone)
    )
    target = policy.named().of(question.action)[question.what]
    takers = tuple(each for each in parties if target in each.roles)
    hindrance, waits = _hindrance(told, question.action, subjects, takers)
    return Asked(
        told,
        found,
        subjects,
        takers,
        tuple(_concerning(told, {role, target})),
        tuple(each for each in told.broken if each.rule == found.beside),
        hindrance if found.is_permitted else "",
        waits if found.is_permitted else "",
    )


def _instance(told: Told, who: str) -> bytes | None:
    if who in told.policy.role_kinds() or who in told.policy.workloads or who in told.policy.clients:
        return None
    digits = tidy(who)
    if len(digits) < LEAST_PREFIX or set(digits) - set("0123456789abcdef"):
        return None
    gone = {each for entry in told.revoked if _is_out(entry) for each in entry.instances}
    lost = [each for each in gone if each.hex().startswith(digits)]
    if len(lost) == 1 and all(each.instance != lost[0] for each in told.status.parties):
        return lost[0]
    return bytes.fromhex(instance_of(told.status.parties, who))


def _party_of(told: Told, instance: bytes) -> PartyStatus:
    party = next((each for each in told.status.parties if each.instance == instance), None)
    if party is not None:
        if party.kind == OPERATOR:
            raise UsageError(f"{instance.hex()} is an operator's console: what operators do, no policy says")
        return party
    for entry in told.revoked:
        if _is_out(entry) and instance in entry.instances:
            since = date(entry.time)
            text = f"{instance.hex()} is out and may do nothing: {_entry(entry)} {since}"
            raise RefusedError(Reason.INSTANCE_REVOKED, text)
    raise UsageError(f"nobody who is admitted is {instance.hex()}: `sealbus agents list` shows who is")


def _is(policy: Policy, who: str, party: PartyStatus, alone: bytes | None) -> bool:
    if alone is not None:
        return party.instance == alone
    kind, name = whom(policy, who)
    if kind == "role":
        return True
    if kind == "workload":
        return party.workload == name
    return party.instance == client_instance(bytes.fromhex(policy.clients[name].key))


def _hindrance(
    told: Told, action: str, subjects: tuple[PartyStatus, ...], takers: tuple[PartyStatus, ...]
) -> tuple[str, str]:
    status = told.status
    if status.lease_until is not None and status.lease_until <= status.time:
        return f"the operators' lease ended {date(status.lease_until)}: nobody takes or sends anything", ""
    if not subjects:
        return "nobody who may act so is admitted", ""
    # Who is quarantined may still ask: what it has begun it is to finish.
    if not any(each.state in (ADMITTED, QUARANTINED) for each in subjects):
        return "everybody who may act so has to prove itself again first", ""
    if action not in (CALL, SEND, SUBMIT) or any(each.state == ADMITTED for each in takers):
        return "", ""
    states = sorted({each.state for each in takers})
    text = f"nobody takes it: all are {' or '.join(states)}" if takers else "nobody who takes it is admitted"
    # A task lies in its stream until somebody comes.
    return ("", f"{text}; a task waits for somebody until it expires") if action == SUBMIT else (text, "")


def _is_out(entry: Revocation) -> bool:
    return entry.kind not in (QUARANTINE, BREAK_GLASS)


def _concerning(told: Told, roles: set[str]) -> Iterable[Revocation]:
    """Yield what is revoked of workloads that may hold one of `roles`: by name, measurement or chip."""
    named: set[tuple[str, str]] = set()
    for name, each in told.policy.workloads.items():
        if roles.isdisjoint(each.roles):
            continue
        named.add((WORKLOAD, name))
        for platform, pinned in each.on.items():
            named.add((MEASUREMENT, workload_id(pinned.values(name, platform)).hex()))
            named |= {(CHIP, chip) for chip in pinned.chips or ()}
    return (each for each in told.revoked if _is_out(each) and (each.kind, each.value) in named)


def _entry(entry: Revocation) -> str:
    return f"{entry.kind} {printable(entry.value if entry.kind != INSTANCE else entry.value[:SHOWN])} revoked"


def asked_data(answer: Asked) -> dict[str, Any]:
    """Return an answer as plain data."""
    told = answer.told
    return {
        **as_data(answer.found),
        "may": answer.may,
        "hindrance": answer.hindrance or None,
        "waits": answer.waits or None,
        "break_glass": [_glass_data(each) for each in answer.by],
        "policy": {
            "version": told.policy.version,
            "hash": told.status.policy_hash.hex(),
            "mesh": told.policy.mesh,
            "signers": list(told.signers),
        },
        "term": told.status.term,
        "time": told.status.time,
        "lease_until": told.status.lease_until,
        "admitted": [party_data(each) for each in answer.subjects],
        "audience_admitted": [party_data(each) for each in answer.takers],
        "revoked": [
            {
                "kind": each.kind,
                "value": each.value,
                "time": each.time,
                "instances": [instance.hex() for instance in each.instances],
            }
            for each in answer.out
        ],
    }


def _glass_data(broken: Broken) -> dict[str, Any]:
    glass = broken.glass
    return {"until": glass.until, "reason": glass.reason, "signers": list(broken.signers)}


def asked_lines(answer: Asked, file: str) -> list[str]:
    """Say an answer in words."""
    told = answer.told
    lines = [("yes: " if answer.may else "no: ") + str(answer.found.decision)]
    if answer.hindrance:
        lines.append(f"  not now: {answer.hindrance}")
    lines += reasons(answer.found, file)
    for glass, signers in answer.by:
        who = ", ".join(signers)
        lines.append(
            f"  BREAK-GLASS until {date(glass.until)}, signed by {who}, because: {printable(glass.reason)}"
        )
    lines.append(
        f"  by policy version {told.policy.version}, hash {told.status.policy_hash.hex()[:SHOWN]}…, in force "
        f"in term {told.status.term}, signed by {', '.join(told.signers)}"
    )
    lines += _admitted("acts", answer.subjects, "may finish what it has begun")
    lines += _admitted("takes", answer.takers, "takes nothing new")
    lines += [
        f"  out: {_entry(each)} {date(each.time)}, {count(len(each.instances), 'instance')} listed"
        for each in answer.out
    ]
    if answer.waits:
        lines.append(f"  note: {answer.waits}")
    return lines


def _admitted(verb: str, parties: tuple[PartyStatus, ...], quarantined: str) -> list[str]:
    lines = [f"  {verb}: {_party(each, quarantined)}" for each in parties[:LINES]]
    if len(parties) > LINES:
        lines.append(f"  {verb}: {len(parties) - LINES} more, all with --json")
    return lines or [f"  {verb}: nobody is admitted"]


def _party(party: PartyStatus, quarantined: str) -> str:
    state = party.state + (f" ({quarantined})" if party.state == QUARANTINED else "")
    proof = f"{party.platform} evidence {party.evidence.hex()[:SHOWN]}…" if party.evidence else "by its key"
    return (
        f"{party.instance.hex()[:SHOWN]}, {printable(party.workload or party.kind)}, {state} until "
        f"{date(party.expires)}, {proof}"
    )
