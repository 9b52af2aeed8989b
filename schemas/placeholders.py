"""What a starter leaves for a person to fill in: text that no field of a policy accepts.

Pure. A placeholder is never a value that happens to be valid: a policy that still has one can't be signed.
"""

from collections.abc import Iterator
from typing import Any

from schemas.toml_place import Path

MARK = "FILL IN: "


def placeholder(what: str) -> str:
    """Return the text that asks for `what`."""
    return f"{MARK}{what}"


def placeholders(data: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield path and wish of every placeholder in plain data, keys included."""
    if isinstance(data, str):
        if data.startswith(MARK):
            yield path, data.removeprefix(MARK)
    elif isinstance(data, dict):
        for key, value in data.items():
            if str(key).startswith(MARK):
                yield (*path, key), str(key).removeprefix(MARK)
            yield from placeholders(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from placeholders(value, (*path, index))
