"""A proof that one entry is in a term's audit log: JSON that carries all it needs but the anchor.

Pure. Whoever checks it needs neither the log nor the coordinator, and learns of no other entry.
"""

import json
from typing import Any

import msgspec

from console.audit_log import StoredLog
from schemas import codec
from schemas.audit import AuditEntry, TermProof, as_plain, open_entry
from schemas.documents import LogHead
from schemas.errors import MalformedError, UsageError
from sealing.audit import leaf, open_head, open_term
from sealing.context import Mesh
from sealing.council import Council
from sealing.errors import NotAuthenticError
from sealing.merkle import root_of_path

FORMAT = "sealbus audit proof 1"


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a proof's file says; byte strings in lower-case hexadecimal."""

    format: str
    mesh: str
    index: int
    entry: str
    path: tuple[str, ...]
    head: str
    term: str
    says: dict[str, Any]  # the entry for people: exactly what `entry` says


def make_proof(log: StoredLog, index: int, mesh: Mesh) -> Proof:
    """Return the proof of a stored entry against the newest head that covers it."""
    head = log.last
    if log.proof is None or head is None or not 0 <= index < head.claims.size:
        covered = head.claims.size if head else 0
        raise UsageError(f"no entry {index} is under a signed head here: name one of 0 to {covered - 1}")
    data = log.entries[index][0]
    path = log.tree.inclusion(index, head.claims.size)
    return Proof(
        FORMAT,
        mesh.id.hex(),
        index,
        data.hex(),
        tuple(each.hex() for each in path),
        head.signed.hex(),
        codec.encode(log.proof).hex(),
        as_plain(open_entry(data)),
    )


def check_proof(data: bytes, council: Council, mesh: Mesh) -> tuple[AuditEntry, LogHead]:
    """Return the entry and the head that a proof connects; raise `PeerError` at the first step that fails."""
    # 1. Its shape.
    try:
        proof = msgspec.json.decode(data, type=Proof)
        entry, signed, term = (_bytes(each) for each in (proof.entry, proof.head, proof.term))
        path = tuple(_bytes(each) for each in proof.path)
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedError("not a proof of an audit log's entry") from error
    if proof.format != FORMAT:
        raise MalformedError("a proof of another format")
    if proof.mesh != mesh.id.hex():
        raise NotAuthenticError("a proof of another mesh than the anchor's")
    # 2. The operators ordered the term for these keys.
    whose = codec.decode(term, TermProof)
    order = open_term(council, mesh, whose)
    # 3. The term's key signed the head.
    head = open_head(signed, whose.signing_key, mesh, order.term)
    # 4. The entry is under it, where it says.
    opened = open_entry(entry)
    if opened.index != proof.index or _text(as_plain(opened)) != _text(proof.says):
        raise NotAuthenticError("an entry that is not the one that is said")
    if root_of_path(leaf(mesh, entry), proof.index, head.size, path) != head.root:
        raise NotAuthenticError("the entry is not under this head")
    return opened, head


def _bytes(text: str) -> bytes:
    # One form: what spells the same bytes otherwise is another file than the one that was made.
    found = bytes.fromhex(text)
    if found.hex() != text:
        raise ValueError("not lower-case hexadecimal")
    return found


def _text(says: dict[str, Any]) -> str:
    # As text: for Python, 3.0 and 3 are equal, and so are true and 1.
    return json.dumps(says, sort_keys=True)
