"""`sealbus audit`: fetch the coordinator's audit log, and verify, show and prove what was fetched.

Exit codes: 0 fine, 1 something does not fit or was refused, 2 usage or unreadable, 3 no coordinator.
"""

from itertools import combinations
from pathlib import Path

import anyio
import click
import msgspec
from rich.console import Console

from console import audit_screen as screen
from console import operator_key
from console.audit_fetch import FOLDER, ForkError, following
from console.audit_log import MAX_LOG, StoredLog, fork_between, read_log
from console.audit_proof import check_proof, make_proof
from console.council_files import CHAIN, encode_chain
from console.documents import open_signed_policy
from console.evidence import print_json
from console.operating.desk import (
    BROKER_URL,
    credentials_of,
    credentials_option,
    json_option,
    state_option,
    wait_option,
)
from console.operating.kept import Kept, default_state
from console.operating.naming import tidy
from console.operator import operator_line
from console.operator_key import passphrase_option
from console.policy import files
from console.policy.signing_commands import read_anchor
from schemas.audit import FACTS, as_plain
from schemas.documents import Profile
from schemas.errors import PeerError, Reason, UsageError
from sealing.context import Mesh
from sealing.council import Council
from sealing.errors import SealingError

FINE, AMISS = 0, 1
MAX_PROOF = 64 * 1024
SIGNED_POLICIES = ("policy.toml.signed", "policy.signed")  # as `policy sign` calls it, and a lab
POLL = 1.0  # seconds between two looks of `fetch --follow`

File = click.Path(dir_okay=False, path_type=Path)
directory = click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where anchor.cbor and audit/ lie: a lab's directory, or your own.",
)
anchor_option = click.option(
    "--mesh", "--anchor", "anchor_file", type=File, help="DIR/anchor.cbor if absent."
)
file_option = click.option("--file", "file", type=File, help="The same as FILE.")


@click.group()
def audit() -> None:
    """Fetch the coordinator's audit log; verify, show and prove what was fetched, offline."""


@audit.command()
@click.argument("logs", metavar="[FILE]...", nargs=-1, type=File)
@directory
@anchor_option
@click.option("--proof", type=File, help="Check a proof that `prove` wrote instead.")
@json_option
def verify(
    logs: tuple[Path, ...], folder: Path, anchor_file: Path | None, proof: Path | None, as_data: bool
) -> int:
    """Check stored logs against their signed heads and the operators' orders, and copies against each other.

    Exit 1 at what does not fit.
    """
    council, mesh = _anchor(folder, anchor_file)
    if proof is not None:
        return _verify_proof(proof, council, mesh, as_data)
    read = [(path, _read(path, council, mesh)) for path in logs or _stored(folder)]
    between = [(other, fork_between(one, other)) for (_, one), (_, other) in combinations(read, 2)]
    for other, fork in between:
        if fork is not None:
            other.findings.append(fork)
    if as_data:
        print_json({"mesh": mesh.id.hex(), "logs": [screen.log_data(path, log) for path, log in read]})
    else:
        for path, log in read:
            screen.show_log(_out(), path, log)
    return AMISS if any(log.findings for _, log in read) else FINE


def _verify_proof(path: Path, council: Council, mesh: Mesh, as_data: bool) -> int:
    try:
        entry, head = check_proof(files.read(path, MAX_PROOF), council, mesh)
    except PeerError as refusal:
        if as_data:
            print_json({"file": str(path), "ok": False, "reason": refusal.reason.value, "text": str(refusal)})
        else:
            _out().print(f"{path}: {refusal}", markup=False, soft_wrap=True)
        return AMISS
    if as_data:
        print_json({"file": str(path), "ok": True, "entry": as_plain(entry), "size": head.size})
    else:
        text = f"{path}: proved: entry {entry.index} is in the log of {head.size} entries of term {head.term}"
        _out().print(text, markup=False, soft_wrap=True)
        screen.show_entries(_out(), [entry])
    return FINE


@audit.command()
@click.argument("log_file", metavar="[FILE]", required=False, type=File)
@file_option
@directory
@anchor_option
@click.option(
    "--kind", "decisions", multiple=True, type=click.Choice(list(FACTS)), help="Only these decisions."
)
@click.option("--instance", help="Only of the instance whose id begins so.")
@click.option("--reason", help="Only with this reason.")
@json_option
def show(
    log_file: Path | None,
    file: Path | None,
    folder: Path,
    anchor_file: Path | None,
    decisions: tuple[str, ...],
    instance: str | None,
    reason: str | None,
    as_data: bool,
) -> int:
    """Show the entries of a stored log: FILE, or the newest term's. Exit 1 if something does not fit."""
    council, mesh = _anchor(folder, anchor_file)
    path = log_file or file or _stored(folder)[-1]
    log = _read(path, council, mesh)
    if instance is not None:
        instance = tidy(instance)
        if set(instance) - set("0123456789abcdef"):
            raise UsageError(f"--instance {instance}: name it by hexadecimal digits that its id begins with")
    entries = screen.chosen(log, decisions, instance, reason)
    if as_data:
        print_json({**screen.log_data(path, log), "shown": screen.entries_data(entries)})
    else:
        if entries:
            screen.show_entries(_out(), entries)
        else:
            click.echo("sealbus: no entry of the log is like that", err=True)
        for finding in log.findings:
            screen.show_finding(Console(stderr=True, highlight=False), path, finding)
    return AMISS if log.findings else FINE


