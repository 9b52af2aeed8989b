"""An audit log as a person reads it, and as programs do."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.audit_log import Finding, Head, StoredLog
from schemas.audit import FACTS, AuditEntry, as_plain
from schemas.limits import SECOND
from schemas.messages import Millis
from schemas.toml_place import printable
from schemas.words import count

ID_SHOWN = 16  # an instance id's first characters, as agents print them
_BESIDE_FACTS = 5 + 24 + 4 * 2  # columns of an entry's number and time, and between the columns
_LONG = 64  # hexadecimal digests are cut on the screen; --json has them whole


def instant(time: Millis) -> str:
    """Return a time as RFC 3339 has it, in UTC."""
    try:
        moment = datetime.fromtimestamp(time / SECOND, UTC)
    except (OverflowError, ValueError):
        return f"{time} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def head_data(head: Head) -> dict[str, Any]:
    """Return a signed head as plain data."""
    claims = head.claims
    return {
        "term": claims.term,
        "size": claims.size,
        "root": claims.root.hex(),
        "time": instant(claims.time),
        "signed": head.signed.hex(),
    }


def finding_data(finding: Finding) -> dict[str, Any]:
    """Return a finding as plain data."""
    return {
        "code": finding.code,
        "text": finding.text,
        "line": finding.line,
        "entry": finding.entry,
        "heads": [head_data(head) for head in finding.heads],
    }


def log_data(path: Path, log: StoredLog) -> dict[str, Any]:
    """Return what was found of a stored log as plain data."""
    last = log.last
    return {
        "file": str(path),
        "ok": not log.findings,
        "term": log.term,
        "entries": len(log.entries),
        "heads": len(log.heads),
        "last_head": head_data(last) if last else None,
        "findings": [finding_data(each) for each in log.findings],
    }


def show_log(console: Console, path: Path, log: StoredLog) -> None:
    """Say what was found of a stored log."""
    last = log.last
    if not log.findings:
        entries = count(len(log.entries), "entry", "entries")
        told = f"{entries} of term {log.term}, {count(len(log.heads), 'signed head')}"
        until = f", the last of {instant(last.claims.time)}" if last else ""
        console.print(
            Text.assemble((f"{path}: ", ""), ("verified", "green"), f": {told}{until}"), soft_wrap=True
        )
        return
    for finding in log.findings:
        show_finding(console, path, finding)


def show_finding(console: Console, path: Path, finding: Finding) -> None:
    """Say what does not fit, and show the heads that it is about."""
    where = f"{path}:{finding.line}: " if finding.line else f"{path}: "
    console.print(Text.assemble(where, (finding.code, "bold red"), f": {finding.text}"), soft_wrap=True)
    for head in finding.heads:
        claims = head.claims
        text = f"  head of {claims.size} entries, {instant(claims.time)}, root {claims.root.hex()}"
        console.print(Text(text), soft_wrap=True)
        console.print(Text(f"    as signed: {head.signed.hex()}"), soft_wrap=True)


def chosen(
    log: StoredLog, decisions: Sequence[str], instance: str | None, reason: str | None
) -> list[AuditEntry]:
    """Return the entries of these decisions, of an instance whose id begins so, with this reason."""
    return [
        entry
        for _, entry in log.entries
        if entry is not None
        and (not decisions or entry.decision in decisions)
        and (instance is None or _names(entry, instance))
        and (reason is None or entry.facts.get("reason") == reason)
    ]


def _names(entry: AuditEntry, instance: str) -> bool:
    named = [entry.facts.get("instance")]
    if entry.facts.get("kind") == "instance":
        named.append(entry.facts.get("value"))  # a revocation of an instance
    return any(isinstance(each, str) and each.startswith(instance) for each in named)


def show_entries(console: Console, entries: Iterable[AuditEntry]) -> None:
    """Print entries as a table."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("entry", justify="right", no_wrap=True)
    table.add_column("time", no_wrap=True)
    table.add_column("decision", no_wrap=True)
    table.add_column("facts", overflow="fold")
    shown = list(entries)
    room = console.width - _BESIDE_FACTS - max((len(each.decision) for each in shown), default=0)
    for entry in shown:
        named = [(name, entry.facts[name]) for name in FACTS[entry.decision]]
        facts = [f"{name} {_short(name, fact)}" for name, fact in named if fact not in ("", ())]
        table.add_row(str(entry.index), instant(entry.time), entry.decision, Text(_filled(facts, room)))
    console.print(table)


def _filled(facts: Sequence[str], room: int) -> str:
    """Put facts into lines, none torn from its name at the end of one."""
    lines: list[str] = []
    for fact in facts:
        if lines and len(lines[-1]) + 2 + len(fact) <= room:
            lines[-1] += f"  {fact}"
        else:
            lines.append(fact)
    return "\n".join(lines)


def entries_data(entries: Iterable[AuditEntry]) -> list[dict[str, object]]:
    """Return entries as plain data."""
    return [as_plain(entry) for entry in entries]


def _short(name: str, fact: object) -> str:
    if name == "expires" and isinstance(fact, int):
        return instant(fact)
    if isinstance(fact, tuple):
        return ",".join(printable(str(each)) for each in fact)
    text = printable(str(fact))
    hexadecimal = len(text) == _LONG and all(letter in "0123456789abcdef" for letter in text)
    return text[:ID_SHOWN] if hexadecimal else text
