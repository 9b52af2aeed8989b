"""The totals as a JSON file for whoever watches this process: whole at any moment, replaced atomically."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from schemas.errors import UsageError


class StatusFile:
    """One file of totals."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Beside it: a rename is atomic only within one file system.
        self._draft = path.with_name(f".{path.name}.{os.getpid()}")

    def write(self, totals: Mapping[str, int]) -> None:
        """Replace the file, or raise `UsageError` saying what to mend."""
        try:
            self._draft.write_bytes(msgspec.json.encode(totals) + b"\n")
            self._draft.replace(self._path)
        except OSError as error:
            reason = error.strerror or "input/output error"
            raise UsageError(f"cannot write the status file ({reason}): check --status-file") from error
