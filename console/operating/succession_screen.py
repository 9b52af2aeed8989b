"""A change of operators in words and as data: who goes, who comes, who decides, and who has signed."""

from collections.abc import Iterable
from typing import Any

from console.operating import acts
from console.operating.acts import ORDER
from console.operating.succession import Change, Progress
from console.policy.signatures import date
from schemas import codec
from schemas.documents import OperatorKey, Operators, Order
from schemas.policy import from_compiled
from schemas.toml_place import printable
from sealing.council import Council

SHOWN = 16


def council_lines(council: Council) -> list[str]:
    """Say who the operators are."""
    since = "as the anchor names them" if not council.version else f"after {council.version} change(s)"
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


def change_lines(change: Change, progress: Progress) -> list[str]:
    """Say in words what a change does and who has signed it."""
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
    lines += [f"  signed again by those of after: {each}" for each in _again(change)]
    lines += [f"{name} has signed" for name in progress.signed]
    lines += [f"{name} has to sign with the new key" for name in progress.unproven]
    if progress.whole:
        return [*lines, "complete: publish it with `sealbus operators publish`"]
    return [
        *lines,
        f"not yet: {progress.former_missing} of before and {progress.new_missing} of after have to sign",
    ]


def change_data(change: Change, progress: Progress) -> dict[str, Any]:
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
        "again": _again(change),
        "signed": list(progress.signed),
        "unproven": list(progress.unproven),
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


def _again(change: Change) -> list[str]:
    said = []
    for act in change.acts:
        document = acts.document(act)
        if isinstance(document, Order):
            said.append(f"order of term {document.term}")
    if change.policy is not None:
        said.append(f"policy version {from_compiled(change.policy).version}")
    if revocations := [act for act in change.acts if act.kind != ORDER]:
        said.append(f"{len(revocations)} revocation(s)")
    return said
