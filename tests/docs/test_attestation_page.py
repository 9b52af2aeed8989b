"""The policy in `docs/attestation.md` is one, and its tables name what there is."""

import re
from pathlib import Path

from schemas.evidence import SEV_SNP, TDX, PlatformValues
from schemas.evidence_policy import parse_for_evidence

PAGE = (Path(__file__).parents[2] / "docs" / "attestation.md").read_text("utf-8")


def test_the_policy_of_the_page_loads() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    policy = parse_for_evidence(example, "the example")
    assert set(policy.platforms) == {SEV_SNP, TDX}
    assert set(policy.workloads["redactor"].on) == {SEV_SNP, TDX}


def test_every_key_of_a_platform_is_in_the_table() -> None:
    table = PAGE.split("| key of a platform | of |")[1].split("\n\n")[0]
    told = {key for line in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert told == set(PlatformValues.__struct_fields__)
