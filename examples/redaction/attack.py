"""`sealbus demo --attack`: the theatre, and the redaction of a few documents as the work it disturbs."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.padding import Padding

from agent_runtime import Client
from examples.redaction.inputs import Passed, Source, walk
from examples.redaction.job import Job
from examples.redaction.output import Results
from examples.redaction.truth import FILE as TRUTH
from lab.mesh import RunningMesh
from lab.theatre import Outcome, Played, Stage, chosen, play
from schemas.errors import UsageError

INDENT = 4  # columns
DOCUMENTS = 12  # some dozens of tasks an act
_COLOURS = {Outcome.REFUSED: "green", Outcome.RECOVERED: "green", Outcome.SUCCEEDED: "red"}


async def attack(
    mesh: RunningMesh, client: Client, corpus: Path, names: tuple[str, ...], console: Console, machine: bool
) -> int:
    """Play the acts, tell each; return 0 if every one came out as its guarantee demands."""
    if mesh.tap is None:
        raise UsageError("the theatre needs a tap: run it by sealbus demo --attack")
    acts = chosen(names)
    with tempfile.TemporaryDirectory(prefix="sealbus-theatre-") as made:
        work = Work(client, corpus, Path(made) / "out")
        stage = Stage(mesh, mesh.tap, work.do, Path(made))
        console.print()
        played = await play(stage, acts, lambda one: tell(console, one))
    unexpected = [one for one in played if not one.as_expected]
    console.print(f"\n{len(played) - len(unexpected)} of {len(played)} guarantees held")
    if machine:
        click.echo(json.dumps({"attacks": [as_object(one) for one in played]}))
    return 1 if unexpected else 0


class Work:
    """The same documents again and again; each time they must come out the same."""

    def __init__(self, client: Client, corpus: Path, out: Path) -> None:
        self._client = client
        self._corpus = corpus
        self._out = out
        self._first: dict[str, int] | None = None

    async def do(self) -> str:
        """Redact the documents; return what was wrong, or nothing."""
        with Results.create(self._out, replace=True) as results:
            report = await Job(self._client.context, self._inputs, results, lambda _: None).run()
        if report.failed:
            return f"{len(report.failed)} documents failed: {report.failed[0].reason}"
        findings = dict(report.findings)
        if self._first is None:
            self._first = findings
        if report.redacted != DOCUMENTS or findings != self._first:
            return "the results are others than before"
        return ""

    def _inputs(self) -> Iterator[Source | Passed]:
        sources = [found for found in walk((self._corpus,), self._out) if isinstance(found, Source)]
        yield from [source for source in sources if str(source.name) != TRUTH][:DOCUMENTS]


def tell(console: Console, one: Played) -> None:
    """Narrate an act: what holds, what was done against it, and what came of it."""
    act, verdict = one.act, one.verdict
    colour = _COLOURS[verdict.outcome] if one.as_expected else "red"
    reason = f" [bold]{verdict.reason}[/bold]" if verdict.reason else ""
    console.print(f"[bold]{act.name}[/bold]: {act.guarantee}.")
    lines = [
        f"The attacker {act.deed}.",
        f"[{colour}]{verdict.outcome.value}[/{colour}]{reason}: {verdict.detail}",
        f"[dim]more: {act.read}[/dim]",
    ]
    if not one.as_expected:
        lines.insert(2, f"[red]expected: {act.expected.value} {act.reason.value}[/red]")
    console.print(Padding("\n".join(lines), (0, 0, 0, INDENT)))


def as_object(one: Played) -> dict[str, object]:
    """Return an act for programs."""
    return {
        "act": one.act.name,
        "outcome": one.verdict.outcome.value,
        "reason": one.verdict.reason,
        "detail": one.verdict.detail,
        "as_expected": one.as_expected,
        "guarantee": one.act.guarantee,
        "deed": one.act.deed,
        "read": one.act.read,
    }
