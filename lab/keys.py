"""A lab's operators for the real console: their keys, the mesh's anchor and policy, the broker's account."""

import os
from pathlib import Path

from lab.state import ACCOUNTS, ANCHOR, POLICY, State
from schemas.errors import UsageError
from schemas.subjects import Party
from sealing import keyfile

PASSPHRASE = "a lab's keys are no secret"  # noqa: S105 - it says so
PASSPHRASE_FILE, CREDENTIALS, SIGNED = "passphrase", "broker.seed", "policy.toml.signed"


def export_keys(state: State, out: Path) -> list[Path]:
    """Write what the operators' commands take to the folder `out`, which must not be there yet."""
    files = {
        "anchor.cbor": state.load(ANCHOR),
        SIGNED: state.load(POLICY),
        PASSPHRASE_FILE: f"{PASSPHRASE}\n".encode(),
    }
    for name, seed in state.load_keys("operators").items():
        salt, nonce = os.urandom(keyfile.SALT_SIZE), os.urandom(keyfile.NONCE_SIZE)
        files[f"{name}.key"] = keyfile.lock(name, seed, PASSPHRASE, salt=salt, nonce=nonce)
    account = f"{ACCOUNTS}/{Party.CLIENT.value}.seed"
    if state.has(account):
        files[CREDENTIALS] = state.load(account)
    try:
        out.mkdir(parents=True, mode=0o700)
        for name, data in files.items():
            with open(os.open(out / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
    except OSError as error:
        raise UsageError(
            f"cannot write {out}: {error.strerror}; name a folder that is not there yet"
        ) from error
    return [out / name for name in files]
