"""`sealbus doctor`: which TEE this machine is, whether its Evidence is acceptable, and what else is amiss."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from attestation.assess import Assessment
from attestation.attesters.detect import Detected, detect
from attestation.attesters.own_machine import OwnMachine
from attestation.result import Basis
from console.collateral_screen import BAD, SOON_DAYS, rows_of_entries, short
from console.evidence import anchor_option, build, collateral_entries, collateral_option
from console.evidence_screen import show_assessment
from console.laptop import Check, look
from console.own_evidence import Verdict, try_own_evidence
from console.policy.files import read_reference_values
from schemas.collateral import Entries
from schemas.evidence import ReferenceValues
from schemas.toml_place import printable


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found."""

    detected: Detected
    verdict: Verdict | None  # none where there is no TEE to ask
    checks: tuple[Check, ...]
    stale: tuple[str, ...] = ()  # documents of --collateral that are not current, and how they stand
    idle: tuple[str, ...] = ()  # options that nothing was judged by, because there is no TEE

    @property
    def can_run_the_lab(self) -> bool:
        """Say whether all is there that the lab needs."""
        return all(check.fine for check in self.checks if check.needed)

    @property
    def fine(self) -> bool:
        """Say whether a TEE's Evidence was accepted or, without one, the lab can run and no file is stale."""
        if self.verdict is not None:
            return self.verdict.accepted
        return self.can_run_the_lab and not self.stale


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="Judge by this mesh's policy (TOML), not by vendors alone.",
)
@click.option(
    "--endorsements",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of certificates or collateral that this machine's device does not give.",
)
@collateral_option
@anchor_option
def doctor(
    as_json: bool,
    policy: Path | None,
    endorsements: Path | None,
    collateral: Path | None,
    anchor: Path | None,
) -> int:
    """Say which TEE this machine is and whether its evidence would be accepted.

    Takes evidence over random report data where there is a TEE. Without --policy everything is judged but
    measurements, under the vendors' roots. Where there is no TEE it says whether the lab can run here.
    Of --collateral it names what is not current, with a TEE or without.

    Exit codes: 0 the evidence would be accepted, or there is no TEE and the lab can run; 1 the evidence
    cannot be had or would be refused, or there is no TEE and something that the lab needs is missing or
    something in --collateral is not current; 2 the policy or the collateral cannot be read.
    """
    values = None if policy is None else read_reference_values(policy)
    entries, name = collateral_entries(collateral, anchor), "" if policy is None else str(policy)
    found = diagnose(detect(), values, endorsements, look_around(), entries, policy=name)
    if as_json:
        click.echo(json.dumps(plain(found), indent=1))
    else:
        show(Console(highlight=False), found)
    return 0 if found.fine else 1


def look_around() -> tuple[Check, ...]:
    """Look at what the lab needs."""
    return tuple(look())


def diagnose(
    detected: Detected,
    values: ReferenceValues | None,
    endorsements: Path | None,
    checks: tuple[Check, ...],
    entries: Entries = (),
    *,
    policy: str = "",
) -> Diagnosis:
    """Ask the TEE that was detected, if any, for Evidence and judge it."""
    stale = tuple(
        f"{short(row.place)} {row.fact.name} ({row.state})"
        for row in rows_of_entries(entries, datetime.now(UTC), SOON_DAYS)
        if row.state in BAD
    )
    if detected.attester is None:
        given = {"--policy": values is not None, "--endorsements": endorsements is not None}
        idle = tuple(option for option, is_given in given.items() if is_given)
        return Diagnosis(detected, None, checks, stale, idle)
    machine = OwnMachine(detected.attester(), {}, endorsements)

    async def attempt() -> Verdict:
        now = datetime.now(UTC)
        basis = Basis(at=now, issued=now, build=build(), policy=policy)
        return await try_own_evidence(machine, values, basis, entries=entries)

    return Diagnosis(detected, anyio.run(attempt), checks, stale)


def plain(found: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as JSON data."""
    detected, verdict = found.detected, found.verdict
    return {
        "ok": found.fine,
        "platform": detected.platform,
        "interface": detected.chosen.name if detected.chosen else None,
        "interfaces": [asdict(each) | {"path": str(each.path)} for each in detected.interfaces],
        "evidence": None if verdict is None else verdict.plain(str(detected.platform)),
        "checks": [asdict(check) for check in found.checks],
        "stale_collateral": list(found.stale),
        "not_judged_by": list(found.idle),
    }


def show(console: Console, found: Diagnosis) -> None:
    """Print a diagnosis for people."""
    rows = [(each.name, _mark(each.usable), escape(each.why)) for each in found.detected.interfaces]
    console.print(_table("TEE", ("interface", "usable", "why"), rows))
    checks = [
        (check.name, _mark(check.fine), escape(check.detail) + ("" if check.needed else " (optional)"))
        for check in found.checks
    ]
    console.print(_table("this computer", ("what", "fine", "detail"), checks))
    if found.verdict is None:
        can = "can run here: sealbus demo" if found.can_run_the_lab else "cannot run here yet: see above"
        console.print(f"No TEE that can be used. The lab with simulated machines {can}", soft_wrap=True)
        if found.idle:
            text = f"Not judged by {' or '.join(found.idle)}: without a TEE there is no evidence."
            console.print(text, soft_wrap=True)
    else:
        _show_verdict(console, found.verdict, str(found.detected.platform))
    if found.stale:
        text = (
            f"Not current in --collateral: {', '.join(found.stale)}; renew it with sealbus collateral fetch."
        )
        console.print(Text(printable(text), "yellow"), soft_wrap=True)


def _show_verdict(console: Console, verdict: Verdict, platform: str) -> None:
    if isinstance(verdict.outcome, Assessment):
        show_assessment(console, verdict.outcome, f"this machine's {platform}", verdict.basis)
        if verdict.older:
            console.print(
                f"Older than in --collateral, and therefore not judged by: {', '.join(verdict.older)}.",
                soft_wrap=True,
            )
        if verdict.outdated:
            console.print(
                f"[yellow]--collateral is stale[/yellow]: what came is newer: {', '.join(verdict.outdated)}; "
                "renew the file with sealbus collateral fetch.",
                soft_wrap=True,
            )
        if verdict.lacks_endorsements:
            console.print(
                "Name what is absent: a folder with --endorsements, or a file with --collateral.",
                soft_wrap=True,
            )
    else:
        console.print(f"[red]no evidence[/red]: {escape(str(verdict.outcome))}", soft_wrap=True)


def _table(title: str, columns: Sequence[str], rows: Sequence[tuple[str, str, str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table


def _mark(good: bool) -> str:
    return "[green]yes[/green]" if good else "[yellow]no[/yellow]"
