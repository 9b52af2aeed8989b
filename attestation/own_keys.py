"""An enclave's search for its own keys in what its launcher recorded of the wire: a count goes to the log.

The launcher names a file of its own; what it may learn is said in `sealing.own_keys`.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from anyio import to_thread

from attestation.attesters.attester import Machine
from sealing.erasure import held_secrets
from sealing.own_keys import OwnKeys, look_for

log = logging.getLogger("sealbus.keys")

RECORDING = "recording"  # the setting that names the file
CHUNK = 4 * 1024 * 1024


async def report_own_keys(attester: Machine, control: bytes) -> None:
    """Log how often this process's secrets stand in the launcher's recording, if it has one.

    `control` is something public that must be in there: without it a count of zero means nothing.
    """
    recording = (await attester.host()).get(RECORDING)
    if not recording:
        log.info("own keys: the launcher offers no recording")
        return
    try:
        found = await to_thread.run_sync(_look, Path(recording), control)
    except OSError as error:
        log.info("own keys: the recording cannot be read: %s", error.strerror)
        return
    control_was = "found" if found.control else "missed"
    log.info(
        "own keys: %d searched for, found %d times, control %s", found.searched, found.found, control_was
    )


def _look(recording: Path, control: bytes) -> OwnKeys:
    return look_for(held_secrets(), control, _chunks(recording))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
