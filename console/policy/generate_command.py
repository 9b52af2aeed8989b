"""`sealbus policy generate`: a policy proposed from recorded evidence.

Exit codes: 0 written, 1 all of it refused, 2 nothing there that can be read.
"""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from console.evidence import RFC3339
from console.policy import files
from console.policy.generator import proposal
from console.policy.recorded import readings
from console.policy.screen import say
from console.policy.signing_commands import read_anchor
from console.policy.taking import LeftOut, Taken, remarks, settle, sift, told
from schemas.errors import UsageError
from schemas.evidence import ReferenceValues
from schemas.evidence_policy import parse_for_evidence
from schemas.toml_errors import MAX_TEXT
from schemas.toml_place import printable

NOTHING = "nothing in there can be admitted, so no policy was written"
File = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("evidence", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=File, help="Write it there; else it is printed.")
@click.option("--mesh", "--anchor", "anchor_file", type=File, help="Fill in the mesh of this anchor.")
@click.option("--lab", is_flag=True, help="Take what ends at a lab's own roots, and nothing else.")
@click.option("--at", type=RFC3339(), help="Judge at this time; when it was recorded if absent.")
def generate(
    evidence: tuple[Path, ...], out: Path | None, anchor_file: Path | None, lab: bool, at: datetime | None
) -> int:
    """Propose a policy from recorded EVIDENCE: platforms, measurements and chips are filled in.

    What it is made of is what it accepts, at the time when it was recorded; what was left out, and why, goes
    to stderr. Exit 1 if all was refused, 2 if none can be read. Its rules are suggestions.
    Of a lab, `sealbus lab evidence --out DIR` records it.
    """
    mesh = None if anchor_file is None else read_anchor(anchor_file)[1].id.hex()
    issued = time.time_ns() // 1_000_000

    def propose(taken: Sequence[Taken], out: Sequence[LeftOut]) -> tuple[str, ReferenceValues]:
        lines = [printable(f"{each.name}: {each.why}") for each in out]
        seen = [each.seen for each in taken]
        text = proposal(seen, lines, issued=issued, lab=lab, mesh=mesh)
        if len(text) > MAX_TEXT:
            raise UsageError(
                f"a policy of all {len(seen) + len(lines)} would have over {MAX_TEXT // 1024} KiB, more than "
                "one may have: name fewer folders"
            )
        return text, parse_for_evidence(text).reference_values()

    text, taken, left_out = settle(*sift(readings(evidence, at), lab=lab), propose)
    if not taken:
        say([*(f"{each.name}: {each.why}" for each in left_out), NOTHING], error=True)
        return 1 if any(each.readable for each in left_out) else 2
    say([*remarks(taken), *told(left_out)], error=True)
    if left_out:
        say(["why each, and what to do: in the comments at the top of the policy"], error=True)
    if out is None:
        click.echo(text, nl=False)
        return 0
    files.write_new(out, text.encode())
    count = "1 enclave" if len(taken) == 1 else f"{len(taken)} enclaves"
    say([f"{out}: {count}; read it, write its rules, then `sealbus policy check {out}`"])
    return 0
