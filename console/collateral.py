"""`sealbus collateral`: get what evidence needs to be verified, sign it for offline use, watch it expire.

Exit codes: 0 done and current, 1 refused, missing or expired, 2 usage or unreadable, 3 no service reached.
"""

import json
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio
import click
from rich.console import Console
from rich.text import Text

from attestation.bundles.bundle import add_signatures, decode_signed, issued_at, open_bundle, sign_bundle
from attestation.endorsements import AMD_KDS, INTEL_PCS, Fetched, How, PcsSource
from attestation.endorsements.errors import WrongDocumentError
from attestation.endorsements.gather import check_entries, refuse_older
from attestation.endorsements.newer import Kept
from attestation.endorsements.pcs import EARLY, STANDARD
from attestation.hints import Hint
from attestation.moments import rfc3339
from console.collateral_fetch import Outcome, Settings, fetch_all
from console.collateral_files import (
    Gathered,
    absent_from,
    default_cache,
    load_anchor,
    load_key,
    previous_bundle,
    read_gathered,
    read_unsigned,
    refuse_earlier,
    save,
)
from console.collateral_keep import alone_in, put_beside, put_fetched
from console.collateral_pack import pack
from console.collateral_screen import (
    BAD,
    EXPIRED,
    SOON,
    SOON_DAYS,
    Row,
    missing_in,
    rows_of_entries,
    rows_of_files,
    short,
    show,
    show_stale,
)
from console.evidence import read_root
from console.evidence_files import holds, read_endorsements
from console.operator_key import passphrase_option
from schemas.collateral import CollateralBundle, Entries
from schemas.errors import PeerError, Reason, UsageError
from schemas.evidence import NITRO
from schemas.messages import Millis
from schemas.toml_place import printable
from schemas.vendor_roots import EVERY_VENDOR_ROOT
from sealing.errors import SealingError, SignatureError

DONE, REFUSED, UNREACHED = 0, 1, 3
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PATH = click.Path(exists=True, path_type=Path)
OUT = click.Path(dir_okay=False, path_type=Path)


@click.group()
def collateral() -> None:
    """Get the endorsements that evidence needs, sign them for offline use, and watch them expire."""


collateral.add_command(pack)


