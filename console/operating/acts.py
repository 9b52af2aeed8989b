"""What operators sign apart and one of them sends: an order, revocation or renewal, with its signatures.

Pure. An act's text is fixed when it is made; signatures are added to it until there are enough.
"""

import re
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from schemas import codec
from schemas.codec import Message
from schemas.documents import BreakGlass, Order, Renewal, RevocationOrder
from schemas.errors import MalformedError, PeerError, Reason, UsageError
from schemas.messages import CHIP, WORKLOAD, Event, Name, Payload, Roll, SignedByOperators
from sealing import cose
from sealing.context import Mesh
from sealing.council import Council
from sealing.documents import LABELS, open_by_operators, own_signer, sign_by_operators, signer_of
from sealing.errors import NotAuthenticError, SealingError, SignatureError
from sealing.keys import SigningKey
from sealing.roll import encode_roll, open_roll

ORDER, REVOCATION, RENEWAL, GLASS = "order", "revocation", "renewal", "break-glass"
ROLL = "roll"
MAX_ACT = 1024 * 1024  # an order with the longest roll, and 64 signatures
Document = Order | RevocationOrder | Renewal | BreakGlass
_TYPES: tuple[type[Document], ...] = (Order, RevocationOrder, Renewal, BreakGlass)
KINDS = {LABELS[kind]: kind for kind in _TYPES}


class Act(Message, frozen=True):
    """A document that operators sign, and who has; the label of its signatures is its kind.

    An order comes with the roll whose hash it names, so that whoever signs sees what stays revoked.
    """

    kind: Name
    text: Payload
    signatures: SignedByOperators
    roll: Roll = ()  # of an order: what it asks the coordinator to be told


def act_of(document: Document, roll: Iterable[bytes] = ()) -> Act:
    """Return the act of a document that nobody has signed; `roll`: that an order names."""
    return Act(LABELS[type(document)], codec.encode(document), (), tuple(sorted(roll)))


def decode_act(data: bytes, source: str) -> Act:
    """Read an act's file, or raise `UsageError` that names `source`."""
    try:
        act = codec.decode(data, Act)
        said = check(act, source)
        if isinstance(said, Order):
            open_roll(codec.encode(act.roll), said.revocations)
        elif act.roll:
            raise MalformedError("a roll of what is no order")
    except (MalformedError, SealingError) as error:
        raise UsageError(f"{source} is damaged, or nothing that operators sign") from error
    return act


def check(act: Act, source: str) -> Document:
    """Return what an act says, or raise: `MalformedError`, or `UsageError` for what no coordinator takes."""
    said = document(act)
    if isinstance(said, RevocationOrder) and not _can_be_taken(said):
        raise UsageError(
            f"{source} names nothing that a coordinator takes: an id has 64 digits, in small letters"
        )
    return said


def _can_be_taken(revocation: RevocationOrder) -> bool:
    # A roll that asks for what no coordinator takes would keep its term waiting for ever.
    return revocation.kind in (CHIP, WORKLOAD) or bool(re.fullmatch("[0-9a-f]{64}", revocation.value))


def document(act: Act) -> Document:
    """Return what an act says, or raise `MalformedError`."""
    kind = KINDS.get(act.kind)
    if kind is None:
        raise MalformedError("an act of no known kind")
    return codec.decode(act.text, kind)


def signers(council: Council, mesh: Mesh, act: Act) -> tuple[str, ...]:
    """Return who has signed an act, or raise a `PeerError`: different operators, all over its text."""
    if document(act).mesh != mesh.id:
        raise SealingError(Reason.WRONG_MESH, "it is of another mesh than the anchor")
    names = set()
    for signature in act.signatures:
        name = signer_of(council, mesh, act.kind, signature)
        if cose.unverified_payload(signature) != act.text:
            raise SignatureError(f"{name} signed another text of the {act.kind}")
        if name in names:  # no coordinator takes a copy either
            raise SignatureError(f"{name} has signed twice: `sign` and `join` leave the copy out")
        names.add(name)
    return tuple(sorted(names))


def sign(council: Council, mesh: Mesh, act: Act, keys: Sequence[SigningKey]) -> Act:
    """Add operators' signatures to an act; each operator counts once."""
    added = sign_by_operators(keys, council, act.kind, act.text)
    return join(council, mesh, act, replace(act, signatures=added))


