"""A starter is strict, complete but for its placeholders, and can't be signed before they are filled in."""

import itertools
import re
import tomllib

import pytest

from attestation.vendors import AMD_ROOTS, VENDOR_ROOTS
from console.policy.findings import findings, incomplete
from console.policy.starter import starter
from schemas.errors import UsageError
from schemas.evidence import PLATFORMS, SEV_SNP
from schemas.policy import Policy, parse
from tests.policy.policies import ISSUED, MESH
from tests.policy.test_policy_findings import NOW

CHOICES = [each for count in (1, 2, 3) for each in itertools.permutations(PLATFORMS, count)]


def filled(text: str) -> str:
    """Fill in every placeholder with digits of its own, as many as belong there; a key is one that can be."""
    numbers = itertools.count(1)

    def value(gap: re.Match[str]) -> str:
        if gap["what"].startswith("the public key"):
            return f'"{"06" * 32}"'
        digits = 64 if gap["what"].startswith(("the ", "host_data")) else 96
        return f'"{next(numbers):0{digits}x}"'

    return re.sub(r'"FILL IN: (?P<what>[^"]*)"', value, text)


def start(*platforms: str) -> Policy:
    return parse(filled(starter(platforms, issued=ISSUED)))


@pytest.mark.parametrize("platforms", CHOICES, ids="+".join)
def test_a_starter_that_is_filled_in_has_nothing_amiss(platforms: tuple[str, ...]) -> None:
    policy = start(*platforms)
    assert findings(policy, now=NOW) == []
    assert set(policy.platforms) == set(platforms)
    assert set(policy.coordinators) == {platforms[0]}


@pytest.mark.parametrize("platforms", CHOICES[:3], ids="+".join)
def test_a_starter_as_it_is_names_each_gap_and_is_no_policy(platforms: tuple[str, ...]) -> None:
    text = starter(platforms, issued=ISSUED)
    gaps = incomplete(tomllib.loads(text))
    assert len(gaps) == text.count("FILL IN: ")
    assert ("mesh",) in [each.path for each in gaps]
    with pytest.raises(UsageError, match="still to be filled in"):
        parse(text)


def test_the_mesh_is_filled_in_if_it_is_known() -> None:
    assert f'mesh = "{MESH}"' in starter(PLATFORMS, issued=ISSUED, mesh=MESH)


def test_its_roots_are_the_manufacturers_but_for_milans() -> None:
    policy = start(*PLATFORMS)
    for name, values in policy.platforms.items():
        assert set(values.roots) == set(VENDOR_ROOTS[name]) - {AMD_ROOTS["Milan"]}
    assert set(policy.platforms[SEV_SNP].products or ()) == {"Genoa", "Turin"}


def test_milan_as_the_comment_says_needs_chips() -> None:
    text = filled(starter([SEV_SNP], issued=ISSUED))
    assert "decision 0020" in text
    milan = text.replace(f'# "{AMD_ROOTS["Milan"]}"', f'"{AMD_ROOTS["Milan"]}"')
    milan = milan.replace("# [platforms.sev-snp.products.Milan]", "[platforms.sev-snp.products.Milan]")
    policy = parse(milan)
    assert AMD_ROOTS["Milan"] in policy.platforms[SEV_SNP].roots
    assert {each.code for each in findings(policy, now=NOW)} == {"milan-without-chips"}
    chips = f'chips = ["{"ab" * 64}"]\n\n'
    for table in ("coordinators.sev-snp", "workloads.worker.on.sev-snp"):
        milan = milan.replace(f"[{table}.measurements]", f"[{table}]\n{chips}[{table}.measurements]")
    assert findings(parse(milan), now=NOW) == []


def test_the_condition_that_a_comment_shows_has_nothing_amiss() -> None:
    text = filled(starter([SEV_SNP], issued=ISSUED))
    shown = next(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# arguments = "))
    policy = parse(text.replace("per_minute = 60\n", f"per_minute = 60\n{shown}\n"))
    assert [rule.arguments is not None for rule in policy.rules] == [False, True]
    assert findings(policy, now=NOW) == []
