"""The Evidence that a machine minted last, kept by its host, and written out for tools of others to judge.

Evidence is no secret, but it says which chip and which code; it is kept private and never logged. What the
host keeps is what its enclave was given: nothing is minted for an export.
"""

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from attestation import appraise, nitro, sev_snp, tdx
from schemas import codec
from schemas.codec import Message
from schemas.errors import MalformedError, UsageError
from schemas.evidence import NITRO, SEV_SNP, TDX, AttestationResult, Endorsements, Evidence, ReferenceValues

EVIDENCE = "evidence"
KEPT = 8  # the one that an admission rests on, and what was minted while the answer was under way

_PLATFORMS = {sev_snp.MEDIA_TYPE: SEV_SNP, tdx.MEDIA_TYPE: TDX, nitro.MEDIA_TYPE: NITRO}
_FILES = {SEV_SNP: "report.bin", TDX: "quote.bin", NITRO: "attestation.cbor"}
_SUFFIX = ".minted"


class Minted(Message, frozen=True):
    """Evidence with what it answers."""

    time: int  # milliseconds since 1970, by the machine's host
    key_binding: bytes
    challenge: bytes
    evidence: Evidence
    endorsements: Endorsements


@dataclass(frozen=True, slots=True)
class Exported:
    """Evidence that was written out, and what the appraisal found."""

    name: str
    folder: Path
    result: AttestationResult


def keep(folder: Path, minted: Minted) -> None:
    """Keep Evidence in a machine's folder; forget the oldest."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{minted.time:015d}-{secrets.token_hex(4)}{_SUFFIX}"
        _write(path.with_suffix(".part"), codec.encode(minted))
        path.with_suffix(".part").rename(path)
        for old in _files(folder)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot keep Evidence in {folder}: {error.strerror}; make room") from error


def kept(folder: Path) -> Iterator[Minted]:
    """Yield what a machine's folder holds, the oldest first."""
    for path in _files(folder):
        try:
            yield codec.decode(path.read_bytes(), Minted)
        except (FileNotFoundError, MalformedError):
            continue  # forgotten at this moment, or not to be read: as if it were not there


def relied_on(minted: Iterable[Minted], admitted: int | None) -> Minted | None:
    """Return what an admission at that time rests on: the last that was minted before it.

    None stands for a coordinator, which is admitted by each party anew: then it is the last of all.
    """
    found = None
    for each in minted:
        if admitted is None or each.time <= admitted:
            found = each
    return found


def export(
    out: Path, name: str, minted: Minted, root: bytes, expected: ReferenceValues, facts: dict[str, str]
) -> Exported:
    """Write Evidence that `expected` accepts into `out`, in the layout PLATFORM/NAME/."""
    result = appraise(
        minted.evidence,
        minted.endorsements,
        expected,
        key_binding=minted.key_binding,
        challenge=minted.challenge,
        now=datetime.fromtimestamp(minted.time / 1000, UTC),
    )
    platform = _PLATFORMS[minted.evidence.type]
    folder = out / platform / name
    meta = _meta(platform, minted, result) | facts
    files = {
        **minted.endorsements,
        _FILES[platform]: minted.evidence.value,
        "root.der": root,
        "meta.json": json.dumps(meta, indent=1).encode() + b"\n",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            _write(folder / file, data)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}; name another place with --out") from error
    return Exported(name, folder, result)


def _meta(platform: str, minted: Minted, result: AttestationResult) -> dict[str, Any]:
    at = datetime.fromtimestamp(minted.time / 1000, UTC).isoformat(timespec="milliseconds")
    return {
        "platform": platform,
        "source_repo": "(made here)",
        "product": "simulated by the sealbus lab",
        "report_data": minted.key_binding.hex(),
        "challenge": minted.challenge.hex(),
        "measurement": msgspec.to_builtins(result.measurements),
        "chip": result.chip,
        "debug": result.debug,
        "tcb_status": result.status or None,
        "valid_at": at.replace("+00:00", "Z"),
        "expect": "fail",
        "reason": "its root is the lab's own: with the vendor's root pinned it must fail",
        "with_test_root": {"root": "root.der", "expected": result.status or "ok"},
    }


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_SUFFIX}"))


def _write(path: Path, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