def join(council: Council, mesh: Mesh, first: Act, second: Act) -> Act:
    """Return an act with the signatures of both, the same in whatever order they came."""
    if (first.kind, first.text) != (second.kind, second.text):
        raise SignatureError("they say different things: get the file that the others signed")
    by_name: dict[str, bytes] = {}
    for signature in (*first.signatures, *second.signatures):
        (name,) = signers(council, mesh, Act(first.kind, first.text, (signature,)))
        by_name.setdefault(name, signature)
    return replace(first, signatures=tuple(by_name[name] for name in sorted(by_name)))


def usable(council: Council, mesh: Mesh, act: Act) -> Act:
    """Return an act with those signatures alone that count, one of each operator.

    Operators may have followed since; and a key makes any number of signatures over one text.
    """
    made: dict[str, bytes] = {}
    for signature in act.signatures:
        for name in _who(council, mesh, act, signature):
            made.setdefault(name, signature)
    return replace(act, signatures=tuple(made[name] for name in sorted(made)))


def without_former(council: Council, mesh: Mesh, act: Act) -> Act:
    """Return an act without the signatures of before operators followed: they count no more."""
    return replace(act, signatures=tuple(s for s in act.signatures if not _is_former(council, mesh, act, s)))


def _is_former(council: Council, mesh: Mesh, act: Act, signature: bytes) -> bool:
    try:
        signers(council, mesh, replace(act, signatures=(signature,)))
    except PeerError as error:
        return error.reason is Reason.FORMER_OPERATOR
    return False


def is_whole(council: Council, mesh: Mesh, act: Act) -> bool:
    """Tell whether enough different operators of this council have signed, whatever else is with it."""
    return len(usable(council, mesh, act).signatures) >= council.threshold


def one_of_each(council: Council, mesh: Mesh, act: Act) -> Act:
    """Return an act with one signature of each operator as of now, and then as of each set before.

    What counts for none of these stays: it may be of operators who are about to follow.
    """
    counting: dict[tuple[int, str], bytes] = {}
    strange: list[bytes] = []
    for each in act.signatures:
        # As one set at most: its hash is in what is signed.
        whose = ((-one.version, name) for one in council.lineage for name in _who(one, mesh, act, each))
        if (first := next(whose, None)) is None:
            strange.append(each)
        else:
            counting.setdefault(first, each)
    return replace(act, signatures=(*(counting[whom] for whom in sorted(counting)), *dict.fromkeys(strange)))


def _who(council: Council, mesh: Mesh, act: Act, signature: bytes) -> tuple[str, ...]:
    try:
        if document(act).mesh != mesh.id or cose.unverified_payload(signature) != act.text:
            return ()
        name = own_signer(council, mesh, act.kind, signature)
    except PeerError:
        return ()
    return () if name is None else (name,)


def event_of(council: Council, mesh: Mesh, act: Act) -> Event:
    """Return the event of an act that enough operators signed, or raise `signatures-too-few`."""
    names = signers(council, mesh, act)
    if len(names) < council.threshold:
        others = ", ".join(each.name for each in council.operators if each.name not in names)
        raise SealingError(
            Reason.SIGNATURES_TOO_FEW,
            f"{len(names)} of {council.threshold}: {council.threshold - len(names)} more of {others} have to "
            f"sign the {act.kind} before it is sent",
        )
    return Event(act.kind, act.signatures, None, ())


def roll_event(roll: Iterable[bytes]) -> Event:
    """Return the event that brings the roll of an order. Nobody signs it: the order names it."""
    return Event(ROLL, (encode_roll(roll),), None, ())


def signed(council: Council, label: str, documents: Sequence[bytes]) -> tuple[bytes, tuple[str, ...]]:
    """Return what operators signed, and who: those of now, or those of before if nobody signed it again."""
    for each in council.lineage:
        if documents and own_signer(each, council.mesh, label, documents[0]) is None:
            continue  # why it is not theirs takes long to find out
        try:
            text = open_by_operators(each, council.mesh, label, documents)
            names = {signer_of(each, council.mesh, label, document) for document in documents}
        except SealingError:
            continue
        return text, tuple(sorted(names))
    raise NotAuthenticError(f"the coordinator shows a {label} that no threshold of operators signed")
