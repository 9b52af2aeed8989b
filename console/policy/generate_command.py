"""`sealbus policy generate`: a policy proposed from recorded evidence. Exit 0 written, 2 nothing to go by."""

import time
from datetime import datetime
from pathlib import Path

import click

from attestation.assess import assess
from attestation.explain import explain
from console.evidence import RFC3339
from console.policy import files
from console.policy.generator import Seen, proposal
from console.policy.recorded import recordings
from console.policy.screen import say
from console.policy.signing_commands import read_anchor
from schemas.errors import UsageError
from schemas.toml_place import printable

File = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("evidence", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=File, help="Write it there; else it is printed.")
@click.option("--mesh", "--anchor", "anchor_file", type=File, help="Fill in the mesh of this anchor.")
@click.option("--lab", is_flag=True, help="Accept the roots of a lab's simulated machines.")
@click.option("--at", type=RFC3339(), help="Judge at this time; when it was recorded if absent.")
def generate(
    evidence: tuple[Path, ...], out: Path | None, anchor_file: Path | None, lab: bool, at: datetime | None
) -> int:
    """Propose a policy from recorded EVIDENCE: platforms, measurements and chips are filled in.

    Its rules are suggestions. Of a lab, `sealbus lab evidence --out DIR` records it.
    """
    seen, left_out = [], []
    for each in recordings(evidence, at):
        found = assess(each.found.evidence, each.found.endorsements, now=each.at)
        if found.claims is None:
            left_out.append(printable(f"{each.name}: {'; '.join(explain(found))}"))
        elif found.claims.debug:
            left_out.append(
                printable(f"{each.name}: it may be debugged, so its host reads all that it holds")
            )
        else:
            seen.append(Seen(printable(each.name), found.claims))
    if not seen:
        raise UsageError(f"nothing in there is genuine evidence: {'; '.join(left_out)}")
    mesh = None if anchor_file is None else read_anchor(anchor_file)[1].id.hex()
    text = proposal(seen, left_out, issued=time.time_ns() // 1_000_000, lab=lab, mesh=mesh)
    if out is None:
        click.echo(text, nl=False)
        return 0
    files.write_new(out, text.encode())
    say([f"{out}: {len(seen)} enclaves; read it, write its rules, then `sealbus policy check {out}`"])
    return 0
