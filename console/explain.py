"""Why a policy lets somebody do something, or does not: the decision with its chain, for a person to follow.

Pure. The decision is `schemas.decisions`', the same that grants are made from; nothing is decided here.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from schemas.decisions import NOT_GIVEN, Answer, Decision, answer, permitted
from schemas.errors import UsageError
from schemas.messages import Millis
from schemas.policy import Policy, with_rules
from schemas.rules import ACTIONS, SUBMIT, Rule
from schemas.toml_errors import did_you_mean
from schemas.toml_place import Path, Place, nearest


class Question(NamedTuple):
    """Who asks to do what with what, and what it would carry."""

    who: str  # a role, workload or client, as `whom` takes it
    what: str
    action: str
    arguments: Any = NOT_GIVEN
    size: int = 0


class Explanation(NamedTuple):
    """The answer in one role, with the places in the policy's text that it rests on."""

    decision: Decision
    answer: Answer
    rule: int | None  # the number of the rule that permits or forbids
    at: Place | None  # its line
    holders: tuple[tuple[str, Place | None], ...]  # workloads and clients that may hold the role
    audience: tuple[tuple[str, Place | None], ...]  # and those at which it arrives
    needed: str  # "" where it is permitted
    note: str  # what an answer by the policy alone leaves open, "" if nothing
    beside: Rule | None = None  # what permits it, if the policy does not: break-glass

    @property
    def is_permitted(self) -> bool:
        """Tell whether it may be done."""
        return self.answer.permitted is not None and self.answer.refusal is None


Places = dict[Path, Place]


def explain(
    policy: Policy,
    places: Places | None,
    question: Question,
    *,
    at: Millis,
    roles: tuple[str, ...] = (),
    given: tuple[Rule, ...] = (),
) -> Explanation:
    """Answer a question by a policy, or raise `UsageError` if it names what the policy does not.

    A workload or client is answered for in the role that permits it, else in its first. What it submits
    is judged by the one role that it seals to the receiver in. `places` is None where no text is at hand;
    `roles` are those of somebody whom no policy names, an instance; `given` is what operators gave beside
    the policy.
    """
    if question.action not in ACTIONS:
        text = f"there is no action {question.action!r}{did_you_mean(question.action, ACTIONS)}"
        raise UsageError(text)
    roles = roles or _roles(policy, question.who)
    known = policy.named().of(question.action)
    if question.what not in known:
        text = f"the policy has no {question.what!r} to {question.action}{did_you_mean(question.what, known)}"
        raise UsageError(text)
    if question.action == SUBMIT and len(roles) > 1:
        roles = (_submitter(with_rules(policy, given), roles, known[question.what]),)
    found = [_one(policy, places, question, role, at, given) for role in roles]
    return next((each for each in found if each.is_permitted), found[0])


def whom(policy: Policy, who: str) -> tuple[str, str]:
    """Return whether a name is a role's, a workload's or a client's, and the name, or raise `UsageError`.

    What is several of these is told apart by `role/NAME` and so on, unless it is the same for each.
    """
    tables = _tables(policy)
    kind, _, name = who.rpartition("/")
    found = {each: held[name] for each, held in tables.items() if name in held and kind in ("", each)}
    if not found:
        names = dict.fromkeys(each for held in tables.values() for each in held)
        raise UsageError(f"the policy has no role, workload or client {who!r}{did_you_mean(who, names)}")
    if len(set(found.values())) > 1:
        ways = " or ".join(f"{each}/{name}" for each in found)
        raise UsageError(f"{name!r} is more than one thing, which may do different things: say {ways}")
    return next(iter(found)), name


def _tables(policy: Policy) -> dict[str, dict[str, tuple[str, ...]]]:
    return {
        "role": {role: (role,) for role in policy.role_kinds()},
        "workload": {name: each.roles for name, each in policy.workloads.items()},
        "client": {name: each.roles for name, each in policy.clients.items()},
    }


def _roles(policy: Policy, who: str) -> tuple[str, ...]:
    kind, name = whom(policy, who)
    roles = _tables(policy)[kind][name]
    if not roles:
        raise UsageError(f"{who} may hold no role, so it may do nothing: name its roles in the policy")
    return roles


def _submitter(policy: Policy, roles: tuple[str, ...], group: str) -> str:
    # As the coordinator gives handles, and as a member makes its own: by what is granted, not by each rule.
    if group in roles:
        return roles[0]
    seals = {
        each.role
        for each, permit in permitted(policy).items()
        if each.action == SUBMIT and permit.audience == group
    }
    return next((role for role in roles if role in seals), roles[0])


