"""The schema for editors says what the reader of policies says, and is the one that lies in docs/."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.policy import Policy
from schemas.policy_schema import policy_schema

STORED = Path(__file__).parents[2] / "docs" / "policy.schema.json"
SCHEMA = policy_schema()


def nodes(schema: Any) -> list[dict[str, Any]]:
    """Return every object of a schema."""
    if isinstance(schema, list):
        return [node for item in schema for node in nodes(item)]
    if isinstance(schema, dict):
        return [schema, *(node for item in schema.values() for node in nodes(item))]
    return []


def test_the_stored_schema_is_that_of_the_code() -> None:
    assert json.loads(STORED.read_text("utf-8")) == SCHEMA, (
        "run: sealbus policy schema > docs/policy.schema.json"
    )


def test_it_has_every_field_of_a_policy_and_requires_those_without_a_default() -> None:
    top = SCHEMA["$defs"]["Policy"]
    fields = msgspec.structs.fields(Policy)
    assert set(top["properties"]) == {field.name for field in fields}
    assert set(top["required"]) == {field.name for field in fields if field.required}


def test_no_table_takes_a_key_that_the_reader_refuses() -> None:
    for name, kind in SCHEMA["$defs"].items():
        assert kind["additionalProperties"] is False, name


def test_it_speaks_of_toml_and_the_dialect_of_editors() -> None:
    assert {"type": "null"} not in nodes(SCHEMA)
    for node in nodes(SCHEMA):
        if isinstance(pattern := node.get("pattern"), str):
            assert "\\Z" not in pattern
            re.compile(pattern)


@pytest.mark.parametrize(
    "field", [("Policy", "platforms"), ("Policy", "coordinators"), ("Workload", "on")], ids="-".join
)
def test_it_offers_the_platforms_by_name(field: tuple[str, str]) -> None:
    kind, name = field
    names = SCHEMA["$defs"][kind]["properties"][name]["propertyNames"]
    assert names == {"enum": ["sev-snp", "tdx", "nitro"]}
