"""A lab's operators for the real console: their keys, the mesh's anchor and policy, the broker's account."""

import os
from pathlib import Path

from console.council_files import CHAIN, encode_chain
from lab.council import PASSPHRASE_FILE, held_keys, lab_council, signed_policy
from lab.state import ACCOUNTS, ANCHOR, State
from schemas import codec
from schemas.errors import UsageError
from schemas.policy import dump
from schemas.subjects import Party
from sealing import keyfile

PASSPHRASE = "a lab's keys are no secret"  # noqa: S105 - it says so
CREDENTIALS, TEXT, SIGNED = "broker.seed", "policy.toml", "policy.toml.signed"


def export_keys(state: State, out: Path) -> list[Path]:
    """Write what the operators' commands take to the folder `out`, which must not be there yet."""
    council, _ = lab_council(state)
    policy = signed_policy(state)
    files = {
        "anchor.cbor": state.load(ANCHOR),
        TEXT: dump(policy.policy).encode(),
        SIGNED: codec.encode(policy.signed),
        PASSPHRASE_FILE: f"{PASSPHRASE}\n".encode(),
    }
    if council.version:
        files[CHAIN] = encode_chain(council)
    for key in held_keys(state, council):
        name, (seed, *_) = council.name_of(key.public) or "", key.secrets()
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
