"""What two policies demand of a platform: which demands rose, which fell, in sentences.

Pure. A demand rises when evidence that was accepted may now be refused, and falls in the reverse case.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from schemas.evidence import Floors, PlatformValues, ProductValues


class Way(StrEnum):
    """Which way a demand went."""

    ROSE = "rose"
    FELL = "fell"


class Demand(NamedTuple):
    """One demand on one platform that is another now."""

    platform: str
    way: Way
    text: str


def demands(platform: str, old: PlatformValues, new: PlatformValues) -> list[Demand]:
    """Return every demand on a platform that differs."""
    told = [
        *_accepted("root", (*old.roots, *old.lab_roots), (*new.roots, *new.lab_roots)),
        *_floors("", old.minimum_tcb, new.minimum_tcb),
        *_products(old.products, new.products),
        *_accepted("TCB status", old.statuses, new.statuses),
        *_only("advisories", "advisory", old.advisories, new.advisories),
        *_exceptions(old, new),
        *_accepted("key kind", old.keys, new.keys),
        *_only("clouds' keys", "cloud", old.clouds, new.clouds),
        *_demanded("feature", old.features, new.features),
        *_number("the highest VMPL accepted", old.highest_vmpl, new.highest_vmpl),
        *_number("the collateral's greatest age in days", old.max_collateral_days, new.max_collateral_days),
        *_number(
            "the evidence's greatest age in seconds", old.max_evidence_seconds, new.max_evidence_seconds
        ),
    ]
    if old.require_crl != new.require_crl:
        if new.require_crl:
            told.append((Way.ROSE, "a revocation list is required"))
        else:
            told.append((Way.FELL, "no revocation list is required any more"))
    if old.require_stated != new.require_stated:
        if new.require_stated:
            told.append((Way.ROSE, "a word on service TDs is required"))
        else:
            told.append((Way.FELL, "no word on service TDs is required any more"))
    return [Demand(platform, way, text) for way, text in told]


Told = Iterator[tuple[Way, str]]


def _accepted(what: str, old: Iterable[str], new: Iterable[str]) -> Told:
    for each in sorted(set(new) - set(old)):
        yield Way.FELL, f"{what} {each} is accepted"
    for each in sorted(set(old) - set(new)):
        yield Way.ROSE, f"{what} {each} is not accepted any more"


def _demanded(what: str, old: Iterable[str], new: Iterable[str]) -> Told:
    for each in sorted(set(new) - set(old)):
        yield Way.ROSE, f"{what} {each} is required"
    for each in sorted(set(old) - set(new)):
        yield Way.FELL, f"{what} {each} is not required any more"


def _floors(of: str, old: Floors, new: Floors) -> Told:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if after is None:
            yield Way.FELL, f"the floor of {of}{name}, {before}, is gone"
        elif before is None:
            # A floor of 0 still refuses evidence that does not state the component.
            yield Way.ROSE, f"{of}{name} has to be at least {after}"
        elif before != after:
            way = Way.ROSE if after > before else Way.FELL
            yield way, f"{of}{name} has to be at least {after}, was {before}"


def _products(old: dict[str, ProductValues] | None, new: dict[str, ProductValues] | None) -> Told:
    if old is None and new is None:
        return
    if old is None or new is None:
        named = ", ".join(sorted((new if old is None else old) or {}))
        if old is None:
            yield Way.ROSE, f"of the processor lines only {named} are accepted, it was any"
        else:
            yield Way.FELL, f"any processor line is accepted, it was {named}"
        old, new = old or {}, new or {}
        for line in sorted(old.keys() | new.keys()):
            yield from _product(line, old.get(line, ProductValues()), new.get(line, ProductValues()))
        return
    yield from _accepted("processor line", old, new)
    for line in sorted(old.keys() & new.keys()):
        yield from _product(line, old[line], new[line])


def _product(line: str, old: ProductValues, new: ProductValues) -> Told:
    yield from _floors(f"{line} ", old.minimum_tcb, new.minimum_tcb)
    yield from _floors(f"{line} committed ", old.minimum_committed_tcb, new.minimum_committed_tcb)
    if old.any_chip != new.any_chip:
        if new.any_chip:
            yield Way.FELL, f"any {line} chip is accepted, named or not"
        else:
            yield Way.ROSE, f"a {line} chip has to be named if keys of its line have leaked"


def _only(what: str, one: str, old: tuple[str, ...] | None, new: tuple[str, ...] | None) -> Told:
    """Tell of a list that accepts nothing else, where it is there."""
    if old is None and new is not None:
        yield Way.ROSE, f"of {what} only {', '.join(new) or 'none'} is accepted, it was any"
    elif old is not None and new is None:
        yield Way.FELL, f"any {one} is accepted, it was {', '.join(old) or 'none'}"
    else:
        yield from _accepted(one, old or (), new or ())


def _exceptions(old: PlatformValues, new: PlatformValues) -> Told:
    """Tell of what has an end: it is accepted until then, even where a list would accept it without one."""
    before, after = _ends(old), _ends(new)
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        if now is None:
            listed = new.lists(name)
            rest = "is accepted without an end" if listed else "is not accepted any more"
            yield Way.FELL if listed else Way.ROSE, f"the exception for {name} is gone: it {rest}"
        elif was is None:
            way = Way.ROSE if old.lists(name) else Way.FELL
            yield way, f"{name} is accepted until {now.isoformat()}"
        else:
            way = Way.ROSE if now < was else Way.FELL
            yield way, f"{name} is accepted until {now.isoformat()}, was {was.isoformat()}"


def _ends(values: PlatformValues) -> dict[str, datetime]:
    ends: dict[str, datetime] = {}
    for each in values.exceptions:
        ends[each.accept] = max(each.until, ends.get(each.accept, each.until))
    return ends


def _number(what: str, old: int | None, new: int | None) -> Told:
    """Tell of a bound from above: None is no bound."""
    if old == new:
        return
    rose = new is not None and (old is None or new < old)
    was = "unbounded" if old is None else old
    yield Way.ROSE if rose else Way.FELL, f"{what} is {'unbounded' if new is None else new}, was {was}"
