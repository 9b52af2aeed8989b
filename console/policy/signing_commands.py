"""The commands of `sealbus policy` that make keys, anchors and signatures. None of them needs a network."""

import os
import time
from pathlib import Path

import click
import msgspec

from attestation.vendors import VENDOR_ROOTS
from console import operator_key
from console.council_files import open_council
from console.documents import SignedPolicy
from console.evidence import print_json
from console.operator_key import passphrase_option
from console.policy import files, operators, signatures
from console.policy.screen import say, signed_data, signed_lines
from schemas import codec
from schemas.documents import OperatorKey
from schemas.errors import UsageError
from schemas.messages import Millis
from schemas.policy import compiled
from sealing import cose, keyfile
from sealing.context import Mesh
from sealing.council import Council
from sealing.errors import SignatureError
from sealing.keys import SigningKey

WHOLE, LACKING = 0, 1
ANCHOR = "anchor.cbor"

File = click.Path(dir_okay=False, path_type=Path)
anchor_option = click.option(
    "--mesh", "--anchor", "anchor_file", type=File, help=f"{ANCHOR} beside FILE if absent."
)


@click.command()
@click.argument("name")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="The folder.")
@passphrase_option
def keygen(name: str, out: Path, passphrase_file: Path | None) -> int:
    """Make an operator's key: NAME.key under a passphrase, to keep, and NAME.pub, to give away."""
    seed = os.urandom(32)
    public = SigningKey(seed).public
    try:
        msgspec.convert([name, public], OperatorKey, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{name!r} can't name an operator: lower-case letters, digits, '.', '_' and '-', 64 at most"
        ) from error
    key_file, public_file = out / f"{name}.key", out / f"{name}.pub"
    if public_file.exists():
        raise UsageError(f"{public_file} exists already: name another, or remove it if nobody needs it")
    phrase = operator_key.passphrase(f"a passphrase for {key_file}", passphrase_file, confirm=True)
    locked = keyfile.lock(
        name, seed, phrase, salt=os.urandom(keyfile.SALT_SIZE), nonce=os.urandom(keyfile.NONCE_SIZE)
    )
    files.write_new(key_file, locked, files.PRIVATE)
    files.write_new(public_file, operators.public_line(operators.Operator(name, public)).encode())
    say([f"{key_file}: the key, under your passphrase; keep it", f"{public_file}: give it to the others"])
    return WHOLE


@click.command()
@click.argument("public_files", metavar="NAME.pub...", nargs=-1, required=True, type=File)
@click.option(
    "--threshold", type=int, help="How many sign together; the least that is more than half if absent."
)
@click.option(
    "--root",
    "roots",
    multiple=True,
    help="SHA-256 of a root that policies may name; manufacturers' if absent.",
)
@click.option("--out", type=File, default=Path(ANCHOR), show_default=True)
def anchor(public_files: tuple[Path, ...], threshold: int | None, roots: tuple[str, ...], out: Path) -> int:
    """Make the anchor of a new mesh from its operators' public keys: it is what the mesh is."""
    people = [operators.read_public(files.read_small_text(path), str(path)) for path in public_files]
    needed = operators.majority(len(people)) if threshold is None else threshold
    named = roots or tuple(root for each in VENDOR_ROOTS.values() for root in each)
    data, mesh = operators.anchor_of(people, needed, named, _now())
    files.write_new(out, data)
    names = ", ".join(sorted(each.name for each in people))
    say([f"{out}: a mesh of {names}; {needed} of {len(people)} sign", f'mesh = "{mesh.id.hex()}"'])
    return WHOLE


@click.command()
@click.argument("file", type=File)
@click.option("--key", "key_file", type=File, required=True, help="Your key, from `keygen`.")
@anchor_option
@click.option("--previous", type=File, help="The signed version before: refuse what does not follow it.")
@passphrase_option
def sign(
    file: Path, key_file: Path, anchor_file: Path | None, previous: Path | None, passphrase_file: Path | None
) -> int:
    """Add your signature of the policy FILE and of the profile that follows from it to FILE.signed."""
    opened, mesh = load_anchor(anchor_file, file)
    policy = files.read_policy(file)
    before = None if previous is None else load_past(opened, mesh, previous)
    if problems := signatures.chain(policy, before):
        raise UsageError(f"{file} is not signed: {problems[0].text}")
    held = _held(signed_path(file))
    data = files.read(key_file, operator_key.MAX_KEY_FILE)
    key = operator_key.unlock(key_file, data, opened, passphrase_file)
    try:
        whole = signatures.sign(opened, mesh, key, policy, held)
    except SignatureError as error:
        if not any(cose.unverified_payload(each) != compiled(policy) for each in held.policy):
            raise
        step = f"put {file} back as it was signed, or remove {signed_path(file)} and have everybody sign anew"
        raise SignatureError(f"{error.detail}; {step}") from error
    files.replace(signed_path(file), codec.encode(whole))
    say(signed_lines(signatures.read_signed(opened, mesh, whole), (), _now()))
    return WHOLE


