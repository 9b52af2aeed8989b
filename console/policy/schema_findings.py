"""What in schemas of arguments is hardly meant: bounds without a `type`, and texts that read like others.

Pure. Bounds without a type let values of every other type pass. That is what draft 2020-12 says, and hardly
what whoever writes a bound means. A rule that denies holds where its schema fits, and `not` turns that round
once more: there a bound without a type is the safe side.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from console.policy.finding import Finding
from schemas.policy import Policy
from schemas.toml_place import Path

# The types that each keyword speaks of: a value of any other passes it.
_SPEAKS_OF = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength", "pattern"),
    "array": ("minItems", "maxItems", "items"),
    "object": ("minProperties", "maxProperties", "required", "properties", "additionalProperties"),
}
_TYPE_OF = {keyword: name for name, keywords in _SPEAKS_OF.items() for keyword in keywords}
_UNCOMPARED = ("title", "description", "$comment")
_WRITTEN_TOGETHER = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC"}
_FIXES = ("type", "const", "enum")  # whichever stands there, no value of another type passes


def schema_findings(policy: Policy) -> list[Finding]:
    """Return every bound without a type, and every text that reads like another, by the rule it stands in."""
    alike = [
        found
        for index, rule in enumerate(policy.rules)
        for path, text in _texts(rule.arguments, ("rules", index, "arguments"))
        for found in _alike(index + 1, path, text)
    ]
    return alike + [
        Finding("schema-without-type", path, f"rule {index + 1}: {text}")
        for index, rule in enumerate(policy.rules)
        if rule.arguments is not None
        for path, text in _untyped(
            rule.arguments, ("rules", index, "arguments"), lets_pass=rule.may is not None, is_typed=False
        )
    ]


def _alike(number: int, path: Path, text: str) -> Iterator[Finding]:
    scripts = _scripts(text)
    # A pattern may well name the letters of several.
    if len(scripts) > 1 and path[-1] != "pattern":
        said = f"rule {number}: {text!a} has letters of {' and '.join(scripts)}"
        yield Finding("mixed-scripts", path, said)
    if not unicodedata.is_normalized("NFC", text):
        composed = unicodedata.normalize("NFC", text)
        said = f"rule {number}: {text!a} reads like {composed!a}, and only the one that stands here is meant"
        yield Finding("not-composed", path, said)


def _texts(value: Any, at: Path) -> Iterator[tuple[Path, str]]:
    """Return every text in a schema that a value is compared with, names of properties among them."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if name in _UNCOMPARED and isinstance(each, str):
                continue
            yield (*at, name), name
            yield from _texts(each, (*at, name))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _texts(each, (*at, index))


def _scripts(text: str) -> list[str]:
    """Return the scripts of a text's letters; those that are written together are one."""
    names = {unicodedata.name(each, "an unknown script").split()[0] for each in text if each.isalpha()}
    if names & _WRITTEN_TOGETHER:
        names = names - _WRITTEN_TOGETHER | {"CJK"}
    return sorted(name.capitalize() for name in names)


def _untyped(schema: Any, at: Path, *, lets_pass: bool, is_typed: bool) -> Iterator[tuple[Path, str]]:
    if not isinstance(schema, Mapping):
        return
    typed = is_typed or _says_type(schema)
    if lets_pass and not typed:
        yield from _bounds(schema, at)
    for name, each in schema.get("properties", {}).items():
        yield from _untyped(each, (*at, "properties", name), lets_pass=lets_pass, is_typed=False)
    for keyword in ("items", "additionalProperties"):
        yield from _untyped(schema.get(keyword), (*at, keyword), lets_pass=lets_pass, is_typed=False)
    # These are about the same value: what types it once has typed it.
    for keyword in ("anyOf", "allOf"):
        for index, each in enumerate(schema.get(keyword, ())):
            yield from _untyped(each, (*at, keyword, index), lets_pass=lets_pass, is_typed=typed)
    yield from _untyped(schema.get("not"), (*at, "not"), lets_pass=not lets_pass, is_typed=typed)


def _says_type(schema: Mapping[str, Any]) -> bool:
    if any(keyword in schema for keyword in _FIXES):
        return True
    every, some = schema.get("allOf", ()), schema.get("anyOf", ())
    if any(isinstance(each, Mapping) and _says_type(each) for each in every):
        return True
    return bool(some) and all(isinstance(each, Mapping) and _says_type(each) for each in some)


def _bounds(schema: Mapping[str, Any], at: Path) -> Iterator[tuple[Path, str]]:
    seen: set[str] = set()
    for keyword in schema:
        name = _TYPE_OF.get(keyword)
        if name is not None and name not in seen:
            seen.add(name)  # one of a kind is enough to see what is missing
            text = f"`{keyword}` bounds values of type {name} only, and every other passes"
            yield (*at, keyword), f'{text}: add type = "{name}"'
