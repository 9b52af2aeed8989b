"""An operator's key at rest: only its passphrase opens it, and nothing in its file can be changed unseen."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.pwhash import argon2id

from schemas.errors import UsageError
from sealing import keyfile
from sealing.keyfile import KeyFileError
from sealing.keys import SigningKey

SEED = bytes(range(32))
PHRASE = "correct horse battery"


def locked(phrase: str = PHRASE) -> bytes:
    """Lock at the least cost: what it costs is not what these tests are about."""
    return keyfile.lock(
        "alice",
        SEED,
        phrase,
        salt=bytes(keyfile.SALT_SIZE),
        nonce=bytes(keyfile.NONCE_SIZE),
        operations=argon2id.OPSLIMIT_MIN,
        memory=argon2id.MEMLIMIT_MIN,
    )


LOCKED = locked()


def test_the_passphrase_gives_the_key_back() -> None:
    key = keyfile.unlock(LOCKED, PHRASE)
    assert key.secrets() == (SEED,)
    assert keyfile.owner(LOCKED) == ("alice", SigningKey(SEED).public)


def test_the_file_holds_no_seed() -> None:
    assert SEED.hex() not in LOCKED.decode()


@pytest.mark.parametrize("phrase", ["", "correct horse batterz", PHRASE + " ", PHRASE.upper()])
def test_another_passphrase_is_told_plainly_and_whose_key_it_is(phrase: str) -> None:
    with pytest.raises(KeyFileError, match="the passphrase does not open the key of alice: try again"):
        keyfile.unlock(LOCKED, phrase)


def test_a_short_passphrase_is_refused_when_the_key_is_made() -> None:
    with pytest.raises(KeyFileError, match="under 12 characters"):
        locked("elevenchars")


CHANGES: dict[str, Any] = {
    "name": "mallory",
    "public": SigningKey(bytes(32)).public.hex(),
    "operations": 2,
    "memory": argon2id.MEMLIMIT_MIN * 2,
    "salt": "01" * keyfile.SALT_SIZE,
    "nonce": "01" * keyfile.NONCE_SIZE,
    "sealed": "01" * 48,
}


@pytest.mark.parametrize(("field", "value"), CHANGES.items(), ids=CHANGES.keys())
def test_a_change_to_any_field_is_refused(field: str, value: object) -> None:
    changed = json.dumps({**json.loads(LOCKED), field: value}).encode()
    with pytest.raises(KeyFileError, match="does not open"):
        keyfile.unlock(changed, PHRASE)


@pytest.mark.parametrize(
    ("field", "value"),
    [("memory", 2**40), ("operations", 10**9), ("sealed", "00" * 1_000), ("name", "A b"), ("extra", 1)],
    ids=str,
)
def test_a_file_can_not_make_its_reader_work_for_ever(field: str, value: object) -> None:
    changed = json.dumps({**json.loads(LOCKED), field: value}).encode()
    with pytest.raises(KeyFileError, match="not an operator's key file"):
        keyfile.unlock(changed, PHRASE)


def test_a_later_format_is_told_from_a_damaged_file() -> None:
    later = LOCKED.replace(b"operator key 1", b"operator key 2")
    with pytest.raises(KeyFileError, match="another version"):
        keyfile.unlock(later, PHRASE)


@given(st.binary(max_size=200) | st.integers(0, len(LOCKED)).map(lambda size: LOCKED[:size]))
def test_any_bytes_open_or_are_a_usage_error(data: bytes) -> None:
    try:
        keyfile.owner(data)
    except UsageError:
        return
    assert keyfile.unlock(data, PHRASE).secrets() == (SEED,)
