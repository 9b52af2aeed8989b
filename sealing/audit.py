"""The audit log's leaves and signed heads (docs/protocol.md section 9.1)."""

import hashlib

from schemas.audit import TermProof
from schemas.documents import LogHead, Order
from schemas.errors import Reason
from sealing.context import Mesh
from sealing.council import Council
from sealing.documents import open_act, open_message, sign_message
from sealing.errors import SealingError
from sealing.keys import SigningKey, instance


def leaf(mesh: Mesh, entry: bytes) -> bytes:
    """Return the leaf hash of an encoded entry (RFC 9162 section 2.1.1), bound to its mesh."""
    return hashlib.sha256(b"\x00" + mesh.ctx("audit") + entry).digest()


def sign_head(key: SigningKey, mesh: Mesh, head: LogHead) -> bytes:
    """Return a head of the log, signed by the term's key."""
    return sign_message(key, mesh, "head", head)


def open_head(signed: bytes, public: bytes, mesh: Mesh, term: int) -> LogHead:
    """Return the head of this term's log that the key `public` signed."""
    head = open_message(signed, public, mesh, "head", LogHead)
    if head.term != term:
        raise SealingError(Reason.TERM_NOT_ACCEPTED, "a log's head of another term")
    return head


def open_term(council: Council, mesh: Mesh, proof: TermProof) -> Order:
    """Return the operators' order of the term whose key `proof` holds, by those who were operators then."""
    order = _by_any(council, mesh, proof.order)
    if order.instance != instance(proof.signing_key, proof.kem_key):
        raise SealingError(Reason.TERM_NOT_ACCEPTED, "the order names another instance")
    return order


def _by_any(council: Council, mesh: Mesh, signed: tuple[bytes, ...]) -> Order:
    # A log outlives its operators. What is live goes by the present ones and never comes here.
    for each in council.lineage[:-1]:
        try:
            return open_act(each, mesh, signed, Order)
        except SealingError:
            continue
    return open_act(council.lineage[-1], mesh, signed, Order)