@audit.command()
@click.argument("index", type=click.IntRange(min=0))
@click.argument("log_file", metavar="[FILE]", required=False, type=File)
@file_option
@directory
@anchor_option
@click.option("--out", type=File, help="Write it there; else it is printed.")
def prove(
    index: int,
    log_file: Path | None,
    file: Path | None,
    folder: Path,
    anchor_file: Path | None,
    out: Path | None,
) -> int:
    """Prove that entry INDEX is in the log, FILE or the newest term's, to whoever has the anchor alone."""
    council, mesh = _anchor(folder, anchor_file)
    path = log_file or file or _stored(folder)[-1]
    log = _read(path, council, mesh)
    if log.findings:
        raise UsageError(f"{path}: {log.findings[0].text}: nothing is proved from it")
    text = msgspec.json.format(msgspec.json.encode(make_proof(log, index, mesh)))
    if out is None:
        click.echo(text)
    else:
        files.write_new(out, text + b"\n")
        done = f"{out}: that entry {index} is in the log; `sealbus audit verify --proof {out}` checks it"
        _out().print(done, markup=False, soft_wrap=True)
    return FINE


@audit.command()
@directory
@anchor_option
@click.option(
    "--nats", "--url", "url", envvar=BROKER_URL, required=True, help=f"The broker; else {BROKER_URL}."
)
@click.option("--key", "key_file", type=File, required=True, help="Your key, from `policy keygen`.")
@click.option(
    "--profile",
    "--policy",
    "policy_file",
    type=File,
    help="The signed policy that says which coordinator to believe; DIR/policy.toml.signed if absent.",
)
@credentials_option
@state_option
@wait_option
@click.option("--follow", is_flag=True, help="Go on until you are interrupted.")
@passphrase_option
@json_option
def fetch(
    folder: Path,
    anchor_file: Path | None,
    url: str,
    key_file: Path,
    policy_file: Path | None,
    credentials: Path | None,
    state: Path | None,
    wait: float,
    follow: bool,
    passphrase_file: Path | None,
    as_data: bool,
) -> int:
    """Fetch what the coordinator's log has and DIR/audit has not, from a coordinator that is verified."""
    council, mesh = _anchor(folder, anchor_file)
    kept = Kept(state or default_state(), mesh.id)
    council = kept.council(council)
    profile = _profile(council, mesh, policy_file or _beside(folder), kept)
    locked = files.read(key_file, operator_key.MAX_KEY_FILE)
    key = operator_key.unlock(key_file, locked, council, passphrase_file)

    async def run() -> None:
        async with operator_line(
            url,
            council=council,
            profile=profile,
            key=key,
            kept=kept,
            credentials=credentials_of(credentials),
            patience=wait,
        ) as line:
            if line.council.version:
                # Else nobody could verify, with the anchor alone, what is stored from here on.
                files.replace(folder / CHAIN, encode_chain(line.council))
            with following(folder, line.council, mesh, line.term_proof) as follower:
                while True:
                    fetched = await follower.catch_up(line)
                    if not follow or fetched.size > fetched.before:
                        _tell(fetched.path, fetched.term, fetched.before, fetched.size, as_data)
                    if not follow:
                        return
                    await anyio.sleep(POLL)

    try:
        anyio.run(run)
    except ForkError as fork:
        if as_data:
            print_json({"file": str(fork.path), "ok": False, "findings": [screen.finding_data(fork.finding)]})
        else:
            screen.show_finding(_out(), fork.path, fork.finding)
        return AMISS
    return FINE


def _tell(path: Path, term: int, before: int, size: int, as_data: bool) -> None:
    if as_data:
        print_json({"file": str(path), "ok": True, "term": term, "before": before, "entries": size})
    else:
        text = f"{path}: {size} entries of term {term}, {size - before} of them new"
        _out().print(text, markup=False, soft_wrap=True)


def _beside(folder: Path) -> Path | None:
    return next((path for name in SIGNED_POLICIES if (path := folder / name).exists()), None)


def _profile(council: Council, mesh: Mesh, path: Path | None, kept: Kept) -> Profile | None:
    """Return what the signed policy says of coordinators; None if there is none, or of former operators.

    Without it only a coordinator whose policy is in force is believed, which shows its profile itself.
    """
    signed = kept.policy() if path is None else files.read(path, files.MAX_SIGNED)
    if signed is None:
        return None
    try:
        source = str(path) if path else "the policy that was seen in force"
        return open_signed_policy(council, mesh, signed, source).profile
    except SealingError as error:
        if error.reason in (Reason.FORMER_OPERATOR, Reason.SIGNATURES_TOO_FEW) and council.version:
            return None  # a coordinator whose term is open shows one of those of now
        raise


def _anchor(folder: Path, anchor_file: Path | None) -> tuple[Council, Mesh]:
    path = anchor_file or folder / "anchor.cbor"
    if not path.exists():
        raise UsageError(
            f"there is no {path}: name the mesh's anchor with --anchor, or its folder with --dir"
        )
    return read_anchor(path)


def _stored(folder: Path) -> list[Path]:
    found = [path for path in (folder / FOLDER).glob("term-*.log") if path.stem[5:].isdecimal()]
    if not found:
        raise UsageError(f"no log is stored in {folder / FOLDER}: fetch it, or name a folder with --dir")
    return sorted(found, key=lambda path: int(path.stem[5:]))


def _read(path: Path, council: Council, mesh: Mesh) -> StoredLog:
    return read_log(files.read(path, MAX_LOG), council, mesh)


def _out() -> Console:
    return Console(highlight=False)
