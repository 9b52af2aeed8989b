"""`sealbus evidence`: read and judge attestation evidence of any supported TEE, with or without a mesh.

Exit codes: 0 accepted, 1 refused, 2 unreadable.
"""

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console

from attestation import nitro
from attestation.assess import assess, assess_by_policy, hinted
from attestation.bundles.bundle import completed
from attestation.describe import describe
from attestation.errors import AttestationError, UnsupportedPlatformError
from attestation.explain import explain, explain_failure
from attestation.hints import Hint
from attestation.moments import read_rfc3339
from attestation.result import Basis, as_json
from attestation.x509 import is_signed_by, read_certificate
from console.collateral_files import read_verified
from console.evidence_files import Found, UnreadableError, as_der, read, read_bounded
from console.evidence_screen import show_assessment, show_fields
from console.policy.files import read_judging
from schemas.collateral import Entries
from schemas.errors import Reason, UsageError
from schemas.evidence import NITRO, SEV_SNP, TDX

MAX_ROOT = 8 * 1024

ACCEPTED, REFUSED, UNREADABLE = 0, 1, 2

_ROOM = {SEV_SNP: 64, TDX: 64, NITRO: nitro.MAX_NONCE}  # bytes for a nonce


class RFC3339(click.ParamType[datetime]):
    """A time with its zone."""

    name = "RFC3339"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = read_rfc3339(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time: write it as 2026-01-31T12:00:00Z", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r} names no time zone: end it with Z", param, ctx)
        return moment


