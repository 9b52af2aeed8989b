"""The screen on which a demo ends, and the same as one object for programs."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from examples.redaction.inputs import Passed
from examples.redaction.job import Report
from examples.redaction.messages import Kind
from examples.redaction.score import Score, total
from lab.commands import show_agents
from lab.forms import NAMES
from lab.saw import STORE, Saw
from lab.view import MeshView

LISTED = 200  # files that are named one by one

_UNSEEN = ("the broker saw", "not recorded: this lab runs without a tap (sealbus lab up --tap)")

Scores = dict[Kind, Score]


def show(
    console: Console,
    mesh: MeshView,
    report: Report,
    scores: Scores | None,
    saw: Saw | None,
    seconds: float,
    out: Path,
) -> None:
    """Print who was admitted and refused, what was done, and what the broker saw of it."""
    console.print()
    show_agents(console, mesh)
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row(
        "documents", f"{report.redacted} redacted, {len(report.skipped)} skipped, {len(report.failed)} failed"
    )
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.findings.items()))
    table.add_row("found", kinds or "nothing")
    if scores is not None:
        whole = total(scores)
        kinds = ", ".join(f"{kind.value} {_share(each.recall)}" for kind, each in scores.items())
        table.add_row(
            "against the truth",
            f"precision {_share(whole.precision)}, recall {_share(whole.recall)} ({kinds})",
        )
    rate = report.redacted / seconds if seconds else 0.0
    table.add_row(
        "tasks",
        f"{report.done} done, {report.task_failures} failed, {report.expired} expired "
        f"in {seconds:.1f} s ({rate:.0f} documents/s)",
    )
    for label, text in _saw(saw) if saw is not None else [_UNSEEN]:
        table.add_row(label, text)
    table.add_row("results", escape(str(out)))
    console.print(table)
    _list(console, "[red]failed[/red]", report.failed)
    _list(console, "[yellow]skipped[/yellow]", report.skipped)


def _saw(saw: Saw) -> list[tuple[str, str]]:
    found, keys = saw.found, saw.own_keys
    counted = "which the broker itself could not be asked to confirm"
    if saw.complete is not None:
        counted = "[green]as many as it counted itself[/green]"
        if not saw.complete:
            counted = f"[red]but it counted {saw.broker_messages} itself[/red]"
    store = f" and {found.size[STORE]} bytes in its store" if STORE in found.size else ""
    left_out = f" ({found.left_out} too short to tell from chance)" if found.left_out else ""
    where = ", ".join(f"{count} as {form} in the {place}" for (place, form), count in found.hits.items())
    hits = f"[red]FOUND {where}[/red]" if found.total else "[green]none found[/green]"
    controls = "what was planted was found" if saw.controls else "[red]what was planted was MISSED[/red]"
    rest = f"[red]{saw.unclassified} messages that nothing accounts for[/red]" if saw.unclassified else "none"
    searched = sum(each.searched for each in keys.values())
    silent = saw.enclaves - sum(each.control for each in keys.values())
    own = (
        f"[red]FOUND {saw.own_keys_found} times[/red]" if saw.own_keys_found else "[green]none found[/green]"
    )
    if silent:
        own += f"; [red]{silent} enclaves could not tell[/red]"
    if not saw.enclaves:
        own = "not asked: the enclaves are not this command's own"
    else:
        own = f"{searched} secrets, each searched for by the enclave that holds it: {own}"
    return [
        ("the broker saw", f"{saw.messages} messages, {counted}; {saw.size} bytes{store}"),
        (
            "of the input",
            f"{found.words} lines and identifiers{left_out}, in {len(NAMES)} encodings: {hits}; {controls}",
        ),
        ("of keys", own),
        ("in the clear", f"what docs/leakage.md lists; besides that: {rest}"),
    ]


def _list(console: Console, label: str, passed: list[Passed]) -> None:
    for each in passed[:LISTED]:
        console.print(f"{label} {escape(str(each.name))}: {each.reason}", soft_wrap=True)
    if len(passed) > LISTED:
        console.print(f"{label} ... and {len(passed) - LISTED} more")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def as_object(
    mesh: MeshView, report: Report, scores: Scores | None, saw: Saw | None, seconds: float
) -> dict[str, object]:
    """Return the same for programs; keys are stable."""
    judged = total(scores) if scores is not None else None
    return {
        "documents": {
            "read": report.read,
            "redacted": report.redacted,
            "skipped": len(report.skipped),
            "failed": len(report.failed),
        },
        "findings": dict(report.findings),
        "precision": judged.precision if judged else None,
        "recall": judged.recall if judged else None,
        "agents": [
            {
                "name": agent.name,
                "platform": agent.platform,
                "workload": agent.workload,
                "instance": agent.instance,
            }
            for agent in mesh.admitted()
        ],
        "refused": dict(mesh.refused),
        "tasks": {
            "submitted": report.submitted,
            "done": report.done,
            "failed": report.task_failures,
            "expired": report.expired,
        },
        "wire": _wire(saw) if saw is not None else None,
        "own_keys": _own_keys(saw) if saw is not None and saw.enclaves else None,
        "seconds": round(seconds, 3),
    }


def _wire(saw: Saw) -> dict[str, object]:
    found = saw.found
    return {
        "messages": saw.messages,
        "bytes": saw.size,
        "broker_in_msgs": saw.broker_messages,
        "complete": saw.complete,
        "needles": found.words,
        "left_out": found.left_out,
        "hits": found.total,
        "control_found": saw.controls,
        "store_bytes": found.size.get(STORE),
        "unclassified": saw.unclassified,
    }


def _own_keys(saw: Saw) -> dict[str, object]:
    return {
        name: {"searched": each.searched, "found": each.found, "control_found": each.control}
        for name, each in sorted(saw.own_keys.items())
    }