def _one(
    policy: Policy, places: Places | None, question: Question, role: str, at: Millis, given: tuple[Rule, ...]
) -> Explanation:
    decision = Decision(role, question.action, question.what)
    whole = with_rules(policy, given)
    answered = answer(whole, decision, at=at, size=question.size, arguments=question.arguments)
    rule = answered.refusal.rule if answered.refusal else None
    if rule is None and answered.permitted is not None:
        rule = answered.permitted.rule
    beside = None
    if rule is not None and rule > len(policy.rules):
        beside, rule = whole.rules[rule - 1], None
    target = policy.named().of(question.action)[question.what]
    return Explanation(
        decision,
        answered,
        rule,
        None if rule is None else _place(places, ("rules", rule - 1)),
        _holders(policy, places, role),
        _holders(policy, places, target),
        _needed(decision, answered, rule),
        _note(question, answered),
        beside,
    )


def _place(places: Places | None, path: Path) -> Place | None:
    return None if places is None else nearest(places, path)


def _holders(policy: Policy, places: Places | None, role: str) -> tuple[tuple[str, Place | None], ...]:
    tables: Iterable[tuple[str, Any]] = (("workloads", policy.workloads), ("clients", policy.clients))
    return tuple(
        (f"{table[:-1]} {name}", _place(places, (table, name, "roles", each.roles.index(role))))
        for table, held in tables
        for name, each in held.items()
        if role in each.roles
    )


def _needed(decision: Decision, given: Answer, rule: int | None) -> str:
    if given.refusal is None:
        return ""
    if given.permitted is None and rule is None:
        return (
            f'a rule: [[rules]] role = "{decision.role}", may = "{decision.action}", what = "{decision.what}"'
        )
    if given.permitted is None or given.refusal.rule is not None:
        return f"that rule {rule} no longer forbids it"
    by = "the break-glass" if rule is None else f"rule {rule}"
    return f"that the use stays within {by}, or that {by} is widened"


def _note(question: Question, given: Answer) -> str:
    if question.arguments is NOT_GIVEN or given.permitted is None:
        return ""
    within = given.permitted.constraints
    if within.arguments is None and all(each.arguments is None for each in within.unless):
        return ""
    return "the handler's defaults are not known here: what is left out is judged with them at the gate"


def as_data(found: Explanation) -> dict[str, Any]:
    """Return the same as plain data."""
    refusal, permitted = found.answer.refusal, found.answer.permitted
    return {
        **found.decision._asdict(),
        "permitted": found.is_permitted,
        "reason": None if refusal is None else refusal.reason.value,
        "detail": None if refusal is None else refusal.detail,
        "rule": None if found.rule is None else {"number": found.rule, **_plain(found.at)},
        "audience": permitted.audience if permitted else None,
        "within": permitted.words() if permitted else [],
        "holders": [{"name": name, **_plain(place)} for name, place in found.holders],
        "audience_holders": [{"name": name, **_plain(place)} for name, place in found.audience],
        "needed": found.needed or None,
        "note": found.note or None,
    }


def _plain(place: Place | None) -> dict[str, int | None]:
    return {"line": None, "column": None} if place is None else place._asdict()


def sentences(found: Explanation, file: str) -> list[str]:
    """Say it in words, the rule with its place."""
    return [("yes: " if found.is_permitted else "no: ") + str(found.decision), *reasons(found, file)]


def reasons(found: Explanation, file: str) -> list[str]:
    """Say in words why it is so, the rule with its place."""
    refusal, permitted = found.answer.refusal, found.answer.permitted
    lines = []
    if found.rule is not None:
        verb = "forbids" if refusal is not None and refusal.rule is not None else "permits"
        at = "" if found.at is None else f"{file}:{found.at.line}:{found.at.column}: "
        lines.append(f"  {at}rule {found.rule} {verb} it")
    if found.beside is not None:
        lines.append("  no rule of the policy permits it: BREAK-GLASS does")
    if refusal is not None:
        lines.append(f"  refused: {refusal.detail} [{refusal.reason.value}]")
    if permitted is not None:
        lines.append(f"  arrives at role {permitted.audience}")
        lines += [f"  within: {each}" for each in permitted.words()]
    for text, holders in (("may act so", found.holders), ("may answer", found.audience)):
        lines += [
            f"  {text}: {name}" + ("" if place is None else f" ({file}:{place.line})")
            for name, place in holders
        ]
    if found.note:
        lines.append(f"  note: {found.note}")
    if found.needed:
        lines.append(f"  it would need {found.needed}")
    return lines
