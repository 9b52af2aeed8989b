"""Who a lab's operators are, and whose keys it holds: those of the anchor, and whoever followed since.

A change that a console published is learnt from the coordinator like everybody does; the keys of who came
with it a person hands in.
"""

from pathlib import Path

from console.council_files import CHAIN, encode_chain, followed, open_council
from console.documents import VerifiedPolicy, open_signed_policy, sign_policy
from console.operating.kept import Kept
from lab.state import ANCHOR, POLICY, State
from schemas import codec
from schemas.errors import Reason, UsageError
from sealing import keyfile
from sealing.context import Mesh
from sealing.council import Council
from sealing.errors import SealingError
from sealing.keys import SigningKey

SEEN = "seen"  # what the lab's console has seen of its coordinators
KEYS = "operators"
MAX_FILE = 64 * 1024
PASSPHRASE_FILE = "passphrase"  # noqa: S105 - a name


class MissingKeysError(UsageError):
    """The lab holds too few keys of the present operators to sign anything."""


def lab_council(state: State) -> tuple[Council, Mesh]:
    """Return the operators after every change that this lab knows."""
    state.load(ANCHOR)  # whose absence it tells in its own words
    council, mesh = open_council(state.root / ANCHOR)
    return Kept(state.root / SEEN, mesh.id).council(council), mesh


def operator_keys(state: State) -> list[SigningKey]:
    """Return the keys of as many of the present operators as have to sign, or raise `MissingKeysError`."""
    council, _ = lab_council(state)
    held = held_keys(state, council)
    if len(held) < council.threshold:
        raise MissingKeysError(
            f"{state.root} holds the keys of {len(held)} of its operators, and {council.threshold} have to "
            "sign: hand the others' in with sealbus lab hand-in"
        )
    return held[: council.threshold]


def held_keys(state: State, council: Council) -> list[SigningKey]:
    """Return every key of the present operators that this lab holds, in the order of their names."""
    keys = [SigningKey(seed) for seed in state.load_keys(KEYS).values()]
    return sorted(
        (key for key in keys if key.public in council.keys), key=lambda key: council.name_of(key.public) or ""
    )


def written_policy(state: State) -> VerifiedPolicy:
    """Return the policy that this lab's operators signed last, whoever they were then."""
    council, mesh = lab_council(state)
    data = state.load(POLICY)
    for each in council.lineage[:-1]:
        try:
            return open_signed_policy(each, mesh, data)
        except SealingError:
            continue
    return open_signed_policy(council.lineage[-1], mesh, data)


def signed_policy(state: State) -> VerifiedPolicy:
    """Return the same as the present operators sign it."""
    council, mesh = lab_council(state)
    data = state.load(POLICY)
    try:
        return open_signed_policy(council, mesh, data)
    except SealingError as error:
        if error.reason not in (Reason.FORMER_OPERATOR, Reason.SIGNATURES_TOO_FEW):
            raise
    again = sign_policy(council, operator_keys(state), written_policy(state).policy)
    return open_signed_policy(council, mesh, codec.encode(again))


def hand_in(state: State, folder: Path) -> list[str]:
    """Take a change's documents and new operators' keys from a folder; return whose keys came.

    The keys are under the passphrase in the folder, as `lab keys` wrote it.
    """
    council, _ = lab_council(state)
    if (folder / CHAIN).exists():
        council = followed(council, folder / CHAIN)
        state.save(CHAIN, encode_chain(council))
    known = {key.public for key in held_keys(state, council)}
    came = []
    for path in sorted(folder.glob("*.key")):
        name, seed = _unlocked(path, folder / PASSPHRASE_FILE)
        public = SigningKey(seed).public
        if public in council.keys and public not in known:
            state.save_key(KEYS, _free(state, name), seed)
            came.append(council.name_of(public) or name)
    if len(held_keys(state, council)) >= council.threshold:
        state.save(POLICY, codec.encode(signed_policy(state).signed))
    return came


def _free(state: State, name: str) -> str:
    # An operator whose key was replaced has two: the former one opens what it signed, and stays.
    number = 0
    while state.has(f"{KEYS}/{name}{'.' * bool(number)}{number or ''}.key"):
        number += 1
    return f"{name}{'.' * bool(number)}{number or ''}"


def _unlocked(path: Path, phrase: Path) -> tuple[str, bytes]:
    try:
        data, text = path.read_bytes()[:MAX_FILE], phrase.read_text()[:MAX_FILE]
        name, _ = keyfile.owner(data)
        (seed,) = keyfile.unlock(data, text.partition("\n")[0]).secrets()
    except (OSError, UnicodeDecodeError, keyfile.KeyFileError) as error:
        raise UsageError(f"cannot read the key {path} with the passphrase in {phrase}: {error}") from error
    return name, seed
