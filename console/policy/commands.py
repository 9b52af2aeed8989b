"""`sealbus policy`: write, check, sign, compare and try a policy before it is published.

Exit codes: 0 fine, 1 findings or refused, 2 unreadable.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from console.audit_log import MAX_LOG, read_log
from console.evidence import RFC3339, print_json
from console.operating.mesh_commands import publish
from console.policy import files, generate_command, signing_commands
from console.policy.against import Outcome, evictions, excluded
from console.policy.against import replay as replay_all
from console.policy.against_log import Replayed as ReplayedLog
from console.policy.against_log import log_data, log_lines, replay_log
from console.policy.difference import as_data as as_plain
from console.policy.difference import difference, sentences
from console.policy.finding import Finding
from console.policy.findings import FOR_A_MESH, evidence_gaps, findings, incomplete, judged, unseen
from console.policy.recorded import Recording, Unread, readings, recordings
from console.policy.rule_findings import rule_findings
from console.policy.schema_findings import schema_findings
from console.policy.screen import finding_data, finding_line, replayed_data, replayed_table, say, unread_data
from console.policy.signatures import chain
from console.policy.signing_commands import (
    ANCHOR,
    File,
    anchor_option,
    load_anchor,
    load_past,
    read_anchor,
)
from console.policy.starter import starter
from schemas.audit import AuditEntry
from schemas.errors import UsageError
from schemas.evidence import PLATFORMS
from schemas.evidence_policy import parse_for_evidence
from schemas.policy import Policy, parse
from schemas.policy_schema import policy_schema
from schemas.succession import Verdict
from schemas.toml_errors import places_in, read_toml
from schemas.toml_place import nearest
from schemas.words import count

F = TypeVar("F", bound=Callable[..., Any])

FINE, FOUND, UNREADABLE = 0, 1, 2

at_option = click.option("--at", type=RFC3339(), help="Judge at this time; when it was recorded if absent.")
json_option = click.option("--json", "as_data", is_flag=True, help="Print it as JSON.")


def evidence_option(purpose: str) -> Callable[[F], F]:
    """Return the option that names folders of evidence, for a purpose."""
    path = click.Path(exists=True, path_type=Path)
    return click.option("--evidence", multiple=True, type=path, help=purpose)


@click.group()
def policy() -> None:
    """Write, check, sign, compare and try a policy; publish it, which alone of these needs a mesh."""


for _command in (
    generate_command.generate,
    signing_commands.keygen,
    signing_commands.anchor,
    signing_commands.sign,
    signing_commands.join,
    signing_commands.show,
    publish,
):
    policy.add_command(_command)


@policy.command()
@click.option("--out", type=File, help="Write it there; else it is printed.")
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    type=click.Choice(PLATFORMS),
    help="A platform to run on, the coordinator's first; all if absent.",
)
@click.option("--mesh", "--anchor", "anchor_file", type=File, help="Fill in the mesh of this anchor.")
def new(out: Path | None, platforms: tuple[str, ...], anchor_file: Path | None) -> int:
    """Write a commented policy to start from."""
    mesh = None
    if anchor_file is not None:
        mesh = read_anchor(anchor_file)[1].id.hex()
    chosen = tuple(dict.fromkeys(platforms)) or PLATFORMS
    text = starter(chosen, issued=time.time_ns() // 1_000_000, mesh=mesh)
    if out is None or str(out) == "-":
        click.echo(text, nl=False)
        return FINE
    files.write_new(out, text.encode())
    say([f"{out}: fill in what says so; `sealbus policy check {out}` names it one by one"])
    return FINE


@policy.command()
def schema() -> int:
    """Print a JSON Schema of the policy file, for editors."""
    click.echo(json.dumps(policy_schema(), indent=1))
    return FINE


@policy.command()
@click.argument("file", type=File)
@click.option("--previous", type=File, help="The signed version before, which this one has to follow.")
@anchor_option
@evidence_option("Recorded evidence that the demands on platforms should not exclude.")
@at_option
@json_option
def check(
    file: Path,
    previous: Path | None,
    anchor_file: Path | None,
    evidence: tuple[Path, ...],
    at: datetime | None,
    as_data: bool,
) -> int:
    """Say what is amiss with the policy FILE. Exit 0 if nothing is, 1 with findings, 2 if it is no policy."""
    text = files.read_text(file)
    data = read_toml(text, dict[str, Any], files.title(file))
    now = datetime.now(UTC)
    found = incomplete(data)
    whole = not found
    if whole:
        read = parse(text, files.title(file))
        found = findings(read, now=now) + rule_findings(read, now=now) + schema_findings(read)
        found += _chain(read, file, previous, anchor_file)
    judges = not evidence_gaps(data)
    if judges:
        part = parse_for_evidence(text, files.title(file))
        if not whole:
            found += judged(part, data, now=now)
        if evidence:
            found += excluded(replay_all(part.reference_values(), recordings(evidence, at)))
    where = places_in(text)
    found += unseen(text)
    found.sort(key=lambda each: each.at or nearest(where, each.path))
    if as_data:
        print_json({"findings": [finding_data(where, each) for each in found]})
    else:
        say(finding_line(file, where, each) for each in found)
        say([f"{file}: {count(len(found), 'finding')}" if found else f"{file}: nothing is amiss"])
        if judges and all(each.code in FOR_A_MESH for each in found) and found:
            say([f"what judges evidence is complete: `sealbus evidence verify PATH --policy {file}`"])
    return FOUND if found else FINE


def _chain(read: Policy, file: Path, previous: Path | None, anchor_file: Path | None) -> list[Finding]:
    found = []
    if anchor_file is not None or file.with_name(ANCHOR).exists():
        mesh = load_anchor(anchor_file, file)[1].id.hex()
        if read.mesh != mesh:
            text = f'the anchor is of another mesh, so nobody can sign this: set mesh = "{mesh}"'
            found.append(Finding("other-mesh", ("mesh",), text))
    if previous is None:
        return found + chain(read, None)
    council, of = load_anchor(anchor_file, file)
    return found + chain(read, load_past(council, of, previous))


@policy.command()
@click.argument("old", type=File)
@click.argument("new", type=File)
@evidence_option("Recorded evidence of what runs: tell who would be evicted.")
@at_option
@json_option
def diff(old: Path, new: Path, evidence: tuple[Path, ...], at: datetime | None, as_data: bool) -> int:
    """Say what the policy NEW permits, forbids and demands that OLD does not. Exit 1 if they differ."""
    before, after = files.read_policy(old), files.read_policy(new)
    found = difference(before, after)
    judged = evictions(before, after, recordings(evidence, at)) if evidence else []
    lines = sentences(found)
    if as_data:
        running = [{**each._asdict(), "verdict": each.verdict.value} for each in judged]
        print_json({**as_plain(found), "running": running})
    else:
        say(lines or ["the two permit, forbid and demand the same"])
        say(f"{each.name}, {each.workload} on {each.platform}: {_VERDICTS[each.verdict]}" for each in judged)
    return FOUND if lines else FINE


_VERDICTS = {
    Verdict.STAYS: "stays",
    Verdict.MUST_PROVE: "has to prove itself again",
    Verdict.OUT: "would be evicted",
}


@policy.command()
@click.argument("file", type=File)
@click.argument("evidence", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--log", "logs", multiple=True, type=File, help="A stored audit log: judge its decisions too.")
@anchor_option
@at_option
@json_option
def replay(
    file: Path,
    evidence: tuple[Path, ...],
    logs: tuple[Path, ...],
    anchor_file: Path | None,
    at: datetime | None,
    as_data: bool,
) -> int:
    """Judge recorded EVIDENCE, and decisions of a --log, by the policy FILE.

    Exit 1 if it refuses any, or pins what is revoked, 2 if some can't be read.
    """
    if not evidence and not logs:
        raise UsageError("name folders of evidence, or an audit log with --log")
    decided = _replayed_log(file, logs, anchor_file) if logs else None
    values = files.read_reference_values(file)
    found = readings(evidence, at) if evidence else []
    judged = replay_all(values, [each for each in found if isinstance(each, Recording)])
    unread = [each for each in found if isinstance(each, Unread)]
    counts = Counter(each.verdict for each in judged)
    refused, unreadable = counts[Outcome.REFUSED], counts[Outcome.UNREADABLE] + len(unread)
    if as_data:
        data = [*map(replayed_data, judged), *map(unread_data, unread)]
        of_log = log_data(decided) if decided else {}
        print_json({"evidence": data, "refused": refused, "unreadable": unreadable} | of_log)
    else:
        if evidence:
            Console().print(replayed_table(judged, unread))
            but = f", {unreadable} can't be read" if unreadable else ""
            say([f"{counts[Outcome.ACCEPTED]} accepted, {refused} refused{but}"])
        say(log_lines(decided) if decided else [])
    if unreadable:
        return UNREADABLE
    return FOUND if refused or (decided and (decided.refused or decided.revoked)) else FINE


def _replayed_log(file: Path, logs: tuple[Path, ...], anchor_file: Path | None) -> ReplayedLog:
    council, mesh = load_anchor(anchor_file, file)
    read = files.read_policy(file)
    if read.mesh != mesh.id.hex():
        raise UsageError(f"{file} is of another mesh than the anchor, whose operators ordered the log's term")
    entries: list[AuditEntry] = []
    for path in logs:
        stored = read_log(files.read(path, MAX_LOG), council, mesh)
        if stored.findings:
            text = stored.findings[0].text
            raise UsageError(f"{path}: {text}: nothing is judged by it; `sealbus audit verify {path}`")
        entries += [entry for _, entry in stored.entries if entry is not None]
    return replay_log(read, entries)
