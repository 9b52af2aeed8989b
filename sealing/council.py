"""Who the operators are: those of the anchor, and whoever followed them by documents that both sides signed.

Pure. A `Council` is only made here, from an anchor and every change since, so whoever holds one holds the
proof of it. It says who signs *now*: what only former operators signed is refused by a name of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas import codec
from schemas.documents import Anchor, OperatorKey, Operators
from schemas.errors import MalformedError, Reason
from schemas.messages import CHAIN_BYTES, CHANGES_OF_OPERATORS, Millis, Signature, Succession
from sealing import cose
from sealing.context import Mesh, sha256
from sealing.errors import SealingError, SignatureError
from sealing.keys import SigningKey

LABEL = "operators"


@dataclass(frozen=True, slots=True)
class Council:
    """The operators of a mesh as of one version, with how they became that."""

    anchor: Anchor
    mesh: Mesh
    operators: tuple[OperatorKey, ...]
    threshold: int
    version: int = 0
    digest: bytes = b""  # of the document that names them; the mesh's id for the anchor's
    chain: tuple[Succession, ...] = ()
    before: "Council | None" = None

    @property
    def roots(self) -> tuple[str, ...]:
        """The fingerprints that profile and policy may draw on."""
        return self.anchor.roots

    @property
    def issued(self) -> Millis:
        """When the mesh was made."""
        return self.anchor.issued

    @property
    def keys(self) -> frozenset[bytes]:
        """The keys that count now."""
        return frozenset(operator.key for operator in self.operators)

    @property
    def binding(self) -> tuple[bytes, ...]:
        """What stands in the context of all that these operators sign, beside its label.

        Nothing for those of the anchor, which the mesh's id is. For others it is their hash: what is signed
        before they are in force counts from then on and not before, and what was signed before them no more.
        """
        return (self.digest,) if self.version else ()

    @property
    def lineage(self) -> tuple["Council", ...]:
        """This council and all before it, the newest first."""
        return (self, *(self.before.lineage if self.before else ()))

    def name_of(self, key: bytes) -> str | None:
        """Return the name of the operator whose key this is; None for nobody's."""
        return next((operator.name for operator in self.operators if operator.key == key), None)

    def is_former(self, key: bytes) -> bool:
        """Tell whether a key counted once and does not any more."""
        return key not in self.keys and any(key in each.keys for each in self.lineage)

    def check_seen(self, version: int, digest: bytes) -> None:
        """Raise `SealingError` for a version that is behind this one, or a second one of it."""
        if version < self.version:
            raise SealingError(Reason.STATE_ROLLED_BACK, f"operators: version {self.version} was seen")
        if version == self.version and digest != self.digest:
            raise SealingError(Reason.FORKED, f"two sets of operators of version {version}")


def founders(anchor: Anchor, mesh: Mesh) -> Council:
    """Return the council that an anchor names, or raise `MalformedError`."""
    check_set(anchor.operators, anchor.threshold, "an anchor")
    return Council(anchor, mesh, anchor.operators, anchor.threshold, digest=mesh.id)


def check_set(operators: Sequence[OperatorKey], threshold: int, what: str) -> None:
    """Raise `MalformedError` unless these decide by more than half, under different names and keys."""
    if len({operator.key for operator in operators}) != len(operators):
        raise MalformedError(f"two operators of {what} share a key")
    if len({operator.name for operator in operators}) != len(operators):
        raise MalformedError(f"two operators of {what} share a name")
    if not len(operators) < 2 * threshold <= 2 * len(operators):
        raise MalformedError(f"the threshold of {what} must be more than half of its operators")


def follow(held: Council, chain: Sequence[Succession]) -> Council:
    """Return the council that all changes from the anchor on lead to, at least the one that is held.

    1. They begin with those that are held: another one in the place of a known one is a fork.
    2. They are not fewer, nor more or longer than there may be.
    3. Each of the others follows the one before it.
    """
    # 1.
    for known, given in zip(held.chain, chain, strict=False):
        if known.text != given.text:
            raise SealingError(Reason.FORKED, "another change of operators than the one that is known")
    # 2.
    if len(chain) < len(held.chain):
        raise SealingError(Reason.STATE_ROLLED_BACK, f"operators: version {held.version} was seen")
    if len(chain) > CHANGES_OF_OPERATORS or len(codec.encode(tuple(chain))) > CHAIN_BYTES:
        raise SealingError(Reason.TOO_LARGE, "changes of operators: begin a new mesh")
    # 3.
    for step in chain[len(held.chain) :]:
        held = succeed(held, step)
    return held


