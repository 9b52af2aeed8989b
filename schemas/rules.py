"""Rules of a policy: who may do what with what, within which constraints, and who may not.

Deny is the default. A rule permits (`may`) or forbids (`deny`); one that forbids wins over every one that
permits. `check_rules` finds what is well-formed but says nothing or contradicts itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from schemas.codec import Document
from schemas.documents import MAX_CONDITIONS, Condition, Constraints, Days
from schemas.limits import SECOND
from schemas.messages import Millis, Name
from schemas.narrowing import SchemaError, compile_schema
from schemas.times import DAYS, Hours, has_day, span
from schemas.toml_errors import ContradictionError, did_you_mean
from schemas.toml_place import Path

SEND, SUBMIT, CALL, READ, WRITE = ACTIONS = ("send", "submit", "call", "read", "write")

Positive = Annotated[int, Meta(ge=1, le=2**40)]
Action = Annotated[str, Meta(pattern="^(send|submit|call|read|write)\\Z")]


class Rule(Document, frozen=True, kw_only=True):
    """`role` may, or may not, do one thing with `what`.

    That is `send` messages of a kind, `submit` tasks of a class, `call` a tool, `read` or `write` a context.
    A rule that permits is narrowed by its constraints; one that forbids does so where all of its hold.
    """

    role: Name
    may: Action | None = None
    deny: Action | None = None
    what: Name
    max_bytes: Positive | None = None  # of the payload, as it travels
    per_minute: Positive | None = None  # for each instance, at each receiver
    arguments: dict[str, Any] | None = None  # a JSON Schema, of `schemas.narrowing`'s kind
    days: Days | None = None  # UTC
    hours: Hours | None = None  # UTC
    until: Annotated[datetime, Meta(tz=True)] | None = None

    @property
    def action(self) -> str:
        """Return what the rule is about, whether it permits or forbids."""
        return self.may or self.deny or ""

    @property
    def is_conditional(self) -> bool:
        """Tell whether a rule that forbids does so only at times, or only some arguments."""
        return any(each is not None for each in (self.arguments, self.days, self.hours, self.until))


@dataclass(frozen=True, slots=True)
class Named:
    """What rules can name, with the role at which it arrives."""

    classes: Mapping[str, str]
    tools: Mapping[str, str]
    messages: Mapping[str, str]
    contexts: Mapping[str, str]

    def of(self, action: str) -> Mapping[str, str]:
        """Return what can be named with an action."""
        if action == SUBMIT:
            return self.classes
        if action == CALL:
            return self.tools
        return self.messages if action == SEND else self.contexts


def seconds(moment: datetime) -> int:
    """Return a time as a NumericDate; a part of a second is dropped."""
    return int(moment.timestamp())


def constraints(rule: Rule, denies: Iterable[tuple[int, Rule]] = ()) -> Constraints:
    """Return what narrows a rule that permits: its own constraints, and the numbered rules that forbid."""
    return Constraints(
        max_bytes=rule.max_bytes,
        per_minute=rule.per_minute,
        arguments=rule.arguments,
        days=_in_order(rule.days),
        hours=rule.hours,
        unless=tuple(
            Condition(
                rule=number,
                arguments=each.arguments,
                days=_in_order(each.days),
                hours=each.hours,
                until=None if each.until is None else seconds(each.until),
            )
            for number, each in denies
        ),
    )


def _in_order(days: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if days is None else tuple(day for day in DAYS if day in days)


def ended(rule: Rule, now: Millis) -> bool:
    """Tell whether a rule's day has come."""
    return rule.until is not None and seconds(rule.until) * SECOND <= now


def check_rules(
    rules: tuple[Rule, ...],
    roles: Iterable[str],
    named: Named,
    holders: Iterable[tuple[str, tuple[str, ...]]],
) -> None:
    """Raise `ContradictionError` for the first rule that can't be meant.

    `roles` are those that somebody holds, `holders` who holds which ones.
    """
    known = set(roles)
    for number, rule in enumerate(rules, 1):
        _check_form(number, rule)
        at: Path = ("rules", number - 1)
        if rule.role not in known:
            text = f"rule {number}: nobody holds role {rule.role!r}{did_you_mean(rule.role, known)}"
            raise ContradictionError((*at, "role"), text)
        if rule.what not in named.of(rule.action):
            meant = did_you_mean(rule.what, named.of(rule.action))
            text = f"rule {number}: there is no {rule.what!r} to {rule.action}{meant}"
            raise ContradictionError((*at, "what"), text)
        _check_constraints(number, rule)
    _check_doubles(rules)
    _check_holders(rules, holders)


