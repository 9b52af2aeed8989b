"""What a new policy permits and forbids that an older one did not, in sentences and as data.

Pure. Decisions are compared as sets (`schemas.decisions`), so no wording of a rule can hide a change.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from console.policy.demands import Demand, Way, demands
from console.policy.judging_findings import pins
from console.policy.signatures import date
from schemas.decisions import Decision, Permitted, permitted
from schemas.evidence import Publisher
from schemas.pinning import Pinned
from schemas.policy import Limits, Policy
from schemas.rules import constraints
from schemas.toml_place import Path, dotted
from schemas.words import conditions_in_words


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs between two policies."""

    permitted: dict[Decision, Permitted]  # newly
    forbidden: dict[Decision, Permitted]  # newly, with how it was permitted
    changed: dict[Decision, tuple[Permitted, Permitted]]  # permitted by both, otherwise
    gained: tuple[tuple[str, str], ...]  # holder, role
    lost: tuple[tuple[str, str], ...]
    demands: tuple[Demand, ...]
    other: tuple[str, ...]  # who is known by what, lifetimes, limits


def difference(old: Policy, new: Policy) -> Difference:
    """Compare two policies."""
    before, after = permitted(old), permitted(new)
    held, holds = _held(old), _held(new)
    return Difference(
        permitted={key: after[key] for key in sorted(after.keys() - before.keys())},
        forbidden={key: before[key] for key in sorted(before.keys() - after.keys())},
        changed={
            key: (before[key], after[key])
            for key in sorted(before.keys() & after.keys())
            if before[key].terms != after[key].terms
        },
        gained=tuple(sorted(holds - held)),
        lost=tuple(sorted(held - holds)),
        demands=_demands(old, new),
        other=(
            *_came_and_went("workload", old.workloads, new.workloads),
            *_pins(old, new),
            *_came_and_went("client", old.clients, new.clients),
            *_clients(old, new),
            *_came_and_went("task class", old.classes, new.classes),
            *_classes(old, new),
            *_came_and_went("tool", old.tools, new.tools),
            *_moved("tool", old.tools, new.tools),
            *_came_and_went("message", old.messages, new.messages),
            *_moved("message", old.messages, new.messages),
            *_came_and_went("context", old.contexts, new.contexts),
            *_moved("context", old.contexts, new.contexts),
            *_guards(old, new),
            *_limits(old, new),
            *_issued(old, new),
        ),
    )


def sentences(found: Difference) -> list[str]:
    """Say in words what differs; nothing if nothing does."""
    lines = [f"newly permitted: {key} {value}" for key, value in found.permitted.items()]
    lines += [f"newly forbidden: {key} {value}" for key, value in found.forbidden.items()]
    lines += [f"otherwise: {key} {now}; it was {was}" for key, (was, now) in found.changed.items()]
    lines += [f"newly permitted: {who} may hold role {role}" for who, role in found.gained]
    lines += [f"newly forbidden: {who} may hold role {role}" for who, role in found.lost]
    for way in (Way.FELL, Way.ROSE):
        lines += [f"demand on {e.platform} {way}: {e.text}" for e in found.demands if e.way is way]
    return [*lines, *found.other]


def as_data(found: Difference) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "permitted": [_decision(key, value) for key, value in found.permitted.items()],
        "forbidden": [_decision(key, value) for key, value in found.forbidden.items()],
        "changed": [
            {"was": _decision(key, was), "is": _decision(key, now)}
            for key, (was, now) in found.changed.items()
        ],
        "roles_gained": [list(each) for each in found.gained],
        "roles_lost": [list(each) for each in found.lost],
        "demands": [each._asdict() for each in found.demands],
        "other": list(found.other),
    }


def _decision(key: Decision, value: Permitted) -> dict[str, Any]:
    return {
        **key._asdict(),
        "audience": value.audience,
        "rule": value.rule,
        "expires": value.expires,
        **json.loads(msgspec.json.encode(value.constraints)),
    }


def _held(policy: Policy) -> set[tuple[str, str]]:
    held = {(f"workload {name}", role) for name, each in policy.workloads.items() for role in each.roles}
    return held | {(f"client {name}", role) for name, each in policy.clients.items() for role in each.roles}


