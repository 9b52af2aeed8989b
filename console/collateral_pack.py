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
from console.evidence import RFC3339, read_root
from console.evidence_files import read_endorsements
from schemas.collateral import CollateralEntry, Entries
from schemas.errors import UsageError
from schemas.evidence import NITRO
from schemas.toml_place import printable
from schemas.vendor_roots import EVERY_VENDOR_ROOT
from schemas.words import count

DONE, REFUSED = 0, 1
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
def pack(folders: tuple[Path, ...], out: Path, roots: tuple[Path, ...], at: datetime | None) -> int:
    """Make a collateral file of endorsements that lie in each FOLDER, or in one below it, offline.

    They have the names that verification takes them by, with evidence beside them or without. Each is
    checked like one that is fetched. Exit 1 if some document was left out; the lines say which and why.
    """
    if out.exists():
        read_unsigned(out)
    trusted = tuple(read_root(root) for root in roots) or tuple(EVERY_VENDOR_ROOT)
    now, console = at or datetime.now(UTC), Console(stderr=True, highlight=False)
    found: Entries = ()
    unfit = 0
    full, needless = folders_of_endorsements(folders)
    for folder in needless:
        text = f"{folder}: nothing to pack: {NITRO} evidence carries its own chain"
        console.print(Text(printable(text)), soft_wrap=True)
    for folder in full:
        files = read_endorsements(folder)
        if VLEK_FILE in files:
            text = f"{folder / VLEK_FILE}: not packed: it is a cloud's, and travels with its evidence"
            console.print(Text(printable(text)), soft_wrap=True)
        for each in sort(files, roots=trusted, now=now):
            if isinstance(each, Unfit):
                unfit += 1
                subject, mark, problem = each.error.detail.rpartition(": ")
                why = f"{folder / each.name}: left out: {short(subject)}{mark}{problem} [{each.error.reason}]"
                console.print(Text(printable(why), "yellow"), soft_wrap=True)
            else:
                of, files = each
                entry = CollateralEntry(subject=str(of), files=files, fetched=int(time.time()))
                # Of those in folders the newest is meant: only what the file has already is told.
                found, _ = merge(found, (entry,), roots=trusted)
    packed, kept = put_into_file(out, found, roots=trusted)
    if not packed and not full:
        console.print(Text(f"{out} was not written: there was nothing to pack", "red"), soft_wrap=True)
        return REFUSED
    if not packed:
        raise UsageError(f"{out} was not written: there is no collateral that is current in there")
    for each_kept in kept:
        console.print(Text(f"{out}: kept {each_kept}", "yellow"), soft_wrap=True)
    left = f", {unfit} left out" if unfit else ""
    console.print(
        Text(f"{out}: {count(len(packed), 'document')}{left}", "yellow" if unfit else "green"), soft_wrap=True
    )
    return REFUSED if unfit else DONE
