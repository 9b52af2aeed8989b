"""What is legal in a policy's rules and yet hardly meant: dead, ended and shadowed ones, what none reaches.

Pure. "Shadowed" is told only where it is certain: a rule that another makes needless in a way that would take
an understanding of schemas is not among them.
"""

from collections.abc import Iterator
from datetime import datetime

from console.policy.finding import Finding
from schemas.decisions import permitted
from schemas.limits import SECOND
from schemas.policy import Policy
from schemas.rules import CALL, READ, SEND, SUBMIT, WRITE, Rule, ended, said
from schemas.toml_place import Path

_REACHED = (
    ("unreachable-class", "classes", (SUBMIT,)),
    ("unreachable-tool", "tools", (CALL,)),
    ("unreachable-message", "messages", (SEND,)),
    ("unreachable-context", "contexts", (READ, WRITE)),
)


def rule_findings(policy: Policy, *, now: datetime) -> list[Finding]:
    """Return all that there is to say of a policy's rules."""
    moment = int(now.timestamp() * SECOND)
    return [*_dead(policy, moment), *_shadowed(policy), *_unreachable(policy)]


def _dead(policy: Policy, now: int) -> Iterator[Finding]:
    living = {role for client in policy.clients.values() for role in client.roles}
    living |= {role for each in policy.workloads.values() if each.on for role in each.roles}
    named = policy.named()
    for index, rule in enumerate(policy.rules):
        at: Path = ("rules", index)
        dead = [role for role in (rule.role, named.of(rule.action)[rule.what]) if role not in living]
        if dead:
            text = f"rule {index + 1} is dead: role {dead[0]} is held only by workloads that run nowhere"
            yield Finding("dead-rule", at, text)
        if ended(rule, now):
            what = "permits" if rule.may else "forbids"
            yield Finding("ended-rule", (*at, "until"), f"rule {index + 1} {what} nothing since its day came")


def _shadowed(policy: Policy) -> Iterator[Finding]:
    things: dict[tuple[str, str], list[tuple[int, Rule]]] = {}
    for index, rule in enumerate(policy.rules):
        things.setdefault((rule.action, rule.what), []).append((index, rule))
    held_by = _held_by(policy)
    for group in things.values():
        for index, rule in group:
            at: Path = ("rules", index)
            others = [(number, each) for number, each in group if number != index and each.role == rule.role]
            forbids = [number for number, each in others if each.deny and _covers(each, rule)]
            if forbids and rule.may:
                text = f"rule {index + 1} is shadowed by rule {forbids[0] + 1}, which forbids all it permits"
                yield Finding("shadowed-rule", at, text)
            elif forbids:
                text = f"rule {index + 1} is shadowed by rule {forbids[0] + 1}, which forbids as much"
                yield Finding("shadowed-rule", at, text)
            elif rule.may:
                yield from _by_another_role(index, rule, group, held_by)


def _by_another_role(
    index: int, rule: Rule, group: list[tuple[int, Rule]], held_by: dict[str, frozenset[str]]
) -> Iterator[Finding]:
    for number, wider in group:
        if wider.role == rule.role or not wider.may or not held_by[rule.role] <= held_by[wider.role]:
            continue
        if not _as_wide(wider, rule, group):
            continue
        mutual = held_by[rule.role] == held_by[wider.role] and _as_wide(rule, wider, group)
        if number > index and mutual:
            continue  # the later of two equal ones is told
        text = (
            f"rule {index + 1} is shadowed by rule {number + 1}: whoever holds {rule.role} holds "
            f"{wider.role} too, which may do the same within limits as wide"
        )
        yield Finding("shadowed-rule", ("rules", index), text)
        return


def _held_by(policy: Policy) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for holder, roles in policy.holders():
        for role in roles:
            found.setdefault(role, set()).add(holder)
    return {role: frozenset(holders) for role, holders in found.items()}


def _as_wide(wider: Rule, rule: Rule, group: list[tuple[int, Rule]]) -> bool:
    bounds = ((wider.max_bytes, rule.max_bytes), (wider.per_minute, rule.per_minute))
    if not all(ours is None or (theirs is not None and theirs <= ours) for ours, theirs in bounds):
        return False
    if not _covers(wider, rule):
        return False
    return _forbidden(wider.role, group) <= _forbidden(rule.role, group)


def _forbidden(role: str, group: list[tuple[int, Rule]]) -> set[str]:
    return {said(each) for _, each in group if each.deny and each.role == role}


def _covers(wider: Rule, rule: Rule) -> bool:
    """Tell whether whenever `rule` holds, `wider` does; when in doubt it does not."""
    if wider.arguments is not None and repr(wider.arguments) != repr(rule.arguments):
        return False
    if wider.days is not None and not (rule.days is not None and set(rule.days) <= set(wider.days)):
        return False
    if wider.hours is not None and rule.hours != wider.hours:
        return False
    return wider.until is None or (rule.until is not None and rule.until <= wider.until)


def _unreachable(policy: Policy) -> Iterator[Finding]:
    reached = {(each.action, each.what) for each in permitted(policy)}
    for code, table, actions in _REACHED:
        for name in getattr(policy, table):
            if not any((action, name) in reached for action in actions):
                text = f"no rule lets anybody {' or '.join(actions)} {name}: add one, or remove it"
                yield Finding(code, (table, name), text)
