"""Signed documents: made by those who may, opened only by verifying. A value in hand is a checked one.

Operators sign together (`SIGN_OPS`): at least the threshold of them, different ones, over one text.
The coordinator signs with its own key, which is the key of its term.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from schemas import codec
from schemas.codec import Document, Message
from schemas.documents import (
    ADMISSION_CLAIMS,
    GRANT_CLAIMS,
    Admission,
    Anchor,
    BreakGlass,
    Condition,
    Constraints,
    Grant,
    OperatorKey,
    Order,
    Profile,
    Renewal,
    RevocationOrder,
)
from schemas.errors import MalformedError, Reason, UsageError
from schemas.evidence import PlatformValues
from schemas.pinning import check_platforms
from schemas.policy import Policy, from_compiled
from sealing import cose
from sealing.context import SUITES, Mesh, sha256
from sealing.council import Council, founders, not_an_operator
from sealing.errors import SealingError, SignatureError
from sealing.keys import SigningKey

M = TypeVar("M", bound=Message)
D = TypeVar("D", bound=Document)
A = TypeVar("A", Order, RevocationOrder, Renewal, BreakGlass)

# What operators sign apart, each under a label of its own.
LABELS: Mapping[type[Message], str] = {
    Order: "order",
    RevocationOrder: "revocation",
    Renewal: "renewal",
    BreakGlass: "break-glass",
}

_CNF = 8  # RFC 8747
_OKP_ED25519 = {1: 1, -1: 6}  # COSE_Key: kty OKP, crv Ed25519


def open_anchor(data: bytes) -> tuple[Council, Mesh]:
    """Return the operators that an anchor names, and the mesh that its hash is: nothing is above it."""
    anchor = codec.decode(data, Anchor)
    if anchor.suite not in SUITES:
        raise SealingError(Reason.UNSUPPORTED_SUITE)
    mesh = Mesh(sha256(data), anchor.suite)
    return founders(anchor, mesh), mesh


def open_by_operators(council: Council, mesh: Mesh, label: str, signed: Sequence[bytes]) -> bytes:
    """Return the one text that at least the threshold of different operators signed for `label`."""
    return _by_operators(council, mesh, label, signed)[0]


def fewest(council: Council, mesh: Mesh, label: str, signed: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return as many of the signatures as are needed, in the order of keys: what everybody is given."""
    made = _by_operators(council, mesh, label, signed)[1]
    by_key = sorted(council.operators, key=lambda operator: operator.key)
    ordered = [made[operator.name] for operator in by_key if operator.name in made]
    return tuple(ordered[: council.threshold])


def _by_operators(
    council: Council, mesh: Mesh, label: str, signed: Sequence[bytes]
) -> tuple[bytes, dict[str, bytes]]:
    if not signed:
        raise SealingError(Reason.SIGNATURES_TOO_FEW)
    payload = cose.unverified_payload(signed[0])
    made: dict[str, bytes] = {}
    for document in signed:
        if cose.unverified_payload(document) != payload:
            raise SignatureError("the signatures are over different texts")
        name = signer_of(council, mesh, label, document)
        # Copies are no more signatures, and would be kept and sent to everybody.
        if name in made:
            raise SignatureError(f"{name} has signed twice")
        made[name] = document
    if len(made) < council.threshold:
        raise SealingError(Reason.SIGNATURES_TOO_FEW, f"{len(made)} of {council.threshold}")
    return payload, made


def signer_of(council: Council, mesh: Mesh, label: str, document: bytes) -> str:
    """Return the operator of now who signed a document for `label` as such, or raise `SealingError`."""
    if (name := own_signer(council, mesh, label, document)) is not None:
        return name
    # The rest only tells what was signed in the past, or by who was an operator then, from a stranger's.
    for each in council.lineage[1:]:
        for operator in each.operators:
            if _signed_by(operator.key, mesh, label, document, council.binding):
                raise not_an_operator(council, operator.key)
            if _signed_by(operator.key, mesh, label, document, each.binding):
                raise _overtaken(council, operator)
    raise SignatureError("not an operator of this mesh")


