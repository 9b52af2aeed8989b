"""The policy in `docs/attestation.md` is one, and its tables name what there is."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attestation.assess import assess
from attestation.result import Basis, as_json
from schemas.evidence import SEV_SNP, TDX, Evidence, PlatformValues, ProductValues
from schemas.evidence_policy import parse_for_evidence
from schemas.pinning import Pinned

PAGE = (Path(__file__).parents[2] / "docs" / "attestation.md").read_text("utf-8")


def test_the_policy_of_the_page_loads() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    policy = parse_for_evidence(example, "the example")
    assert set(policy.platforms) == {SEV_SNP, TDX}
    assert set(policy.workloads["redactor"].on) == {SEV_SNP, TDX}


def first_column(head: str) -> set[str]:
    table = PAGE.split(head)[1].split("\n\n")[0]
    return {key for line in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", line.split("|")[1])}


@pytest.mark.parametrize(
    ("head", "keys"),
    [
        ("| key of a platform | of |", PlatformValues.__struct_fields__),
        ("| key of `products.LINE` |", ProductValues.__struct_fields__),
        ("| key of `workloads.NAME.on.PLATFORM` |", Pinned.__struct_fields__),
    ],
)
def test_every_key_is_in_its_table(head: str, keys: tuple[str, ...]) -> None:
    assert first_column(head) == set(keys)


def test_every_field_of_the_result_is_in_the_table() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assessment = assess(Evidence("application/octet-stream", b""), {}, now=now)
    result = as_json(assessment, "unknown", Basis(at=now, issued=now, build="sealbus"))
    assert first_column("| field | is |") == set(result)
