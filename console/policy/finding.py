"""One thing that `policy check` has to say."""

from typing import NamedTuple

from schemas.toml_place import Path, Place


class Finding(NamedTuple):
    """One thing to mend or to know, where it stands, under a stable code."""

    code: str
    path: Path
    text: str
    at: Place | None = None  # if it is not where `path` is