def longer(held: Council, chain: Sequence[Succession]) -> Council:
    """Return the longer of what is held and what a chain leads to, or raise: one has to begin the other."""
    common = next(each for each in held.lineage if each.version <= len(chain))
    other = follow(common, chain)
    return other if other.version > held.version else held


def succeed(held: Council, step: Succession) -> Council:
    """Return the council that follows by one change, or raise what stands against it.

    1. A document of this mesh, naming such a set as an anchor could.
    2. The next one: one version more, and on top of exactly the document that is held.
    3. Every signature is by an operator of either set, each once, in the order of keys.
    4. The threshold of those who go on or go has signed.
    5. So has the threshold of those who go on or come; and every key that is new, to show who holds it.
    """
    # 1.
    # 2.
    new = would_be(held, step)
    # 3.
    signers = signers_of(held, step)
    # 4. and 5.
    for council, whose in ((held, "former"), (new, "new")):
        if len(signers & council.keys) < council.threshold:
            have = f"{len(signers & council.keys)} of {council.threshold} of the {whose} operators"
            raise SealingError(Reason.SIGNATURES_TOO_FEW, have)
    if unproven := [each.name for each in new.operators if each.key not in held.keys | signers]:
        raise SealingError(Reason.KEY_NOT_PROVEN, f"{', '.join(unproven)} has not signed with the new key")
    return new


def would_be(held: Council, step: Succession) -> Council:
    """Return the council of a change *whoever has signed it*, or raise: for those who are about to sign."""
    named = read(held.mesh, step)
    _check_next(held, named, sha256(step.text))
    return Council(
        held.anchor,
        held.mesh,
        named.operators,
        named.threshold,
        named.version,
        sha256(step.text),
        (*held.chain, step),
        held,
    )


def read(mesh: Mesh, step: Succession) -> Operators:
    """Return what a change says, of this mesh and well made, before anything is known of its signers."""
    named = codec.decode(step.text, Operators)
    if named.mesh != mesh.id:
        raise SealingError(Reason.WRONG_MESH)
    check_set(named.operators, named.threshold, "a change of operators")
    return named


def signers_of(held: Council, step: Succession) -> frozenset[bytes]:
    """Return the keys that signed a change, each of an operator of either set, or raise."""
    keys = [each.key for each in step.signatures]
    if keys != sorted(set(keys)):
        raise MalformedError("signatures of a change of operators twice, or out of order")
    eligible = held.keys | {operator.key for operator in read(held.mesh, step).operators}
    for each in step.signatures:
        if each.key not in eligible:
            raise not_an_operator(held, each.key)
        cose.check_detached(each.key, each.signature, held.mesh, LABEL, step.text)
    return frozenset(keys)


def add_signatures(held: Council, step: Succession, keys: Iterable[SigningKey]) -> Succession:
    """Return a change with these keys' signatures beside those that it has, or raise."""
    made = {each.key: each for each in step.signatures}
    made |= {
        key.public: Signature(key.public, cose.sign_detached(key, held.mesh, LABEL, step.text))
        for key in keys
    }
    signed = Succession(step.text, tuple(made[key] for key in sorted(made)))
    signers_of(held, signed)
    return signed


def not_an_operator(council: Council, key: bytes) -> SealingError:
    """Return the refusal of a key that does not count: whether it once did is worth telling."""
    if council.is_former(key):
        names = [each.name_of(key) for each in council.lineage]
        name = next(name for name in names if name)
        return SealingError(Reason.FORMER_OPERATOR, f"{name} is an operator no more")
    return SignatureError("not an operator of this mesh")


def _check_next(held: Council, named: Operators, digest: bytes) -> None:
    if named.version <= held.version:
        known = next(each for each in held.lineage if each.version == named.version)
        if known.digest != digest:
            raise SealingError(Reason.FORKED, f"a second set of operators of version {named.version}")
        raise SealingError(Reason.REPLAYED, f"operators of version {named.version}")
    if named.version > held.version + 1:
        raise SealingError(Reason.VERSION_GAP, f"operators: version {held.version} is the last that is known")
    if named.previous != held.digest:
        raise SealingError(Reason.PREDECESSOR_MISMATCH, "operators that follow others than are known")
