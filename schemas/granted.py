"""A grant as it is looked up: its constraints compiled once, its checks cheap enough for every message.

Pure. A check returns a `Refusal` or None and never raises: who asks says no in its own way. What can't be
checked is refused, by a permit as by a deny.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.documents import Condition, Constraints, Grant
from schemas.errors import MalformedError, Reason
from schemas.limits import MAX_MESSAGE, SECOND
from schemas.messages import Millis
from schemas.narrowing import Check, SchemaError, compile_schema
from schemas.plain import Form, NotPlainError, plain
from schemas.times import Window


class Refusal(NamedTuple):
    """Why a use is not within a grant, without a word of what was to be used."""

    reason: Reason
    detail: str
    rule: int | None = None  # the number of the rule that forbids it


class _Deny(NamedTuple):
    rule: int
    holds: Callable[[Millis], bool]
    arguments: Check | None


class _Compiled(NamedTuple):
    window: Window
    denies: tuple[_Deny, ...]
    arguments: Check | None


@dataclass(frozen=True, slots=True)
class Granted:
    """What may be done at role `audience`, and within which constraints."""

    audience: str
    constraints: Constraints
    rule: int = 0
    expires: int | None = None  # seconds
    most: int = field(init=False, compare=False, default=MAX_MESSAGE)  # bytes
    is_timed: bool = field(init=False, compare=False, default=False)
    checks_arguments: bool = field(init=False, compare=False, default=False)
    _compiled: _Compiled = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Compile the constraints, or raise `SchemaError`."""
        given, put = self.constraints, object.__setattr__
        if given.max_bytes is not None:
            put(self, "most", given.max_bytes)
        if not given.unless and given.arguments is None and given.days is None and given.hours is None:
            put(self, "_compiled", _UNBOUND)
            put(self, "is_timed", self.expires is not None)
            return
        denies = tuple(_deny(each) for each in given.unless)
        arguments = None if given.arguments is None else compile_schema(given.arguments)
        timed = self.expires is not None or given.days is not None or given.hours is not None
        put(self, "_compiled", _Compiled(Window(given.days, given.hours), denies, arguments))
        put(self, "is_timed", timed or any(each.arguments is None for each in denies))
        by_arguments = arguments is not None or any(each.arguments is not None for each in denies)
        put(self, "checks_arguments", by_arguments)

    def refusal(self, size: int, now: Millis) -> Refusal | None:
        """Tell why a payload of so many bytes may not go now; what it holds, `of_arguments` checks."""
        if size > self.most:
            return Refusal(Reason.CONSTRAINT_VIOLATED, f"larger than {self.most} bytes")
        return self._at(now) if self.is_timed else None

    def of_arguments(self, value: Any, now: Millis, form: Form | None = None) -> Refusal | None:
        """Tell why a decoded value may not be handed over; the very object that is checked has to be.

        Whoever hands it over says by `form` to which type it was decoded.
        """
        if not self.checks_arguments:
            return None
        try:
            return self._of_plain(plain(value, form), now)
        except NotPlainError as error:
            return Refusal(Reason.CONSTRAINT_VIOLATED, f"the argument {error}")

    def _of_plain(self, seen: Any, now: Millis) -> Refusal | None:
        for deny in self._compiled.denies:
            if deny.arguments is not None and deny.holds(now) and deny.arguments(seen) == "":
                return Refusal(Reason.DENIED_BY_RULE, f"rule {deny.rule} of the policy", deny.rule)
        missed = "" if self._compiled.arguments is None else self._compiled.arguments(seen)
        if missed:
            return Refusal(Reason.CONSTRAINT_VIOLATED, f"the argument misses {missed} of its schema")
        return None

    def _at(self, now: Millis) -> Refusal | None:
        if self.expires is not None and now >= self.expires * SECOND:
            return Refusal(Reason.EXPIRED, "the grant")
        for deny in self._compiled.denies:
            if deny.arguments is None and deny.holds(now):
                return Refusal(Reason.DENIED_BY_RULE, f"rule {deny.rule} of the policy", deny.rule)
        if not self._compiled.window.holds(now):
            return Refusal(Reason.CONSTRAINT_VIOLATED, "outside its days and hours")
        return None


_UNBOUND = _Compiled(Window(None, None), (), None)


def granted(grant: Grant) -> Granted:
    """Return a verified grant as it is looked up, or raise `MalformedError`."""
    try:
        return Granted(grant.audience, grant.constraints, grant.rule, grant.expires)
    except SchemaError as error:
        raise MalformedError("a grant with a schema that is not supported") from error


def _deny(given: Condition) -> _Deny:
    window, until = Window(given.days, given.hours), given.until
    arguments = None if given.arguments is None else compile_schema(given.arguments)
    if until is None:
        return _Deny(given.rule, window.holds, arguments)
    ends = until * SECOND
    return _Deny(given.rule, lambda now: now < ends and window.holds(now), arguments)