class _EvidencePath(click.Path):
    """A folder or file of evidence: not what is left of a path where a shell's variable is unset."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if value == "":  # to open it would be to judge whatever lies in this folder
            self.fail("it is empty: name a folder or file of evidence, or . for this folder", param, ctx)
        if value == "-" and not Path("-").exists():
            self.fail("for what comes on standard input, name /dev/stdin", param, ctx)
        return super().convert(value, param, ctx)


class _Hex(click.ParamType[bytes]):
    name = "HEX"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            octets = bytes.fromhex(str(value))
        except ValueError:
            self.fail(_no_octets(str(value)), param, ctx)
        if not octets:
            self.fail("there is no byte in it: leave the option out, or say which bytes", param, ctx)
        # Reports fill up with zeros, so evidence that was asked for with no nonce at all would carry it.
        if not any(octets):
            self.fail(
                "it is zeros only, which evidence over no nonce carries too: give the one sent", param, ctx
            )
        return octets


def _no_octets(text: str) -> str:
    digits = "".join(text.split())
    if digits[:2].lower() == "0x":
        return f"{text!r} is not hexadecimal: leave the 0x out"
    if re.fullmatch("[0-9A-Fa-f]+", digits):
        return f"{text!r} has {len(digits)} digits, and a byte has two: give all of them"
    return f"{text!r} is not hexadecimal: write two of 0 to 9 and a to f for each byte"


collateral_option = click.option(
    "--collateral",
    type=click.Path(exists=True, path_type=Path),
    help="What to complete the evidence with: a file of `collateral fetch` or `pack`, or a signed bundle.",
)
anchor_option = click.option(
    "--mesh",
    "--anchor",
    "anchor",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The anchor of the mesh whose operators signed the bundle.",
)


@click.group()
def evidence() -> None:
    """Read and judge attestation evidence: a folder of raw files, or a file that wraps it (CMW)."""


@evidence.command()
@click.argument("path", type=_EvidencePath(path_type=Path))
@click.option("--json", "as_data", is_flag=True, help="Print the fields as JSON.")
def show(path: Path, as_data: bool) -> int:
    """Print what PATH says of itself. Nothing of it is believed: `verify` judges."""
    found = read(path)
    try:
        rows = describe(found.evidence)
    except UnsupportedPlatformError as error:
        # Readable, and refused for what it is: as `verify` ends.
        raise UnsupportedPlatformError(
            f"{path} is evidence of a platform that sealbus does not read: {error.detail}", error.platform
        ) from error
    except AttestationError as error:
        text = f"{path} can't be read as {found.platform} evidence: {explain_failure(error)}"
        raise UnreadableError(text, error.reason) from error
    if as_data:
        fields = {each.name: each.plain() for each in rows}
        beside_it = sorted(found.endorsements)
        print_json({"platform": found.platform, "fields": fields, "endorsements": beside_it})
        return ACCEPTED
    console = Console()
    show_fields(console, [("platform", found.platform), *((each.name, each.text()) for each in rows)])
    beside = ", ".join(sorted(found.endorsements)) or "none"
    console.print(f"endorsements beside it: {beside}", markup=False)
    return ACCEPTED


@evidence.command()
@click.argument("path", type=_EvidencePath(path_type=Path))
@click.option("--at", type=RFC3339(), default=None, help="Judge at this time; now if absent.")
@click.option("--nonce", type=_Hex(), default=None, help="The nonce that the evidence has to carry.")
@click.option(
    "--root",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A root certificate (DER or PEM) to go by in place of the manufacturer's.",
)
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A policy (TOML) to judge by; without it, a strict built-in one judges all but measurements.",
)
@collateral_option
@anchor_option
@click.option("--json", "as_data", is_flag=True, help="Print the result as JSON.")
def verify(
    path: Path,
    at: datetime | None,
    nonce: bytes | None,
    root: Path | None,
    policy_file: Path | None,
    collateral: Path | None,
    anchor: Path | None,
    as_data: bool,
) -> int:
    """Judge the evidence in PATH. Exit 0 if it is accepted, 1 if refused, 2 if it can't be read."""
    if root is not None and policy_file is not None:
        raise UsageError("--root and --policy: a policy names its own roots; give one of the two")
    bare = read(path)
    if nonce is not None and len(nonce) > (room := _ROOM.get(bare.platform, len(nonce))):
        raise UsageError(
            f"--nonce has {len(nonce)} bytes, and {bare.platform} evidence carries {room} at most: "
            "give the one sent, or the digest that the attester made of it"
        )
    found = _completed(bare, collateral_entries(collateral, anchor))
    new = tuple(
        name for name, data in sorted(found.endorsements.items()) if bare.endorsements.get(name) != data
    )
    now = at or datetime.now(UTC)
    basis = Basis(at=now, issued=datetime.now(UTC), build=build(), nonce=nonce, collateral=new)
    if policy_file is not None:
        values, digest = read_judging(policy_file)
        basis = replace(basis, policy=str(policy_file), policy_digest=digest)
        assessment = assess_by_policy(found.evidence, found.endorsements, values, now=now, nonce=nonce)
    else:
        fingerprint = None if root is None else read_root(root)
        basis = replace(basis, root=fingerprint or "")
        assessment = assess(found.evidence, found.endorsements, now=now, root=fingerprint, nonce=nonce)
    if collateral is not None:
        # To name what one has is no advice for whoever did.
        assessment = hinted(assessment, Reason.NO_COLLATERAL, Hint.NOT_IN_WHAT_WAS_GIVEN)
    if as_data:
        data = as_json(assessment, found.platform, basis)
        if assessment.failure is not None and not assessment.readable:
            # As any error with exit code 2, so that a program reads one shape.
            data |= {
                "done": False,
                "reason": assessment.failure.reason.value,
                "detail": explain(assessment)[0],
            }
        print_json(data)
    else:
        show_assessment(Console(), assessment, found.platform, basis)
    if not assessment.readable:
        return UNREADABLE
    return ACCEPTED if assessment.accepted else REFUSED


def read_root(path: Path) -> str:
    """Return a root certificate's fingerprint (SHA-256 of its DER, hexadecimal), or raise `UsageError`."""
    try:
        root = read_certificate(as_der(read_bounded(path, MAX_ROOT)))
        self_signed = root.issuer == root.subject and is_signed_by(root.key_info, root)
    except AttestationError as error:
        raise UsageError(
            f"{path} is no certificate, in DER or PEM: {error.detail or error.reason}; name the file of the "
            "root that ends the chain"
        ) from error
    if not self_signed:
        raise UsageError(
            f"{path} is no root: it did not sign itself; name the certificate that ends the chain"
        )
    return root.fingerprint


def collateral_entries(collateral: Path | None, anchor: Path | None) -> Entries:
    """Read what --collateral and --anchor name, nothing if nothing; raise `UsageError`."""
    if collateral is None:
        if anchor is not None:
            raise UsageError("--anchor says whose collateral is good: name the file with --collateral")
        return ()
    return read_verified(collateral, anchor)


def _completed(found: Found, entries: Entries) -> Found:
    return replace(found, endorsements=completed(found.evidence, found.endorsements, entries))


def build() -> str:
    """Name the program that judges, with its version."""
    return f"sealbus {version('sealbus')}"


def print_json(data: dict[str, object]) -> None:
    """Print one JSON document for a program."""
    click.echo(json.dumps(data, indent=1))
