"""`sealbus collateral pack`: a collateral file of what lies in folders, without asking anybody."""

import time
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from attestation.amd_names import VLEK_FILE
from attestation.endorsements.gather import merge
from attestation.endorsements.sort import Unfit, sort
from console.collateral_files import folders_of_endorsements, read_unsigned
from console.collateral_keep import put_into_file
from console.collateral_screen import short
from console.evidence import RFC3339, print_json, read_root
from console.evidence_files import read_endorsements
from schemas.collateral import CollateralEntry, Entries
from schemas.errors import UsageError
from schemas.evidence import NITRO
from schemas.toml_place import printable
from schemas.vendor_roots import EVERY_VENDOR_ROOT
from schemas.words import count

DONE, REFUSED = 0, 1
# Why something is not packed that nothing is amiss with.
CLOUDS, OWN_CHAIN = "clouds-key", "own-chain"
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="FOLDER...",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A collateral file to make, or to add to.",
)
@click.option("--root", "roots", multiple=True, type=FILE, help="A root (DER) in place of the vendors'.")
@click.option("--at", type=RFC3339(), help="What is current at this time; now if absent.")
@click.option("--json", "as_data", is_flag=True, help="Print what was packed, and what was not, as JSON.")
def pack(
    folders: tuple[Path, ...], out: Path, roots: tuple[Path, ...], at: datetime | None, as_data: bool
) -> int:
    """Make a collateral file of endorsements that lie in each FOLDER, or in one below it, offline.

    They have the names that verification takes them by, with evidence beside them or without. Each is
    checked like one that is fetched. Exit 1 if some document was left out, or nothing had to be packed, and 2
    if nothing is current; the lines say which and why.
    """
    if out.exists():
        read_unsigned(out)
    trusted = tuple(read_root(root) for root in roots) or tuple(EVERY_VENDOR_ROOT)
    now, console = at or datetime.now(UTC), Console(stderr=True, highlight=False)
    found: Entries = ()
    left_out: list[dict[str, str]] = []
    unfit = 0
    full, needless = folders_of_endorsements(folders)
    for folder in needless:
        text = f"{NITRO} evidence carries its own chain"
        console.print(Text(printable(f"{folder}: nothing to pack: {text}")), soft_wrap=True)
        left_out.append({"path": str(folder), "reason": OWN_CHAIN, "detail": text})
    for folder in full:
        files = read_endorsements(folder)
        if VLEK_FILE in files:
            text = "it is a cloud's, and travels with the evidence that it is for"
            console.print(Text(printable(f"{folder / VLEK_FILE}: not packed: {text}")), soft_wrap=True)
            left_out.append({"path": str(folder / VLEK_FILE), "reason": CLOUDS, "detail": text})
        for each in sort(files, roots=trusted, now=now):
            if isinstance(each, Unfit):
                unfit += 1
                subject, mark, problem = each.error.detail.rpartition(": ")
                why = f"{folder / each.name}: left out: {short(subject)}{mark}{problem} [{each.error.reason}]"
                console.print(Text(printable(why), "yellow"), soft_wrap=True)
                path, reason = str(folder / each.name), each.error.reason.value
                left_out.append({"path": path, "reason": reason, "detail": each.error.detail})
            else:
                of, files = each
                entry = CollateralEntry(subject=str(of), files=files, fetched=int(time.time()))
                # Of those in folders the newest is meant: only what the file has already is told.
                found, _ = merge(found, (entry,), roots=trusted)
    # What an older file holds is none of what was packed now.
    unwritten = f"{out} was left as it was" if out.exists() else f"{out} was not written"
    if not found and full:
        raise UsageError(f"{unwritten}: there is no collateral that is current in there")
    packed, kept = put_into_file(out, found, roots=trusted) if found else ((), ())
    for each_kept in kept:
        console.print(Text(f"{out}: kept {each_kept}", "yellow"), soft_wrap=True)
    left = f", {unfit} left out" if unfit else ""
    told = f"{out}: {count(len(packed), 'document')}{left}"
    if not packed:
        told = f"{unwritten}: there was nothing to pack"
    console.print(Text(told, "yellow" if unfit or not packed else "green"), soft_wrap=True)
    if as_data:
        print_json(
            {
                "file": str(out) if packed else None,
                "documents": [{"subject": each.subject, "files": sorted(each.files)} for each in packed],
                "left_out": left_out,
                "kept": [{"subject": str(each.subject), "why": each.why} for each in kept],
            }
        )
    return REFUSED if unfit or not packed else DONE