def own_signer(council: Council, mesh: Mesh, label: str, document: bytes) -> str | None:
    """Return the operator of now who signed a document as such, or None: why not takes long to find out."""
    for operator in council.operators:
        if _signed_by(operator.key, mesh, label, document, council.binding):
            return operator.name
    return None


def _signed_by(key: bytes, mesh: Mesh, label: str, document: bytes, binding: tuple[bytes, ...]) -> bool:
    try:
        cose.open_signed(document, key, mesh, label, *binding)
    except SignatureError:
        return False
    return True


def _overtaken(council: Council, operator: OperatorKey) -> SealingError:
    if operator.key not in council.keys:
        return not_an_operator(council, operator.key)
    told = f"{operator.name} signed it before others followed: it has to be signed again"
    return SealingError(Reason.FORMER_OPERATOR, told)


def sign_by_operators(
    keys: Sequence[SigningKey], council: Council, label: str, payload: bytes
) -> tuple[bytes, ...]:
    """Return `SIGN_OPS(label; payload)` by these keys, as operators of this council."""
    return tuple(cose.sign(key, council.mesh, label, payload, *council.binding) for key in keys)


def open_profile(council: Council, mesh: Mesh, signed: Sequence[bytes]) -> Profile:
    """Return the operators' profile of this mesh, drawing on the anchor's roots only, of either kind."""
    profile = codec.decode(open_by_operators(council, mesh, "profile", signed), Profile)
    _of_mesh(mesh, profile.mesh)
    if profile.version < council.anchor.profile_floor:
        raise SealingError(Reason.VERSION_NOT_NEWER, "profile below the anchor's floor")
    platforms = profile.reference_values.platforms
    try:
        check_platforms(platforms)
    except UsageError as error:
        raise MalformedError("the profile contradicts itself") from error
    check_roots(council, platforms, "profile")
    return profile


def open_policy(council: Council, mesh: Mesh, signed: Sequence[bytes]) -> tuple[Policy, bytes]:
    """Return the operators' policy, of the anchor's roots only, and the hash of what they signed."""
    payload = open_by_operators(council, mesh, "policy", signed)
    policy = from_compiled(payload)
    _of_mesh(mesh, bytes.fromhex(policy.mesh))
    check_roots(council, policy.platforms, "policy")
    return policy, sha256(payload)


def check_roots(council: Council, platforms: Mapping[str, PlatformValues], what: str) -> None:
    """Raise `SealingError` if `what` names a root, of either kind, that the anchor does not."""
    for values in platforms.values():
        if not set(values.anchors) <= set(council.roots):
            raise SealingError(Reason.ROOT_NOT_IN_POLICY, f"{what} names a root that the anchor does not")


def open_act(council: Council, mesh: Mesh, signed: Sequence[bytes], kind: type[A]) -> A:
    """Return the order, revocation, renewal or break-glass that operators signed under its label."""
    act = codec.decode(open_by_operators(council, mesh, LABELS[kind], signed), kind)
    _of_mesh(mesh, act.mesh)
    return act


def sign_message(key: SigningKey, mesh: Mesh, label: str, message: Message) -> bytes:
    """Return a message signed by one key."""
    return cose.sign(key, mesh, label, codec.encode(message))


def open_message(data: bytes, public: bytes, mesh: Mesh, label: str, kind: type[M]) -> M:
    """Return the `kind` that `public` signed for `label`."""
    return codec.decode(cose.open_signed(data, public, mesh, label), kind)


def sign_admission(key: SigningKey, mesh: Mesh, admission: Admission) -> bytes:
    """Return an admission as a signed CWT with `cnf`."""
    return cose.sign(key, mesh, "admission", codec.encode(_admission_claims(admission)))


