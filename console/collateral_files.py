"""Evidence, collateral files, bundles, keys and anchors as `sealbus collateral` finds them on disk."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from attestation.amd_names import ARK_FILE, ASK_FILE, CRL_FILE, VCEK_FILE, VLEK_FILE
from attestation.bundles.bundle import decode_file, decode_signed, issued_at, open_bundle, unverified_bundle
from attestation.missing import CODES, missing_of
from attestation.moments import rfc3339
from attestation.tdx.collateral import NAMES
from attestation.whole_files import write_whole
from console import operator_key
from console.council_files import open_council
from console.evidence_files import CERTIFICATE_TABLE, each_once, holds, read_bounded
from schemas.collateral import MAX_COLLATERAL, CollateralBundle, Entries, SignedCollateral
from schemas.errors import PeerError, UsageError
from schemas.evidence import NITRO, SEV_SNP, TDX, Endorsements
from schemas.messages import Millis
from sealing.context import Mesh
from sealing.council import Council
from sealing.keys import SigningKey

KEY_SIZE = 32


@dataclass(frozen=True, slots=True)
class Gathered:
    """A collateral file: what is in it, and who has signed it, if anybody."""

    data: bytes
    entries: Entries
    signed: SignedCollateral | None = None
    bundle: CollateralBundle | None = None


def read_gathered(path: Path) -> Gathered:
    """Read a collateral file, signed or not; the signatures are not looked at. Raises `UsageError`."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: make a file of what is in it with `sealbus collateral pack`")
    data = read_bounded(path, 2 * MAX_COLLATERAL)
    try:
        return Gathered(data, decode_file(data))
    except PeerError:
        pass  # not an unsigned one
    try:
        signed = decode_signed(data)
        bundle = unverified_bundle(signed)
    except PeerError as error:
        raise UsageError(
            f"{path} is no collateral file: name one, or make it with sealbus collateral fetch or pack"
        ) from error
    return Gathered(data, bundle.entries, signed, bundle)


def read_unsigned(path: Path) -> Entries:
    """Read a collateral file to add to; raise `UsageError` if it is signed."""
    found = read_gathered(path)
    if found.signed is not None:
        raise UsageError(f"{path} is signed: adding to it would void that; name another file with --out")
    return found.entries


def previous_bundle(previous: Path | None, out: Path) -> CollateralBundle | None:
    """Read the bundle that one follows: the one named, or else what lies where it goes, if that is a bundle.

    Its signatures are not looked at: with what is in it nothing can be done but refuse. Raises `UsageError`.
    """
    if previous is None:
        with suppress(UsageError):
            return read_gathered(out).bundle if out.exists() else None
        return None
    if (bundle := read_gathered(previous).bundle) is None:
        raise UsageError(f"{previous} is signed by nobody: name the bundle before with --previous")
    return bundle


def refuse_earlier(issued: Millis, previous: CollateralBundle) -> None:
    """Raise `UsageError` for a bundle that would be older than the one it follows: nobody would use it."""
    if issued < previous.issued:
        this = rfc3339(datetime.fromtimestamp(issued / 1000, UTC))
        raise UsageError(
            f"the bundle before says that it was issued {rfc3339(issued_at(previous))}, and this one {this}: "
            "who has seen that one will not use it; either a clock is wrong, or they are in the wrong order"
        )


def folders_of_endorsements(tops: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Name these folders and those below that hold endorsements, then those whose evidence carries its own.

    Raises `UsageError` for one that has neither in it.
    """
    found, needless = [], []
    for top in tops:
        folders = sorted((Path(folder), set(names)) for folder, _, names in os.walk(top))
        below = [folder for folder, names in folders if {CERTIFICATE_TABLE, *CODES} & names]
        nitro = [folder for folder, _ in folders if folder not in below and holds(folder, NITRO)]
        if not below and not nitro:
            raise UsageError(
                f"{top} holds no endorsements: name folders with {', '.join(list(CODES)[:4])}, …"
            )
        found += below
        needless += nitro
    return each_once(found), each_once(needless)


def absent_from(folder: Path, files: Endorsements) -> list[str]:
    """Name the endorsements that the evidence in a folder needs and that do not lie beside it."""
    if holds(folder, TDX):
        return list(missing_of(NAMES, files))
    if holds(folder, SEV_SNP):
        key = VLEK_FILE if VLEK_FILE in files else VCEK_FILE
        return list(missing_of((key, ASK_FILE, ARK_FILE, CRL_FILE), files))
    return []


def read_verified(path: Path, anchor: Path | None) -> Entries:
    """Read collateral to complete evidence with: an unsigned file, or a bundle of the anchor's operators.

    Raises `UsageError`. What is in it is still to be verified with the evidence.
    """
    found = read_gathered(path)
    if found.signed is None:
        if anchor is not None:
            raise UsageError(f"{path} is signed by nobody: leave --anchor out, or name the bundle")
        return found.entries
    if anchor is None:
        raise UsageError(f"{path} is signed: name the anchor of its mesh with --anchor, to check by whom")
    council, mesh = load_anchor(anchor)
    try:
        return open_bundle(council, mesh, found.data, now=time.time_ns() // 1_000_000).entries
    except PeerError as error:
        raise UsageError(
            f"{path} is no collateral that this mesh's operators signed: {error}; "
            f"`sealbus collateral status {path} --anchor {anchor}` says how it stands"
        ) from error


def load_anchor(path: Path) -> tuple[Council, Mesh]:
    """Read a mesh's anchor and the changes of operators beside it, or raise `UsageError`."""
    return open_council(path)


def load_key(path: Path, council: Council, passphrase_file: Path | None = None) -> SigningKey:
    """Read the key of one of the anchor's operators, or raise `UsageError`.

    It is what `sealbus policy keygen` wrote, under a passphrase; or a bare Ed25519 seed as a lab's operators
    have, 32 bytes or as many in hexadecimal.
    """
    data = read_bounded(path, operator_key.MAX_KEY_FILE)
    if len(data) != KEY_SIZE and data.lstrip().startswith(b"{"):
        return operator_key.unlock(path, data, council, passphrase_file)
    key = _seed(path, data)
    if key.public not in {operator.key for operator in council.operators}:
        raise UsageError(f"{path} is no key of this mesh's operators: name one that the anchor lists")
    return key


def _seed(path: Path, data: bytes) -> SigningKey:
    if len(data) != KEY_SIZE:
        try:
            data = bytes.fromhex(data.decode("ascii").strip())
        except ValueError:
            data = b""
    if len(data) != KEY_SIZE:
        raise UsageError(
            f"{path} is no operator's key: name one that `sealbus policy keygen` wrote, or an Ed25519 seed "
            "of 32 bytes, raw or as hex"
        )
    return SigningKey(data)


def save(path: Path, data: bytes) -> None:
    """Write a file whole, or raise `UsageError`."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name another place") from error


def save_beside(folder: Path, files: dict[str, bytes]) -> list[str]:
    """Write those of `files` that differ from what lies in `folder`; return their names.

    Raises `UsageError` before anything is written if a name is not an endorsement's: it would be a path.
    """
    if strange := sorted(files.keys() - CODES.keys()):
        raise UsageError(f"{strange[0]!r} names no endorsement: nothing is written beside the evidence")
    changed = []
    for name, data in sorted(files.items()):
        path = folder / name
        if not path.is_file() or read_bounded(path, MAX_COLLATERAL) != data:
            save(path, data)
            changed.append(name)
    return changed


def default_cache() -> Path:
    """Name the cache's folder (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "sealbus" / "collateral"
