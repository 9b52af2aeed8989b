"""`sealbus explain`: whether somebody may do something, and the whole chain of why, by files or a mesh.

Exit codes: 0 permitted, 1 not, 2 usage or unreadable, 3 no coordinator was reached.
"""

import hashlib
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click
import msgspec

from attestation.explain import explain as explain_evidence
from console.evidence import RFC3339, print_json
from console.explain import Explanation, Question, as_data, explain, sentences
from console.operating.asked import asked, asked_data, asked_lines
from console.operating.asking import ask
from console.operating.desk import Desk, desk_options
from console.policy import files
from console.policy.against import Replayed, everyone, replay
from console.policy.recorded import recordings
from console.policy.screen import say
from console.policy.signing_commands import load_anchor, load_signed, signed_path
from schemas.decisions import NOT_GIVEN
from schemas.errors import UsageError
from schemas.policy import Policy, compiled, parse
from schemas.rules import ACTIONS
from schemas.toml_errors import places_in
from sealing.context import sha256

_DEFAULTS = ("policy.toml", ".sealbus/lab/policy.toml")

PERMITTED, NOT = 0, 1


def _policy_in(_: click.Context, __: click.Parameter, named: Path | None) -> Path | None:
    return named / "policy.toml" if named is not None and named.is_dir() else named


@click.command("explain")
@click.argument("who")
@click.argument("what")
@click.argument("action", type=click.Choice(ACTIONS))
@click.option("--args", "arguments", help="What it would carry, as JSON.")
@click.option(
    "--policy",
    "file",
    type=click.Path(path_type=Path),
    callback=_policy_in,
    help="The policy, or a lab's directory; of a mesh that is asked, to tell the rule's line.",
)
@click.option(
    "--evidence",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Recorded evidence: tell who would be admitted in these roles.",
)
@click.option("--at", type=RFC3339(), help="Judge at this time; now if absent.")
@partial(desk_options, optional=True)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def explain_command(
    desk: Desk | None,
    who: str,
    what: str,
    action: str,
    arguments: str | None,
    file: Path | None,
    anchor_file: Path | None,
    evidence: tuple[Path, ...],
    at: datetime | None,
    as_json: bool,
) -> int:
    """Say whether WHO (a role, workload or client) may do ACTION with WHAT, and why.

    Where a name is several of these, WHO is role/NAME, workload/NAME or client/NAME.
    WHAT is a task class to submit, a tool to call, a kind of message to send, a context to read or write.
    With --key and --nats a mesh that runs is asked, where WHO may be an instance too; without, files are.
    """
    question = Question(who, what, action, *_arguments(arguments))
    if desk is not None:
        if evidence or at is not None:
            raise UsageError(
                "a mesh that runs answers for now, from whom it admitted: leave out --at and --evidence"
            )
        return _ask_mesh(desk, question, file, as_json)
    path = _policy_file(file)
    text = files.read_text(path)
    policy = parse(text, files.title(path))
    moment = time.time_ns() // 1_000_000 if at is None else int(at.timestamp() * 1000)
    found = explain(policy, places_in(text), question, at=moment)
    signed = _signed(policy, path, anchor_file)
    admitted = _admitted(policy, found, evidence, at)
    if as_json:
        plain = {**as_data(found), "policy": {"file": str(path), **signed}, "evidence": admitted}
        print_json(plain)
    else:
        say([*sentences(found, str(path)), *_told(signed), *(_line(each) for each in admitted)])
    return PERMITTED if found.is_permitted else NOT


def _ask_mesh(desk: Desk, question: Question, file: Path | None, as_json: bool) -> int:
    text = None if file is None else files.read_text(file)
    policy = None if text is None or file is None else parse(text, files.title(file))

    async def work() -> int:
        async with desk.line() as line:
            told = await ask(line)
        is_it = policy is not None and sha256(compiled(policy)) == told.status.policy_hash
        answer = asked(told, places_in(text) if is_it and text is not None else None, question)
        if as_json:
            print_json(asked_data(answer) | {"file": str(file) if is_it else None})
        else:
            say(asked_lines(answer, str(file)))
        if policy is not None and not is_it:
            click.echo(
                f"sealbus: {file} is another policy than the one in force, so no lines of it are told",
                err=True,
            )
        return PERMITTED if answer.may else NOT

    return anyio.run(work)


def _policy_file(named: Path | None) -> Path:
    candidates = [Path(each) for each in _DEFAULTS] if named is None else [named]
    for path in candidates:
        if path.is_file():
            return path
    if named is not None:
        raise UsageError(f"there is no policy {named}: name a policy's file, or a lab's directory")
    raise UsageError("there is no policy here: name one, or a lab's directory, with --policy")


def _arguments(text: str | None) -> tuple[Any, int]:
    if text is None:
        return NOT_GIVEN, 0
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise UsageError(f"--args is not JSON: {error}") from error
    return value, len(msgspec.msgpack.encode(value))


def _signed(policy: Policy, path: Path, anchor_file: Path | None) -> dict[str, Any]:
    """Return what is signed of the policy: by whom, if its signatures lie beside it."""
    plain: dict[str, Any] = {"version": policy.version, "mesh": policy.mesh, "hash": None, "signers": None}
    # A lab keeps the same under a shorter name.
    signatures = next(
        (each for each in (signed_path(path), path.with_suffix(".signed")) if each.is_file()), None
    )
    anchor = anchor_file or path.with_name("anchor.cbor")
    if signatures is None or not anchor.is_file():
        return plain
    found = load_signed(*load_anchor(anchor, path), signatures)
    if found.policy != policy:
        return {**plain, "signers": [], "note": "another text is signed"}
    return {
        **plain,
        "hash": found.digest.hex(),
        "signers": list(found.signers),
        "threshold": found.threshold,
        "lacking": found.lacking,
    }


def _told(signed: dict[str, Any]) -> list[str]:
    line = f"  by policy version {signed['version']} of mesh {signed['mesh'][:16]}…"
    if signed["signers"] is None:
        return [f"{line}, whose signatures are not here"]
    if "note" in signed:
        return [f"{line}, which nobody signed: {signed['note']}"]
    names = ", ".join(signed["signers"])
    lacking = f"; {signed['lacking']} more to go" if signed["lacking"] else ""
    return [f"{line}, hash {signed['hash'][:16]}…, signed by {names}{lacking}"]


def _admitted(
    policy: Policy, found: Explanation, evidence: tuple[Path, ...], at: datetime | None
) -> list[dict[str, Any]]:
    if not evidence:
        return []
    names = {name.partition(" ")[2] for name, _ in (*found.holders, *found.audience) if "workload" in name}
    judged = replay(everyone(policy), recordings(evidence, at))
    return [_as_data(each) for each in judged if each.workload in names]


def _as_data(each: Replayed) -> dict[str, Any]:
    return {
        "name": each.recording.name,
        "workload": each.workload,
        "platform": each.recording.found.platform,
        "sha256": hashlib.sha256(each.recording.found.evidence.value).hexdigest(),
        "admitted": each.assessment.accepted,
        "reasons": [] if each.assessment.accepted else list(explain_evidence(each.assessment)),
    }


def _line(each: dict[str, Any]) -> str:
    verdict = "would be admitted" if each["admitted"] else f"would be refused: {'; '.join(each['reasons'])}"
    evidence = f"{each['platform']} evidence {each['sha256'][:16]}…"
    return f"  {each['name']}, {each['workload']}: {evidence} {verdict}"