def _admission_claims(admission: Admission) -> dict[int, Any]:
    claims = _to_claims(admission, ADMISSION_CLAIMS)
    claims[_CNF] = {1: {**_OKP_ED25519, -2: claims.pop(ADMISSION_CLAIMS["signing_key"])}}
    return claims


def open_admission(data: bytes, public: bytes, mesh: Mesh) -> Admission:
    """Return the admission of this mesh that the term key `public` signed. The caller judges its times."""
    payload = cose.open_signed(data, public, mesh, "admission")
    claims = codec.decode_any(payload, "admission")
    match claims:
        case {8: {1: {-2: bytes() as signing_key}}}:
            plain = {**claims, ADMISSION_CLAIMS["signing_key"]: signing_key}
            del plain[_CNF]
        case _:
            raise MalformedError("an admission without cnf")
    admission = _from_claims(plain, ADMISSION_CLAIMS, Admission)
    # The value says all that was signed: no claim beside these, none in another form.
    if codec.encode(_admission_claims(admission)) != payload:
        raise MalformedError("an admission with other claims")
    _of_mesh(mesh, admission.mesh)
    return admission


def sign_grant(key: SigningKey, mesh: Mesh, grant: Grant) -> bytes:
    """Return a grant as a signed CWT."""
    return cose.sign(key, mesh, "grant", codec.encode(_grant_claims(grant)))


_EXPIRES = GRANT_CLAIMS["expires"]
_CONSTRAINTS = frozenset(Constraints.__struct_fields__)
_CONDITION = frozenset(Condition.__struct_fields__)


def _is_whole(constraints: Any) -> bool:
    """Tell whether no field is left out in plain constraints."""
    if not isinstance(constraints, dict) or constraints.keys() != _CONSTRAINTS:
        return False
    unless = constraints["unless"]
    return isinstance(unless, list) and all(isinstance(e, dict) and e.keys() == _CONDITION for e in unless)


def _grant_claims(grant: Grant) -> dict[int, Any]:
    claims = _to_claims(grant, GRANT_CLAIMS)
    if grant.expires is None:
        # RFC 8392 has no `exp` that is null: what does not end does not have it.
        del claims[GRANT_CLAIMS["expires"]]
    return claims


def open_grant(data: bytes, public: bytes, mesh: Mesh) -> Grant:
    """Return the grant of this mesh that the term key `public` signed. Its constraints are the gate's."""
    claims = codec.decode_any(cose.open_signed(data, public, mesh, "grant"), "grant")
    # The value says all that was signed: no claim beside these, none in another form. What was read is in
    # the one encoding, so only what a type would fill in by itself could be absent.
    if not isinstance(claims, dict) or not _is_whole(claims.get(GRANT_CLAIMS["constraints"])):
        raise MalformedError("a grant with other constraints")
    if _EXPIRES not in claims:
        claims[_EXPIRES] = None
    elif claims[_EXPIRES] is None:
        raise MalformedError("a grant with an end that is none")
    grant = _from_claims(claims, GRANT_CLAIMS, Grant)
    _of_mesh(mesh, grant.mesh)
    return grant


def _to_claims(document: Document, table: Mapping[str, int]) -> dict[int, Any]:
    plain = msgspec.to_builtins(document, builtin_types=(bytes,))
    return {table[name]: value for name, value in plain.items()}


def _from_claims(claims: Any, table: Mapping[str, int], kind: type[D]) -> D:
    if not isinstance(claims, dict) or len(claims) != len(table):
        raise MalformedError(f"not the claims of a {kind.__name__}")
    try:
        plain = {name: claims[key] for name, key in table.items()}
    except KeyError as error:
        raise MalformedError(f"not the claims of a {kind.__name__}") from error
    return codec.convert(plain, kind)


def _of_mesh(mesh: Mesh, named: bytes) -> None:
    if named != mesh.id:
        raise SealingError(Reason.WRONG_MESH)