def _demands(old: Policy, new: Policy) -> tuple[Demand, ...]:
    found = []
    for name in sorted(old.platforms.keys() | new.platforms.keys()):
        if name not in new.platforms:
            found.append(Demand(name, Way.ROSE, "evidence of this platform is not accepted any more"))
        elif name not in old.platforms:
            found.append(Demand(name, Way.FELL, "evidence of this platform is accepted"))
        else:
            found += demands(name, old.platforms[name], new.platforms[name])
    return tuple(found)


def _came_and_went(what: str, old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    lines = [f"{what} {name} is new" for name in sorted(new.keys() - old.keys())]
    return lines + [f"{what} {name} is gone" for name in sorted(old.keys() - new.keys())]


def _pins(old: Policy, new: Policy) -> list[str]:
    before: dict[Path, Pinned] = {path: pinned for path, _, pinned in pins(old)}
    after: dict[Path, Pinned] = {path: pinned for path, _, pinned in pins(new)}
    lines = []
    for path in sorted(before.keys() | after.keys(), key=dotted):
        if path not in after:
            lines.append(f"{dotted(path)} is accepted no more")
        elif path not in before:
            lines.append(f"{dotted(path)} is new")
        else:
            lines += [f"{dotted(path)}: {text}" for text in _pinned(before[path], after[path])]
    return lines


def _pinned(old: Pinned, new: Pinned) -> list[str]:
    lines = []
    for name in sorted(old.measurements.keys() | new.measurements.keys()):
        was, now = old.measurements.get(name, "any"), new.measurements.get(name, "any")
        if was != now:
            lines.append(f"{name} is {_short(now)}, was {_short(was)}")
    for field in ("publisher", "chips", "debuggable", "unsafe_any_measurement"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            lines.append(f"{field} is {_told(after)}, was {_told(before)}")
    return lines


def _short(digest: str) -> str:
    return digest if len(digest) <= 16 else f"{digest[:16]}…"


def _told(value: Any) -> str:
    match value:
        case None:
            return "not given"
        case tuple():
            return ", ".join(map(_short, value))
        case Publisher(key=key, minimum_svn=minimum):
            return _short(key) if minimum is None else f"{_short(key)} from SVN {minimum}"
    return str(value).lower()


def _clients(old: Policy, new: Policy) -> list[str]:
    both = sorted(old.clients.keys() & new.clients.keys())
    return [
        f"client {name} has another key: whoever has the old one is out"
        for name in both
        if old.clients[name].key != new.clients[name].key
    ]


def _classes(old: Policy, new: Policy) -> list[str]:
    lines = []
    for name in sorted(old.classes.keys() & new.classes.keys()):
        before, after = old.classes[name], new.classes[name]
        if before.role != after.role:
            lines.append(f"{name} tasks go to {after.role}, went to {before.role}")
        if before.lifetime_seconds != after.lifetime_seconds:
            lines.append(
                f"{name} tasks live {after.lifetime_seconds} seconds, lived {before.lifetime_seconds}"
            )
    return lines


def _moved(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [
        f"the {what} {name} is at {new[name]}, was at {old[name]}"
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    ]


def _guards(old: Policy, new: Policy) -> list[str]:
    """Tell of rules that forbid: they also bind rules that come later."""
    before, after = _forbidden(old), _forbidden(new)
    return [
        *(f"a rule forbids from now on: {each}" for each in sorted(after - before)),
        *(f"no rule forbids any more: {each}" for each in sorted(before - after)),
    ]


def _forbidden(policy: Policy) -> set[str]:
    told = set()
    for rule in policy.rules:
        if rule.deny is not None:
            (condition,) = constraints(rule, [(0, rule)]).unless
            told.add(f"{Decision(rule.role, rule.deny, rule.what)} {conditions_in_words(condition)}".rstrip())
    return told


def _issued(old: Policy, new: Policy) -> list[str]:
    if old.issued == new.issued:
        return []
    return [f"issued is {date(new.issued)}, was {date(old.issued)}"]


def _limits(old: Policy, new: Policy) -> list[str]:
    pairs = {
        f"limits.{name}": (getattr(old.limits, name), getattr(new.limits, name))
        for name in Limits.__struct_fields__
    }
    pairs["not_before"] = (old.not_before, new.not_before)
    pairs["expires"] = (old.expires, new.expires)
    return [
        f"{name} is {_told(after)}, was {_told(before)}"
        for name, (before, after) in pairs.items()
        if before != after
    ]