@collateral.command()
@click.argument("evidence", nargs=-1, required=True, type=PATH)
@click.option("--out", type=OUT, help="A collateral file to make, or to add to.")
@click.option("--beside", is_flag=True, help="Write the documents beside the evidence, where verify looks.")
@click.option("--kds", default=AMD_KDS, show_default=True, help="AMD's key service, or a mirror of it.")
@click.option("--pcs", default=INTEL_PCS, show_default=True, help="Intel's service, or a PCCS.")
@click.option("--root-ca-crl", help="Address of Intel's root CA CRL, if not the one that goes with --pcs.")
@click.option("--early", is_flag=True, help="Intel's newest TCB evaluation, before it becomes the standard.")
@click.option(
    "--tls-ca", type=FILE, help="Authorities (PEM) of a PCCS or mirror with its own TLS certificate."
)
@click.option("--root", "roots", multiple=True, type=FILE, help="A root (DER) in place of the vendors'.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Where to keep documents.")
@click.option("--no-cache", is_flag=True, help="Ask for everything, and keep nothing.")
@click.option("--anyway", is_flag=True, help="Take what is served also if it is older than what is there.")
@click.option("--json", "as_data", is_flag=True, help="Print what was fetched as JSON.")
def fetch(
    evidence: tuple[Path, ...],
    out: Path | None,
    beside: bool,
    kds: str,
    pcs: str,
    root_ca_crl: str | None,
    early: bool,
    tls_ca: Path | None,
    roots: tuple[Path, ...],
    cache: Path | None,
    no_cache: bool,
    anyway: bool,
    as_data: bool,
) -> int:
    """Fetch what each EVIDENCE (a folder, or a file of it) needs from AMD's and Intel's services."""
    if out is None and not beside:
        raise UsageError("name a collateral file with --out, or write --beside the evidence")
    # Before anybody is asked: a bundle is not added to.
    entries: Entries = read_unsigned(out) if out is not None and out.exists() else ()
    settings = Settings(
        kds=kds,
        pcs=PcsSource(pcs, root_ca_crl, EARLY if early else STANDARD),
        roots=tuple(read_root(root) for root in roots) or tuple(EVERY_VENDOR_ROOT),
        # What is kept would stand in the way of an older one.
        cache=None if no_cache or anyway else cache or default_cache(),
        tls_authority=tls_ca,
    )
    console = Console(stderr=True, highlight=False)
    with console.status("asking", spinner="dots"):
        work = partial(
            fetch_all,
            evidence,
            settings,
            notice=lambda text: console.print(Text(f"  {text}", "yellow"), soft_wrap=True),
            seen=lambda fetched: console.print(_line(fetched), soft_wrap=True),
        )
        outcomes = anyio.run(work)
    kept: list[Kept] = []
    for outcome in outcomes:
        _tell(console, outcome)
        if beside and outcome.error is None:
            folder = outcome.path if outcome.path.is_dir() else outcome.path.parent
            kept += put_beside(folder, outcome.fetched, roots=settings.roots, anyway=anyway)
    fetched = [each for outcome in outcomes for each in outcome.fetched]
    if out is not None and fetched:
        kept += put_fetched(out, fetched, roots=settings.roots, anyway=anyway)
    old = _tell_of_older(console, kept, fetched)
    if as_data:
        click.echo(json.dumps([_as_json(outcome, kept) for outcome in outcomes], indent=1))
    if out is not None and not entries and all(each.error is None and not each.fetched for each in outcomes):
        console.print(Text(f"{out} was not written: there was nothing to fetch", "red"), soft_wrap=True)
        return REFUSED
    return max(*map(_code, outcomes), REFUSED if old else DONE)


@collateral.command()
@click.argument("gathered", metavar="FILE", type=PATH)
@click.option("--mesh", "--anchor", "anchor", required=True, type=FILE, help="The anchor of the mesh.")
@click.option(
    "--key", "keys", multiple=True, required=True, type=FILE, help="Your key, from `policy keygen`."
)
@passphrase_option
@click.option("--out", required=True, type=OUT, help="The signed bundle.")
@click.option("--previous", type=FILE, help="The bundle that this one follows, if not the one in --out.")
def sign(
    gathered: Path,
    anchor: Path,
    keys: tuple[Path, ...],
    passphrase_file: Path | None,
    out: Path,
    previous: Path | None,
) -> int:
    """Sign FILE as an operator of a mesh: an unsigned file, or a bundle that another operator signed.

    Every document is checked first: whose it is, under a root of the anchor, that it is current, and that it
    is no older than in the bundle before.
    """
    opened, mesh = load_anchor(anchor)
    holders = [load_key(key, opened, passphrase_file) for key in keys]
    found = read_gathered(gathered)
    _refuse_unfit(found.entries, opened.roots)
    with alone_in(out.parent):
        now = _now()
        before = previous_bundle(previous, out)
        if before is not None:
            refuse_older(found.entries, before.entries, roots=opened.roots)
            refuse_earlier(now if found.bundle is None else found.bundle.issued, before)
        if found.signed is None:
            data = sign_bundle(opened, holders, found.entries, issued=now)
        else:
            data = add_signatures(opened, holders, found.signed, now=now)
        save(out, data)
    missing = opened.threshold - len(decode_signed(data).signatures)
    console = Console(highlight=False)
    show_stale(console, (), () if before is None else missing_in(found.entries, before.entries))
    if found.bundle is not None:
        console.print(f"signed as issued {_when(found.bundle)}, when the first operator signed")
    if missing > 0:
        console.print(Text(f"{out}: needs {missing} more signature(s): hand it on", "yellow"), soft_wrap=True)
    else:
        open_bundle(opened, mesh, data, now=now)
        console.print(Text(f"{out}: signed by enough operators", "green"), soft_wrap=True)
    return DONE


