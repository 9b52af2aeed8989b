"""Evidence as a person reads it: what it says of itself, and what was found."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attestation.assess import Assessment
from attestation.explain import explain
from attestation.trust import Tier, tier_of
from schemas.toml_place import printable

_STYLES = {
    Tier.AFFIRMING: "green",
    Tier.WARNING: "yellow",
    Tier.CONTRAINDICATED: "red",
    Tier.NONE: "dim",
}


def show_fields(console: Console, rows: list[tuple[str, str]]) -> None:
    """Print the fields of Evidence as a table."""
    table = Table(title="what the evidence says of itself", show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(printable(value)))
    console.print(table)


def show_assessment(console: Console, assessment: Assessment, platform: str, basis: str) -> None:
    """Print a verdict, why, and the trust vector. `basis` says by whose word it was judged."""
    style = _STYLES[assessment.status]
    verdict = "accepted" if assessment.accepted else "refused"
    genuine = "genuine" if assessment.genuine else "not genuine"
    said = f"{platform} evidence, {genuine}, {assessment.status} by {basis}"
    if assessment.unsupported:
        said = f"evidence of a platform that sealbus does not judge ({assessment.unsupported})"
    console.print(Text.assemble((verdict, f"bold {style}"), f": {said}"), soft_wrap=True)
    workload = assessment.judgement.workload
    if workload is not None:
        console.print(Text(f"workload: {workload.workload}"))
    if assessment.claims is not None and assessment.claims.status:
        console.print(Text(f"TCB status: {assessment.claims.status}"))
    for unstated in assessment.claims.unstated if assessment.claims is not None else ():
        console.print(Text(f"not stated: {unstated}"))
    for sentence in explain(assessment):
        console.print(Text(f"- {sentence}"), soft_wrap=True)
    vector = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for claim, value in assessment.vector.items():
        tier = tier_of(value)
        vector.add_row(Text(f"  {claim.value}"), Text(tier.value, _STYLES[tier]))
    console.print(vector)