def _check_form(number: int, rule: Rule) -> None:
    at: Path = ("rules", number - 1)
    if rule.may is None and rule.deny is None:
        text = (
            f"rule {number} neither permits nor forbids: add may = ... or deny = ... to [rules[{number - 1}]]"
        )
        raise ContradictionError(at, text)
    if rule.may is not None and rule.deny is not None:
        text = f"rule {number} permits and forbids: remove `may` or `deny`"
        raise ContradictionError((*at, "deny"), text)
    if rule.deny is not None:
        for name in ("max_bytes", "per_minute"):
            if getattr(rule, name) is not None:
                text = f"rule {number}: `{name}` narrows what is permitted: remove it from what is forbidden"
                raise ContradictionError((*at, name), text)


def _check_constraints(number: int, rule: Rule) -> None:
    at: Path = ("rules", number - 1)
    if rule.days is not None and len(set(rule.days)) != len(rule.days):
        raise ContradictionError((*at, "days"), f"rule {number}: a day stands there twice")
    if rule.hours is not None and (len(set(span(rule.hours))) == 1 or rule.hours == "00:00-24:00"):
        text = f"rule {number}: {rule.hours} is no time or all of it: choose other hours, or leave them out"
        raise ContradictionError((*at, "hours"), text)
    if rule.until is not None and not has_day(rule.until):
        raise ContradictionError((*at, "until"), f"rule {number}: choose a day from 1970 to 9999, in UTC")
    if rule.arguments is None:
        return
    if rule.action in (READ, WRITE):
        text = f"rule {number}: to {rule.action} a context has no arguments: remove the schema"
        raise ContradictionError((*at, "arguments"), text)
    try:
        compile_schema(rule.arguments)
    except SchemaError as error:
        raise ContradictionError((*at, "arguments", *error.path), f"rule {number}: {error}") from error


def _check_doubles(rules: tuple[Rule, ...]) -> None:
    permits: dict[tuple[str, str, str], int] = {}
    denies: dict[tuple[str, str, str], list[tuple[int, Rule]]] = {}
    for number, rule in enumerate(rules, 1):
        at: Path = ("rules", number - 1)
        key = rule.role, rule.action, rule.what
        if rule.deny is None:
            if key in permits:
                text = f"rule {number} is rule {permits[key]} again: join their limits into one"
                raise ContradictionError(at, text)
            permits[key] = number
            continue
        others = denies.setdefault(key, [])
        same = [other for other, each in others if said(each) == said(rule)]
        if same:
            raise ContradictionError(at, f"rule {number} is rule {same[0]} again: remove one of the two")
        others.append((number, rule))
        if len(others) > MAX_CONDITIONS:
            text = (
                f"rule {number}: at most {MAX_CONDITIONS} rules may forbid one thing to one role: join some"
            )
            raise ContradictionError(at, text)


def said(rule: Rule) -> str:
    """Return what a rule that forbids says, in one form: two that say the same are equal."""
    # As text: for Python, true is the number 1.
    return repr(constraints(rule, [(0, rule)]).unless[0].as_data())


def _check_holders(rules: tuple[Rule, ...], holders: Iterable[tuple[str, tuple[str, ...]]]) -> None:
    """Refuse what a holder of two roles could do in one of them though the other forbids it."""
    permits: dict[tuple[str, str], dict[str, int]] = {}
    denies: dict[tuple[str, str], dict[str, dict[str, int]]] = {}
    for number, rule in enumerate(rules, 1):
        thing = rule.action, rule.what
        if rule.deny is None:
            permits.setdefault(thing, {})[rule.role] = number
        else:
            denies.setdefault(thing, {}).setdefault(rule.role, {})[said(rule)] = number
    both = [(thing, forbidden) for thing, forbidden in denies.items() if thing in permits]
    if not both:
        return
    for holder, roles in holders:
        for thing, forbidden in both:
            for role in roles:
                for other in roles:
                    if other == role or other not in permits[thing]:
                        continue
                    missing = forbidden.get(role, {}).keys() - forbidden.get(other, {}).keys()
                    for each in sorted(missing):
                        number = forbidden[role][each]
                        text = f"rule {number} forbids {role} what rule {permits[thing][other]} permits "
                        text += f"{other}, and {holder} may hold both: give {other} the same rule, or take "
                        text += "a role from it"
                        raise ContradictionError(("rules", number - 1), text)