def _refuse_unfit(entries: Entries, roots: Collection[str]) -> None:
    try:
        check_entries(entries, roots=roots, now=datetime.now(UTC))
    except WrongDocumentError as error:
        to_do = "get it again with `sealbus collateral fetch`, and have the new file signed by all"
        if error.hint is Hint.ROOT_NOT_GIVEN:
            to_do = "the anchor names no such root, so the mesh takes nothing of it: leave it out of the file"
        raise WrongDocumentError(error.reason, f"{error.detail}; nothing was signed: {to_do}") from error


@collateral.command()
@click.argument("path", type=PATH)
@click.option(
    "--mesh",
    "--anchor",
    "anchor",
    type=FILE,
    help="Also check that enough operators of this mesh signed the bundle.",
)
@click.option(
    "--soon",
    type=click.IntRange(0),
    default=SOON_DAYS,
    show_default=True,
    help="Days left from which to warn.",
)
@click.option(
    "--strict", is_flag=True, help="Exit 1 also for what expires soon, or was in --previous and is gone."
)
@click.option("--previous", type=FILE, help="Also say what is older than in this file or bundle.")
@click.option("--json", "as_data", is_flag=True, help="Print it as JSON.")
def status(
    path: Path, anchor: Path | None, soon: int, strict: bool, previous: Path | None, as_data: bool
) -> int:
    """Say of each document in PATH (a collateral file, a bundle, a folder of evidence) how it stands."""
    now = datetime.now(UTC)
    if path.is_dir():
        if anchor is not None:
            raise UsageError(f"{path} is a folder, which nobody signs: leave --anchor out")
        if previous is not None:
            raise UsageError(f"{path} is a folder: compare a file of it, by `sealbus collateral pack`")
        files = read_endorsements(path)
        found, rows, missing = None, list(rows_of_files(files, now, soon)), []
        absent = absent_from(path, files)
    else:
        found = read_gathered(path)
        before: Entries = () if previous is None else read_gathered(previous).entries
        rows = list(rows_of_entries(found.entries, now, soon, before))
        missing, absent = missing_in(found.entries, before), []
    if not rows and path.is_dir() and holds(path, NITRO):
        return _nothing_to_watch(path, as_data)
    if not rows:
        raise UsageError(
            f"{path} holds no collateral itself: name what does, or get some with sealbus collateral fetch"
        )
    word, trusted = _signatures(found, path, anchor)
    if as_data:
        documents = [row.as_json() for row in rows]
        data = {
            "signatures": word,
            **_ages(found, now),
            "missing": missing,
            "absent": absent,
            "documents": documents,
        }
        click.echo(json.dumps(data, indent=1))
    else:
        console = Console(highlight=False)
        show(console, rows)
        show_stale(console, rows, missing)
        if absent:
            text = f"absent: {', '.join(absent)}; get it with `sealbus collateral fetch {path} --beside`"
            console.print(Text(printable(text), "yellow"), soft_wrap=True)
        if any(row.state == EXPIRED for row in rows):
            text = "what has expired is refused: get it again with `sealbus collateral fetch`"
            console.print(Text(text, "red"), soft_wrap=True)
        if found is not None:  # a folder is nobody's to sign
            console.print(Text(word, "" if trusted else "red"), soft_wrap=True)
    bad = (strict and missing) or any(_is_bad(row, strict) for row in rows)
    return REFUSED if bad or not trusted else DONE


def _nothing_to_watch(path: Path, as_data: bool) -> int:
    if as_data:
        click.echo(json.dumps({"signatures": "not signed", "documents": []}, indent=1))
    else:
        text = f"{path}: nothing to watch: {NITRO} evidence carries its own chain, and lives for hours"
        Console(highlight=False).print(Text(text), soft_wrap=True)
    return DONE


