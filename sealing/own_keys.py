"""Whether secrets stand in bytes that somebody recorded: an enclave's search for its own keys. Pure.

The host may hand over whatever bytes it likes and learns a count. That is no oracle worth having: only whole
secrets of 256 bits and more are looked for, so a count above zero tells a host what it knew to begin with.
"""

from collections.abc import Iterable
from dataclasses import dataclass

LEAST = 32  # bytes of a secret that is looked for


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """How many secrets were looked for, how often one was found, and whether what must be there was."""

    searched: int
    found: int
    control: bool


def look_for(secrets: Iterable[bytes], control: bytes, chunks: Iterable[bytes]) -> OwnKeys:
    """Look for secrets as they are, in hexadecimal, and for `control`, which is known to be in there.

    Chunks follow each other without a gap: what lies across two of them is found.
    """
    distinct = {secret for secret in secrets if len(secret) >= LEAST}
    forms = [form for secret in distinct for form in (secret, secret.hex().encode())]
    overlap = max(map(len, [control, *forms]), default=1) - 1
    found, seen = 0, False
    tail = b""
    for chunk in chunks:
        window = tail + chunk
        found += sum(window.count(form) for form in forms)
        # What lies within the tail alone was counted with the chunk before.
        found -= sum(tail.count(form) for form in forms)
        seen = seen or control in window
        tail = window[-overlap:]
    return OwnKeys(len(distinct), found, seen)
