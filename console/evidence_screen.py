"""Evidence as a person reads it: what it says of itself, and what was found."""

import textwrap
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attestation.assess import Assessment
from attestation.claims import Genuine
from attestation.explain import explain
from attestation.moments import rfc3339
from attestation.result import Basis
from attestation.trust import Tier, tier_of
from schemas.errors import Reason
from schemas.evidence import MEASURED, SEV_SNP, VLEK
from schemas.toml_place import printable
from schemas.vendor_roots import EVERY_VENDOR_ROOT

_STYLES = {
    Tier.AFFIRMING: "green",
    Tier.WARNING: "yellow",
    Tier.CONTRAINDICATED: "red",
    Tier.NONE: "dim",
}


def show_fields(console: Console, rows: list[tuple[str, str]]) -> None:
    """Print the fields of Evidence as a table."""
    table = Table(title="what the evidence says of itself", show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(printable(value)))
    console.print(table)


def show_assessment(console: Console, assessment: Assessment, platform: str, basis: Basis) -> None:
    """Print a verdict, by whose word, what of, why, and the trust vector."""
    style = _STYLES[assessment.status]
    verdict = "accepted" if assessment.accepted else "refused"
    genuine = "genuine" if assessment.genuine else "not genuine"
    said = f"{platform} evidence, {genuine}, {assessment.status} by {_words(basis)}"
    if assessment.unsupported:
        said = f"evidence of a platform that sealbus does not judge ({assessment.unsupported})"
    first, *more = _lines(console, f"{verdict}: {said}")
    console.print(Text.assemble((verdict, f"bold {style}"), first.removeprefix(verdict)), soft_wrap=True)
    say(console, *more)
    for fact in _facts(assessment, basis):
        say(console, *_lines(console, fact))
    for sentence in explain(assessment):
        say(console, *_lines(console, f"- {sentence}"))
    vector = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for claim, value in assessment.vector.items():
        tier = tier_of(value)
        vector.add_row(Text(f"  {claim.value}"), Text(tier.value, _STYLES[tier]))
    console.print(vector)


def say(console: Console, *lines: str) -> None:
    """Print lines as they are."""
    for line in lines:
        console.print(Text(printable(line)), soft_wrap=True)


def _words(basis: Basis) -> str:
    if basis.policy:
        return f"the policy {basis.policy}"
    return "the built-in policy, which judges all but measurements"


def _facts(assessment: Assessment, basis: Basis) -> Iterator[str]:
    yield f"judged at: {rfc3339(basis.at)}"
    if basis.root:
        yield f"root given: {basis.root}, in place of the manufacturer's"
    if basis.collateral:
        yield f"from the collateral given: {', '.join(basis.collateral)}"
    if assessment.judgement.workload is not None:
        yield f"workload: {assessment.judgement.workload.workload}"
    if assessment.claims is not None:
        if not assessment.genuine:
            yield "nothing of what follows is proven: whoever made the root may have written all of it"
        elif basis.nonce is not None and Reason.CHALLENGE_UNKNOWN not in assessment.reasons:
            yield f"answers the nonce: {basis.nonce.hex()}"
        yield from _claimed(
            assessment.claims, chip_is_proven=assessment.chip_is_proven, aged=bool(basis.policy)
        )


def _claimed(claims: Genuine, *, chip_is_proven: bool, aged: bool) -> Iterator[str]:
    """Say what evidence is of, as far as people compare it."""
    if claims.product:
        yield f"product: {claims.product}"
    if claims.key:
        of = f" of {claims.cloud or 'no cloud that is named'}" if claims.key == VLEK else ""
        yield f"key: {claims.key.upper()}{of}"
    word = "" if chip_is_proven else ", by its own word"
    yield f"chip: {claims.chip}{word}" if claims.chip else "chip: not stated"
    for name in MEASURED[claims.platform]:
        value = claims.measurements.get(name, "")
        yield f"{name}: {value if any(bytes.fromhex(value)) else 'zero'}"
    if claims.time is not None:
        note = "" if aged else "; how old it is was not judged, which takes a policy"
        yield f"signed at: {rfc3339(claims.time)}{note}"
    if claims.platform == SEV_SNP:
        # Of TDX there are two dozen numbers: there the status says what they are worth.
        yield f"TCB: {', '.join(f'{component} {svn}' for component, svn in claims.tcb.items())}"
    if claims.status:
        yield f"TCB status: {claims.status}"
    for unstated in claims.unstated:
        yield f"not stated: {unstated}"
    whose = "the manufacturer's" if claims.root in EVERY_VENDOR_ROOT else "not a manufacturer's"
    yield f"root: {claims.root}, {whose}"


def _lines(console: Console, text: str) -> list[str]:
    """Break a line at the width of the screen, so that what belongs together hangs below its beginning."""
    return textwrap.wrap(text, max(console.width, 20), subsequent_indent="  ", break_on_hyphens=False)