def _signatures(found: Gathered | None, path: Path, anchor: Path | None) -> tuple[str, bool]:
    opened = None if anchor is None else load_anchor(anchor)
    if found is None or found.signed is None or found.bundle is None:
        if anchor is None:
            return ("not signed", True)
        return ("not signed: leave --anchor out, or have it signed with `sealbus collateral sign`", False)
    when = _when(found.bundle)
    if opened is None:
        count = len(found.signed.signatures)
        return (f"issued {when}; {count} signature(s), not checked: name the mesh with --anchor", True)
    council, mesh = opened
    try:
        open_bundle(council, mesh, found.data, now=_now())
    except SignatureError as error:
        # However many have signed: with a stranger's among them it is nobody's to take.
        text = f"issued {when}; a signature in it does not count ({error.detail}): have it signed anew"
        return (text, False)
    except SealingError as error:
        return (f"issued {when}; not signed by enough operators of this mesh: {error}", False)
    return (f"issued {when}; signed by enough operators of this mesh", True)


def _when(bundle: CollateralBundle) -> str:
    return f"{issued_at(bundle):%Y-%m-%d %H:%M}Z"


def _now() -> Millis:
    return time.time_ns() // 1_000_000


def _ages(found: Gathered | None, now: datetime) -> dict[str, object]:
    if found is None or found.bundle is None:
        return {}
    issued = issued_at(found.bundle)
    return {"issued": rfc3339(issued), "age_days": round((now - issued).total_seconds() / 86_400, 1)}


def _is_bad(row: Row, strict: bool) -> bool:
    return row.state in BAD or (strict and row.state == SOON)


def _line(fetched: Fetched) -> Text:
    style = "yellow" if fetched.how is How.KEPT else "green"
    until = f"until {fetched.validity.expires:%Y-%m-%d}"
    why = f" ({fetched.why})" if fetched.why else ""
    return Text.assemble("  ", (fetched.how.value, style), f" {short(str(fetched.subject))}, {until}{why}")


def _tell(console: Console, outcome: Outcome) -> None:
    if outcome.error is not None:
        text = Text.assemble(f"{outcome.path}: ", ("not complete", "bold red"), f": {outcome.error}")
    elif outcome.fetched:
        text = Text.assemble(f"{outcome.path}: ", ("complete", "bold green"), f", {outcome.platform}")
    else:
        text = Text(f"{outcome.path}: nothing to fetch: {outcome.platform} evidence carries its own chain")
    console.print(text, soft_wrap=True)


def _tell_of_older(console: Console, kept: Sequence[Kept], fetched: Sequence[Fetched]) -> bool:
    """Tell what was older than what is there; say whether a service served that now."""
    for each in dict.fromkeys(kept):
        console.print(Text(f"  kept {short(str(each.subject))}: {each.why}", "yellow"), soft_wrap=True)
    subjects = {each.subject for each in kept}
    # What this cache has may well be older than a file that somebody else renewed.
    old = any(each.older or (each.how is How.FETCHED and each.subject in subjects) for each in fetched)
    if old:
        text = (
            "a service serves older documents than are known here, and an old list hides who was revoked "
            "since: ask another service, or take them with --anyway"
        )
        console.print(Text(text, "red"), soft_wrap=True)
    return old


def _as_json(outcome: Outcome, kept: Sequence[Kept]) -> dict[str, object]:
    stayed = {each.subject for each in kept}
    return {
        "path": str(outcome.path),
        "platform": outcome.platform,
        "error": None if outcome.error is None else outcome.error.reason.value,
        "detail": "" if outcome.error is None else outcome.error.detail,
        "documents": [
            {
                "subject": str(each.subject),
                "how": each.how.value,
                "why": each.why,
                "taken": each.subject not in stayed,
                "issued": rfc3339(each.validity.issued),
                "expires": rfc3339(each.validity.expires),
                "files": sorted(each.files),
            }
            for each in outcome.fetched
        ],
    }


def _code(outcome: Outcome) -> int:
    error: PeerError | None = outcome.error
    if error is None:
        return DONE
    return UNREACHED if error.reason is Reason.UNAVAILABLE else REFUSED
