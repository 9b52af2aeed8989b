"""What operators type for an instance, chip, workload or measurement, and whom of a registry that means.

Pure. Nothing is guessed: what names several, or nobody, is told with what the registry has that is near.
"""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

from schemas.errors import UsageError
from schemas.messages import (
    CHIP,
    INSTANCE,
    LIFT,
    MEASUREMENT,
    OPERATOR,
    QUARANTINE,
    WORKLOAD,
    PartyStatus,
    Revocation,
)
from schemas.toml_errors import did_you_mean
from schemas.toml_place import printable

LEAST_PREFIX = 8  # digits that name an instance; a slip of fewer could name another
FULL = 64
CANDIDATES = 8  # named in an error; more of them help nobody
SHOWN = 16  # digits of an id that tell it from the others of a mesh

QUARANTINED = "quarantined"  # the state of a party

Registry = Sequence[PartyStatus]

ALONE = "without a key and a broker to ask a coordinator by, {} is named by all 64 digits"


class UnknownHereError(UsageError):
    """Only a coordinator can tell what is meant."""


def tidy(text: str) -> str:
    """Return an id as it is signed: lower case, without blanks within or around it, without `0x`."""
    return "".join(text.split()).lower().removeprefix("0x")


def digest_of(text: str) -> bytes:
    """Return an id of 64 hexadecimal digits, or raise `UsageError`."""
    try:
        value = bytes.fromhex(tidy(text))
    except ValueError:
        value = b""
    if len(value) * 2 != FULL:
        raise UsageError(
            f"{text!r} is no id: 64 hexadecimal digits, as `sealbus agents list --json` shows them"
        )
    return value


def of_kind(kind: str, value: str) -> str:
    """Return what a revocation of `kind` has to say for what somebody typed, or raise `UsageError`."""
    if kind in (INSTANCE, MEASUREMENT, QUARANTINE, LIFT):
        return digest_of(value).hex()
    return tidy(value)


def instance_of(told: Registry | None, text: str) -> str:
    """Return the whole id of the one instance that `text` begins, or raise `UsageError` with candidates."""
    digits = tidy(text)
    if len(digits) == FULL:
        return digest_of(digits).hex()
    if told is None:
        raise UnknownHereError(f"{text!r}: {ALONE.format('an instance')}")
    found = [each for each in told if each.instance.hex().startswith(digits)]
    if len(digits) >= LEAST_PREFIX and len(found) == 1:
        return found[0].instance.hex()
    if len(digits) >= LEAST_PREFIX and not found:
        raise UsageError(f"{text!r} begins the id of nobody who is admitted{_nearest(told, digits)}")
    what = f"names {len(found)} of those who are admitted" if digits else "is no id"
    raise UsageError(f"{text!r} {what}: give at least {LEAST_PREFIX} digits of one{_candidates(found)}")


def named(told: Registry, kind: str, value: str) -> list[PartyStatus]:
    """Return everyone of a registry whom a revocation names, and has something to do with."""
    found = [each for each in told if value in _of(each, kind)]
    return [each for each in found if each.state == QUARANTINED] if kind == LIFT else found


def nobody(told: Registry, listed: Iterable[Revocation], kind: str, value: str) -> str:
    """Say in words that a revocation names nobody who is admitted, and what may have been meant."""
    what = "instance" if kind in (QUARANTINE, LIFT) else kind
    if kind == LIFT and named(told, INSTANCE, value):
        return f"the instance {value} is not quarantined"
    text = f"nobody who is admitted has the {what} {printable(value)!r}"
    if any((each.kind, each.value) == (kind, value) for each in listed):
        return f"{text}: it is revoked already"
    if kind in (INSTANCE, QUARANTINE, LIFT):
        return text + _nearest(told, value)
    known = {of for each in told for of in _of(each, kind) if of}
    return text + (did_you_mean(value, known) if known else f"; no {what} at all is admitted")


def _of(party: PartyStatus, kind: str) -> tuple[str, ...]:
    # A coordinator puts out by every chip that it was told, not by the last alone.
    return {
        INSTANCE: (party.instance.hex(),),
        QUARANTINE: (party.instance.hex(),),
        LIFT: (party.instance.hex(),),
        CHIP: party.chips,
        WORKLOAD: (party.workload,),
        MEASUREMENT: (party.workload_id.hex(),),
    }[kind]


def _nearest(told: Registry, digits: str) -> str:
    def likeness(party: PartyStatus) -> float:
        return SequenceMatcher(None, party.instance.hex()[: len(digits)], digits).ratio()

    others = [each for each in told if each.kind != OPERATOR]
    near = sorted((each for each in others if likeness(each) >= 0.6), key=likeness, reverse=True)
    return _candidates(near) if near else _candidates(others)


def _candidates(parties: Sequence[PartyStatus]) -> str:
    if not parties:
        return "; `sealbus agents list` shows who is"
    shown = [_as_candidate(each) for each in parties[:CANDIDATES]]
    more = f" and {len(parties) - CANDIDATES} more" if len(parties) > CANDIDATES else ""
    return f"; there is {', '.join(shown)}{more}"


def _as_candidate(party: PartyStatus) -> str:
    return f"{party.instance.hex()[:SHOWN]} ({printable(party.workload or party.kind)})"
