"""The policy file as a JSON Schema, for editors: names, types, ranges; contradictions are `check`'s to find.

Pure. Made from the types that read the file, so that it can't say anything else.
"""

from typing import Any

import msgspec

from schemas.evidence import MEASURED
from schemas.policy import Policy

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TITLE = "sealbus policy"

# Tables whose keys are platforms.
_BY_PLATFORM = (("Policy", "platforms"), ("Policy", "coordinators"), ("Workload", "on"))


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy as plain data."""
    schema: dict[str, Any] = _for_toml(msgspec.json.schema(Policy))
    for kind, field in _BY_PLATFORM:
        schema["$defs"][kind]["properties"][field]["propertyNames"] = {"enum": list(MEASURED)}
    names = sorted({name for each in MEASURED.values() for name in each})
    measurements = schema["$defs"]["Pinned"]["properties"]["measurements"]
    # Others may stand beside those that are required: editors should offer these.
    measurements["properties"] = dict.fromkeys(names, measurements["additionalProperties"])
    return {"$schema": DIALECT, "title": TITLE, **schema}


def _for_toml(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        return [_for_toml(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _for_toml(value) for key, value in schema.items()}
    if isinstance(pattern := result.get("pattern"), str):
        result["pattern"] = pattern.replace("\\Z", "$")  # ECMA 262 knows no \Z
    if "anyOf" in result:
        result = _without_null(result)
    return result


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    # TOML has no null: what may be absent is just not required.
    choices = [each for each in schema["anyOf"] if each != {"type": "null"}]
    rest = {
        key: value
        for key, value in schema.items()
        if key != "anyOf" and not (key == "default" and value is None)
    }
    return {**choices[0], **rest} if len(choices) == 1 else {**rest, "anyOf": choices}
