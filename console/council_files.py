"""Who a mesh's operators are, from files: the anchor, and beside it every change since."""

from pathlib import Path

from console.evidence_files import read_bounded
from schemas import codec
from schemas.errors import PeerError, UsageError
from schemas.messages import CHAIN_BYTES, Chain
from sealing.context import Mesh
from sealing.council import Council, longer
from sealing.documents import open_anchor

CHAIN = "operators.signed"
MAX_ANCHOR = 64 * 1024


def open_council(anchor: Path) -> tuple[Council, Mesh]:
    """Return the operators of an anchor's file and of the changes beside it, or raise `UsageError`."""
    data = read_bounded(anchor, MAX_ANCHOR)
    try:
        council, mesh = open_anchor(data)
    except PeerError as error:
        why = error.detail or error.reason
        raise UsageError(f"{anchor} is no anchor: take the one that `policy anchor` wrote ({why})") from error
    changes = anchor.with_name(CHAIN)
    return (followed(council, changes) if changes.exists() else council), mesh


def followed(council: Council, file: Path) -> Council:
    """Return the operators after the changes in a file, if these go further, or raise `UsageError`."""
    try:
        return longer(council, codec.decode(read_bounded(file, 2 * CHAIN_BYTES), Chain))
    except PeerError as error:
        raise UsageError(
            f"{file} holds no changes of operators that go with what is known of this mesh ({error}): "
            "ask another operator for theirs, as `sealbus operators show --out` writes it"
        ) from error


def encode_chain(council: Council) -> bytes:
    """Return the changes that led to a council, as files hold them."""
    return codec.encode(council.chain)