@click.command()
@click.argument("file", type=File)
@click.argument("others", metavar="OTHER.signed...", nargs=-1, required=True, type=File)
@anchor_option
def join(file: Path, others: tuple[Path, ...], anchor_file: Path | None) -> int:
    """Add the signatures that others made elsewhere to FILE.signed."""
    opened, mesh = load_anchor(anchor_file, file)
    mine = signed_path(file)
    whole = _held(mine)
    meant = files.read_policy(file) if file != mine and file.exists() else None
    for other in others:
        given = signatures.decode_signed(files.read(other, files.MAX_SIGNED), str(other))
        try:
            whole = signatures.join(opened, mesh, whole, given, meant)
        except SignatureError as error:
            raise SignatureError(f"{other} is not joined, {mine} is as it was: {error.detail}") from error
    signed = signatures.read_signed(opened, mesh, whole)
    files.replace(mine, codec.encode(whole))
    say(signed_lines(signed, (), _now()))
    return WHOLE


@click.command()
@click.argument("file", type=File)
@anchor_option
@click.option("--previous", type=File, help="The signed version before, which this one has to follow.")
@click.option("--json", "as_data", is_flag=True, help="Print it as JSON.")
def show(file: Path, anchor_file: Path | None, previous: Path | None, as_data: bool) -> int:
    """Say who has signed the policy FILE, or FILE.signed. Exit 0 if it is whole, 1 if it is not."""
    opened, mesh = load_anchor(anchor_file, file)
    whole = signed_path(file)
    if whole.exists():
        signed = load_signed(opened, mesh, whole)
        if file != whole and files.read_policy(file) != signed.policy:
            raise UsageError(f"{file} was changed since it was signed: put it back, or remove {whole}")
    else:
        signed = signatures.unsigned(opened, files.read_policy(file))
    before = None if previous is None else load_past(opened, mesh, previous)
    problems = signatures.chain(signed.policy, before)
    if as_data:
        print_json(signed_data(signed, problems, _now()))
    else:
        say(signed_lines(signed, problems, _now()))
    return LACKING if signed.lacking or problems else WHOLE


def signed_path(file: Path) -> Path:
    """Return where the signatures of a policy lie: FILE.signed, also if that was named itself."""
    return file if file.suffix == ".signed" else file.with_name(f"{file.name}.signed")


def load_anchor(anchor_file: Path | None, file: Path) -> tuple[Council, Mesh]:
    """Read the anchor that was named, or the one beside a policy."""
    path = anchor_file or file.with_name(ANCHOR)
    if not path.exists():
        raise UsageError(f"there is no {path}: name the mesh's anchor with --anchor")
    return read_anchor(path)


def read_anchor(path: Path) -> tuple[Council, Mesh]:
    """Read an anchor and the changes of operators beside it, or raise `UsageError`."""
    return open_council(path)


def load_signed(council: Council, mesh: Mesh, path: Path) -> signatures.Signed:
    """Read a set of signatures and whose they are."""
    held = signatures.decode_signed(files.read(path, files.MAX_SIGNED), str(path))
    return signatures.read_signed(council, mesh, held)


def load_past(council: Council, mesh: Mesh, path: Path) -> signatures.Signed:
    """Read a version of before, which other operators may have signed."""
    held = signatures.decode_signed(files.read(path, files.MAX_SIGNED), str(path))
    return signatures.read_past(council, mesh, held)


def _held(path: Path) -> SignedPolicy:
    if not path.exists():
        return signatures.NOBODY
    return signatures.decode_signed(files.read(path, files.MAX_SIGNED), str(path))


def _now() -> Millis:
    return time.time_ns() // 1_000_000
