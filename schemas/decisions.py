"""What a policy permits, as the set of all its decisions: who may do what with what, where, within what.

Pure. Deny is the default, so the set is all that there is; every other decision is no. The coordinator's
grants, `policy diff` and `explain` are all made from here.
"""

from typing import Any, NamedTuple

from msgspec.structs import replace

from schemas.documents import Condition, Constraints
from schemas.errors import Reason, UsageError
from schemas.granted import Granted, Refusal
from schemas.messages import Millis
from schemas.policy import Policy, check, with_rules
from schemas.rules import CALL, READ, SEND, SUBMIT, WRITE, Rule, constraints, seconds
from schemas.words import conditions_in_words, constraints_in_words

_PHRASES = {
    SEND: "send {} messages",
    SUBMIT: "submit {} tasks",
    CALL: "call the tool {}",
    READ: "read the context {}",
    WRITE: "write the context {}",
}


class Decision(NamedTuple):
    """The question: may `role` do `action` with `what`?"""

    role: str
    action: str
    what: str

    def __str__(self) -> str:
        return f"{self.role} may {_PHRASES[self.action].format(self.what)}"


class Permitted(NamedTuple):
    """The answer yes: the role at which it arrives, what narrows it, until when, and by which rule."""

    audience: str
    constraints: Constraints
    expires: int | None = None
    rule: int = 0

    @property
    def terms(self) -> str:
        """Return all that is said, in one form and without the rules' numbers: what is the same is equal."""
        given = self.constraints
        unless = tuple(sorted((replace(each, rule=0) for each in given.unless), key=_in_text))
        # As text: for Python, true is the number 1.
        bounds = (given.max_bytes, given.per_minute, given.days, given.hours, self.expires, self.audience)
        return repr((bounds, _sorted(given.arguments), [_in_text(each) for each in unless]))

    def __str__(self) -> str:
        return f"at {self.audience}" + "".join(f", {each}" for each in self.words())

    def words(self) -> list[str]:
        """Say what narrows it."""
        return constraints_in_words(self.constraints, self.expires) + [
            f"but not {conditions_in_words(each)}" for each in self.constraints.unless
        ]


class Answer(NamedTuple):
    """Whether a use is permitted, and by which rule, or what refuses it and which rule that is."""

    permitted: Permitted | None  # what would permit it, if it is refused within that
    refusal: Refusal | None


def permitted(policy: Policy) -> dict[Decision, Permitted]:
    """Return every decision that a policy answers with yes, at times at least."""
    denies: dict[Decision, list[tuple[int, Rule]]] = {}
    for number, rule in enumerate(policy.rules, 1):
        if rule.deny is not None:
            denies.setdefault(Decision(rule.role, rule.action, rule.what), []).append((number, rule))
    named = policy.named()
    found: dict[Decision, Permitted] = {}
    for number, rule in enumerate(policy.rules, 1):
        key = Decision(rule.role, rule.action, rule.what)
        against = denies.get(key, ())
        if rule.deny is not None or not all(each.is_conditional for _, each in against):
            continue
        until = None if rule.until is None else seconds(rule.until)
        target = named.of(rule.action)[rule.what]
        found[key] = Permitted(target, constraints(rule, against), until, number)
    return found


NOT_GIVEN = object()


def answer(
    policy: Policy, question: Decision, *, at: Millis, size: int = 0, arguments: Any = NOT_GIVEN
) -> Answer:
    """Decide one use at one time, as the gate does but for rates; without arguments, they are not judged."""
    found = permitted(policy).get(question)
    if found is None:
        for number, rule in enumerate(policy.rules, 1):
            is_it = question == (rule.role, rule.action, rule.what)
            if is_it and rule.deny is not None and not rule.is_conditional:
                refusal = Refusal(Reason.DENIED_BY_RULE, f"rule {number} of the policy", number)
                return Answer(None, refusal)
        return Answer(None, Refusal(Reason.NO_GRANT, "no rule permits it"))
    held = Granted(found.audience, found.constraints, found.rule, found.expires)
    refusal_now = held.refusal(size, at)
    if refusal_now is None and arguments is not NOT_GIVEN:
        refusal_now = held.of_arguments(arguments, at)
    return Answer(found, refusal_now)


def _in_text(condition: Condition) -> str:
    return repr((_sorted(condition.arguments), condition.days, condition.hours, condition.until))


def _sorted(value: Any) -> Any:
    """Return plain data with its keys in order."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(each) for each in value]
    return value


def check_addition(policy: Policy, rule: Rule) -> None:
    """Raise `UsageError` unless a rule beside the policy gives what that names and does not give."""
    asked = Decision(rule.role, rule.action, rule.what)
    held = permitted(policy).get(asked)
    if held is not None:
        raise UsageError(f"rule {held.rule} permits it already, within its limits")
    whole = with_rules(policy, (rule,))
    try:
        check(whole)
    except UsageError as error:
        raise UsageError(str(error).removeprefix(f"rule {len(whole.rules)}: ")) from error
    if asked not in permitted(whole):
        raise UsageError("a rule of the policy denies it without a condition")
