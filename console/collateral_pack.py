"""`sealbus collateral pack`: a collateral file of what lies in folders, without asking anybody."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from attestation.amd_names import CRL_FILE, MORE_CRL_FILES, VLEK_FILE
from attestation.endorsements.gather import merge
from attestation.endorsements.sort import Unfit, sort
from attestation.hints import Hint
from console.collateral_files import folders_of_endorsements, read_unsigned
from console.collateral_keep import put_into_file
from console.collateral_lists import REVOKES_MORE, LeftList, authorities_in, left_lists, lists_of
from console.collateral_screen import short
from console.evidence import RFC3339, print_json, read_root
from console.evidence_files import read_endorsements
from schemas.collateral import CollateralEntry, Entries
from schemas.errors import Reason
from schemas.evidence import NITRO
from schemas.toml_place import printable
from schemas.vendor_roots import EVERY_VENDOR_ROOT
from schemas.words import count

DONE, REFUSED, UNUSABLE = 0, 1, 2
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
    before = read_unsigned(out) if out.exists() else ()
    trusted = tuple(read_root(root) for root in roots) or tuple(EVERY_VENDOR_ROOT)
    now, console = at or datetime.now(UTC), Console(stderr=True, highlight=False)
    found: Entries = ()
    left_out: list[dict[str, str]] = []
    unfit: list[Unfit] = []
    lists: list[tuple[Path, bytes]] = []
    beside = [each.files for each in before]
    full, needless = folders_of_endorsements(folders)
    for folder in needless:
        text = f"{NITRO} evidence carries its own chain"
        console.print(Text(printable(f"{folder}: nothing to pack: {text}")), soft_wrap=True)
        left_out.append({"path": str(folder), "reason": OWN_CHAIN, "detail": text})
    for folder in full:
        files = read_endorsements(folder)
        beside.append(files)
        if VLEK_FILE in files:
            text = "it is a cloud's, and travels with the evidence that it is for"
            console.print(Text(printable(f"{folder / VLEK_FILE}: not packed: {text}")), soft_wrap=True)
            left_out.append({"path": str(folder / VLEK_FILE), "reason": CLOUDS, "detail": text})
        lists += [(folder / name, files[name]) for name in MORE_CRL_FILES if name in files]
        for each in sort(files, roots=trusted, now=now):
            if isinstance(each, Unfit):
                unfit.append(each)
                left_out.append(_tell(console, folder / each.name, each))
            else:
                of, chosen = each
                if CRL_FILE in chosen:
                    lists.append((folder / CRL_FILE, chosen[CRL_FILE]))
                entry = CollateralEntry(subject=str(of), files=chosen, fetched=int(time.time()))
                # Of those in folders the newest is meant: only what the file has already is told.
                found, _ = merge(found, (entry,), roots=trusted)
    # What an older file holds is none of what was packed now.
    unwritten = f"{out} was left as it was" if out.exists() else f"{out} was not written"
    packed, kept = put_into_file(out, found, roots=trusted) if found else ((), ())
    revoking, authorities = 0, authorities_in(beside)
    for left in left_lists(lists, packed, authorities, roots=trusted):
        if not isinstance(left, LeftList):
            unfit.append(left[1])
            left_out.append(_tell(console, *left))
            continue
        revoking += left.reason == REVOKES_MORE
        left_out.append(_tell_list(console, left))
    # That a file's list makes room for a newer one is as it should be, unless names go with it.
    had = ((out, data) for data in lists_of(before))
    for left in left_lists(had, packed if packed else before, authorities, roots=trusted):
        if isinstance(left, LeftList) and left.reason == REVOKES_MORE:
            revoking += 1
            left_out.append(_tell_list(console, left))
    for each_kept in kept:
        console.print(Text(f"{out}: kept {each_kept}", "yellow"), soft_wrap=True)
    amiss = len(unfit) + revoking
    told = f"{out}: {count(len(packed), 'document')}{f', {amiss} left out' if amiss else ''}"
    if not packed:
        why = _why_nothing(unfit, rooted=bool(roots)) if full else "there was nothing to pack"
        told = f"{unwritten}: {why}"
    console.print(Text(printable(told), "yellow" if amiss or not packed else "green"), soft_wrap=True)
    if as_data:
        data: dict[str, object] = {
            "file": str(out) if packed else None,
            "documents": [{"subject": each.subject, "files": sorted(each.files)} for each in packed],
            "left_out": left_out,
            "kept": [{"subject": str(each.subject), "why": each.why} for each in kept],
        }
        if full and not packed:
            # As any error with exit code 2, so that a program reads one shape.
            data |= {"done": False, "reason": _reason_of(unfit), "detail": told}
        print_json(data)
    if full and not packed:
        return UNUSABLE
    return REFUSED if amiss or not packed else DONE


def _tell(console: Console, path: Path, left: Unfit) -> dict[str, str]:
    subject, mark, problem = left.error.detail.rpartition(": ")
    why = f"{path}: left out: {short(subject)}{mark}{problem} [{left.error.reason}]"
    console.print(Text(printable(why), "yellow"), soft_wrap=True)
    return {"path": str(path), "reason": left.error.reason.value, "detail": left.error.detail}


def _tell_list(console: Console, left: LeftList) -> dict[str, str]:
    why = f"{left.path}: left out: {left.detail} [{left.reason}]"
    console.print(Text(printable(why), "yellow" if left.reason == REVOKES_MORE else ""), soft_wrap=True)
    return {"path": str(left.path), "reason": left.reason, "detail": left.detail}


def _reason_of(unfit: Sequence[Unfit]) -> str:
    """Return the code that all documents were left out by, or that there is no collateral."""
    codes = {each.error.reason.value for each in unfit}
    return codes.pop() if len(codes) == 1 else Reason.NO_COLLATERAL.value


def _why_nothing(unfit: Sequence[Unfit], *, rooted: bool) -> str:
    """Say by which codes everything was left out, and what to do where roots were the reason."""
    if not unfit:
        return "no document in there is one that a collateral file has"
    codes = Counter(each.error.reason.value for each in unfit)
    listed = ", ".join(f"{number} {code}" for code, number in codes.most_common())
    if not any(each.error.hint is Hint.ROOT_NOT_GIVEN for each in unfit):
        return f"everything in there was left out: {listed}"
    to_do = "leave --root out if they are the vendors'" if rooted else "name a simulator's root with --root"
    return f"everything in there was left out: {listed}; {to_do}"
