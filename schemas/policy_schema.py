"""The policy file as a JSON Schema, for editors: names, types, ranges; contradictions are `check`'s to find.

Pure. Made from the types that read the file, so that it can't say anything else.
"""

from typing import Any

import msgspec

from schemas.evidence import MEASURED
from schemas.narrowing import KEYWORDS, TYPES
from schemas.patterns import MAX_PATTERN
from schemas.policy import Policy

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TITLE = "sealbus policy"

# Tables whose keys are platforms.
_BY_PLATFORM = (("Policy", "platforms"), ("Policy", "coordinators"), ("Workload", "on"))


_EACH: dict[str, Any] = {"anyOf": [{"$ref": "#/$defs/Schema"}, {"type": "boolean"}]}
_NUMBER: dict[str, Any] = {"type": "integer"}
_SIZE: dict[str, Any] = {"type": "integer", "minimum": 0}
_VALUE: dict[str, Any] = {"type": ["string", "integer", "boolean"]}
_TYPES = {"enum": sorted(TYPES)}
_OF_KEYWORD: dict[str, Any] = {
    "type": {"anyOf": [_TYPES, {"type": "array", "items": _TYPES, "minItems": 1}]},
    "enum": {"type": "array", "items": _VALUE, "minItems": 1},
    "const": _VALUE,
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "exclusiveMaximum": _NUMBER,
    "multipleOf": {"type": "integer", "minimum": 1},
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _SIZE),
    **dict.fromkeys(("minProperties", "maxProperties"), _SIZE),
    "pattern": {"type": "string", "pattern": "^\\^.*\\$$", "maxLength": MAX_PATTERN},
    "required": {"type": "array", "items": {"type": "string"}},
    **{key: {"type": "string"} for key in ("title", "description", "$comment")},
    **{key: {"type": "array", "items": _EACH, "minItems": 1} for key in ("anyOf", "allOf")},
    **dict.fromkeys(("not", "items", "additionalProperties"), _EACH),
    "properties": {"type": "object", "additionalProperties": _EACH},
}
_SCHEMA: dict[str, Any] = {
    "title": "Schema",
    "description": "A JSON Schema that the argument has to fit besides its own type. Whole numbers only.",
    "type": "object",
    "properties": {keyword: _OF_KEYWORD[keyword] for keyword in sorted(KEYWORDS)},
    "additionalProperties": False,
}


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy as plain data."""
    schema: dict[str, Any] = _for_toml(msgspec.json.schema(Policy))
    for kind, field in _BY_PLATFORM:
        schema["$defs"][kind]["properties"][field]["propertyNames"] = {"enum": list(MEASURED)}
    names = sorted({name for each in MEASURED.values() for name in each})
    measurements = schema["$defs"]["Pinned"]["properties"]["measurements"]
    # Others may stand beside those that are required: editors should offer these.
    measurements["properties"] = dict.fromkeys(names, measurements["additionalProperties"])
    rule = schema["$defs"]["Rule"]
    rule["properties"]["arguments"] = {"$ref": "#/$defs/Schema"}
    rule["oneOf"] = [{"required": ["may"]}, {"required": ["deny"]}]
    schema["$defs"]["Schema"] = _SCHEMA
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
