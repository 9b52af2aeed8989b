"""A change of operators in words and as data: who goes, who comes, who decides, and who has signed."""

from collections.abc import Iterable
from typing import Any

from console.operating.screen import said_data, said_lines
from console.operating.succession import Change, Progress
from console.policy.difference import difference, sentences
from console.policy.signatures import date
from schemas import codec
from schemas.documents import OperatorKey, Operators
from schemas.policy import Policy, from_compiled
from schemas.toml_place import printable
from schemas.words import count
from sealing.context import sha256
from sealing.council import Council

SHOWN = 16


def council_lines(council: Council) -> list[str]:
    """Say who the operators are."""
    since = "as the anchor names them" if not council.version else f"after {count(council.version, 'change')}"
    lines = [f"{council.threshold} of {len(council.operators)} operators sign, {since}"]
    lines += [f"  {each.name}: {each.key.hex()}" for each in council.operators]
    return [*lines, f"version {council.version}, {council.digest.hex()}"]


def council_data(council: Council) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "version": council.version,
        "hash": council.digest.hex(),
        "threshold": council.threshold,
        "operators": {each.name: each.key.hex() for each in council.operators},
    }


def change_lines(change: Change, progress: Progress, held: Policy | None) -> list[str]:
    """Say in words what a change does, all that is signed with it, and who has signed it.

    `held` is the policy that this console knows, which the one in the change is compared with.
    """
    old, new, said = progress.before, progress.after, codec.decode(change.step.text, Operators)
    went, came, stays = _moved(old, new)
    lines = [
        f"change {new.version} of the operators",
        f"  goes: {_names(went)}",
        f"  comes: {_names(came)}",
        f"  stays: {_names(stays)}",
        f"  sign: {_sign(old)} before, {_sign(new)} after",
        f"  because: {printable(said.reason)}",
        f"  of {date(said.time)}",
    ]
    if again := _again_lines(change, held):
        lines += ["signed again by those of after:", *(f"  {each}" for each in again)]
    lines += [f"{name} has signed" for name in progress.signed]
    lines += [f"{name} has to sign with the new key" for name in progress.unproven]
    lines += [f"{name} has not signed all that is signed again" for name in progress.partly]
    if progress.whole:
        return [*lines, "complete: publish it with `sealbus operators publish`"]
    return [
        *lines,
        f"not yet: {progress.former_missing} of before and {progress.new_missing} of after have to sign",
    ]


def change_data(change: Change, progress: Progress, held: Policy | None) -> dict[str, Any]:
    """Return the same as plain data."""
    said = codec.decode(change.step.text, Operators)
    went, came, stays = _moved(progress.before, progress.after)
    return council_data(progress.after) | {
        "goes": [each.name for each in went],
        "comes": [each.name for each in came],
        "stays": [each.name for each in stays],
        "threshold_before": progress.before.threshold,
        "reason": said.reason,
        "time": said.time,
        "again": _again_data(change, held),
        "signed": list(progress.signed),
        "unproven": list(progress.unproven),
        "partly": list(progress.partly),
        "lacking": {"before": progress.former_missing, "after": progress.new_missing},
        "complete": progress.whole,
    }


def _moved(old: Council, new: Council) -> tuple[list[OperatorKey], list[OperatorKey], list[OperatorKey]]:
    went = [each for each in old.operators if each.key not in new.keys]
    came = [each for each in new.operators if each.key not in old.keys]
    return went, came, [each for each in new.operators if each.key in old.keys]


def _sign(council: Council) -> str:
    return f"{council.threshold} of {len(council.operators)}"


def _names(operators: Iterable[OperatorKey]) -> str:
    return ", ".join(f"{each.name} ({each.key.hex()[:SHOWN]})" for each in operators) or "nobody"


def _again_lines(change: Change, held: Policy | None) -> list[str]:
    said = [line for act in change.acts for line in said_lines(act)]
    if change.policy is None:
        return said
    policy = from_compiled(change.policy)
    said += [f"policy version {policy.version}", f"  hash {sha256(change.policy).hex()}"]
    if held is None:
        return [*said, "  this console has seen none in force: compare the hash with the others"]
    if policy == held:
        return [*said, "  the one that was seen in force here"]
    said.append(f"  unlike version {held.version}, which was seen in force here:")
    return [*said, *(f"    {each}" for each in sentences(difference(held, policy)))]


def _again_data(change: Change, held: Policy | None) -> list[dict[str, Any]]:
    said = [said_data(act) for act in change.acts]
    if change.policy is not None:
        policy = from_compiled(change.policy)
        told = {"kind": "policy", "version": policy.version, "hash": sha256(change.policy).hex()}
        unlike = None if held is None else sentences(difference(held, policy))
        said.append(told | {"unlike_the_one_seen": unlike})
    return said
