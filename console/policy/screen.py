"""Findings, signatures and differences as a person reads them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from attestation.explain import explain
from attestation.moments import rfc3339
from console.policy.against import Outcome, Replayed
from console.policy.finding import Finding
from console.policy.recorded import Unread
from console.policy.signatures import Signed, validity
from schemas.messages import Millis
from schemas.toml_place import Path as KeyPath
from schemas.toml_place import Place, nearest, printable


def finding_line(file: Path, places: dict[KeyPath, Place], finding: Finding) -> str:
    """Return a finding in one line that editors and terminals jump from."""
    at = finding.at or nearest(places, finding.path)
    return f"{file}:{at.line}:{at.column}: {finding.text} [{finding.code}]"


def finding_data(places: dict[KeyPath, Place], finding: Finding) -> dict[str, Any]:
    """Return a finding as plain data."""
    at = finding.at or nearest(places, finding.path)
    return {
        "code": finding.code,
        "path": list(finding.path),
        "line": at.line,
        "column": at.column,
        "text": finding.text,
    }


def signed_lines(signed: Signed, problems: Iterable[Finding], now: Millis) -> list[str]:
    """Say in words who has signed what, and what is missing."""
    policy = signed.policy
    follows = f"follows {policy.predecessor}" if policy.predecessor else "names no predecessor"
    lines = [
        f"policy version {policy.version} of mesh {policy.mesh}",
        f"  hash {signed.digest.hex()}",
        f"  {follows}",
        f"  can be adopted: {validity(policy, now)}",
    ]
    lines += [f"{name} has signed version {policy.version} and its profile" for name in signed.signers]
    lines += [f"{name} has not signed" for name in signed.others]
    lines += [f"{problem.text} [{problem.code}]" for problem in problems]
    have, need = len(signed.signers), signed.threshold
    if signed.lacking:
        more = "one more signature" if signed.lacking == 1 else f"{signed.lacking} more signatures"
        lines.append(f"not in force: {have} of {need} signatures, {more} to go")
    else:
        lines.append(f"complete: {have} of {need} signatures that it needs")
    return lines


def signed_data(signed: Signed, problems: Iterable[Finding], now: Millis) -> dict[str, Any]:
    """Return the same as plain data."""
    policy = signed.policy
    return {
        "mesh": policy.mesh,
        "version": policy.version,
        "hash": signed.digest.hex(),
        "predecessor": policy.predecessor,
        "not_before": policy.not_before,
        "expires": policy.expires,
        "validity": validity(policy, now),
        "signed": list(signed.signers),
        "not_signed": list(signed.others),
        "threshold": signed.threshold,
        "lacking": signed.lacking,
        "problems": [{"code": each.code, "text": each.text} for each in problems],
    }


def replayed_table(judged: Iterable[Replayed], unread: Iterable[Unread]) -> Table:
    """Return a table of recordings, what they are and what a policy makes of them, as narrow as a screen."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in judged:
        style = "green" if each.verdict is Outcome.ACCEPTED else "red"
        table.add_row(Text(each.verdict.value, style), Text(printable(each.recording.name), "bold"))
        because = f": {', '.join(each.refusals)}" if each.refusals else ""
        table.add_row("", Text(f"{each.workload or 'no workload'} on {each.platform}{because}"))
    for each_unread in unread:
        table.add_row(Text(Outcome.UNREADABLE.value, "red"), Text(printable(each_unread.name), "bold"))
        table.add_row("", Text(printable(each_unread.problem)))
    return table


def replayed_data(each: Replayed) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "evidence": each.recording.name,
        "platform": each.platform,
        "at": rfc3339(each.recording.at),
        "workload": each.workload or None,
        "verdict": each.verdict.value,
        "reasons": list(each.assessment.reasons),
        "explanations": explain(each.assessment),
    }


def unread_data(each: Unread) -> dict[str, Any]:
    """Return what could not even be read as plain data, with the keys of what was."""
    return {
        "evidence": each.name,
        "platform": None,
        "at": None,
        "workload": None,
        "verdict": Outcome.UNREADABLE.value,
        "reasons": [],
        "explanations": [each.problem],
    }


def say(lines: Iterable[str], *, error: bool = False) -> None:
    """Print each as one line, whatever characters the names in it have; `error`: to stderr."""
    for line in lines:
        click.echo(printable(line), err=error)
