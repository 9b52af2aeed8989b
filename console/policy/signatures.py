"""Who has signed a policy: a set of signatures that grows to the threshold, each over policy and profile.

Pure. A set is over one text; whoever signed another is named. The file is what is published once it is whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from console.documents import SignedPolicy, sign_policy
from console.policy.finding import Finding
from schemas import codec
from schemas.errors import MalformedError, PeerError, Reason, UsageError
from schemas.limits import FIRST_VERSION_MOST, SECOND
from schemas.messages import Millis
from schemas.policy import Policy, compiled, from_compiled
from sealing import cose
from sealing.context import Mesh, sha256
from sealing.council import Council
from sealing.documents import check_roots, signer_of
from sealing.errors import SealingError, SignatureError
from sealing.keys import SigningKey
from sealing.profile import profile_of

NOBODY = SignedPolicy((), ())


@dataclass(frozen=True, slots=True)
class Signed:
    """A policy with those who signed it; perhaps fewer than it needs."""

    policy: Policy
    digest: bytes  # what the successor names as its predecessor
    signers: tuple[str, ...]
    others: tuple[str, ...]  # operators who have not signed
    threshold: int

    @property
    def lacking(self) -> int:
        """How many signatures there are too few."""
        return max(0, self.threshold - len(self.signers))


def decode_signed(data: bytes, source: str) -> SignedPolicy:
    """Read a file of signatures, or raise `UsageError` that names `source`."""
    try:
        return codec.decode(data, SignedPolicy)
    except MalformedError as error:
        raise UsageError(f"{source} is damaged or no signed policy: sign again, or take a copy") from error


def read_signed(council: Council, mesh: Mesh, signed: SignedPolicy) -> Signed:
    """Return the policy of a set of signatures and who they are by, or raise a `PeerError`.

    1. Every signature is an operator's of this anchor, and all are over one text.
    2. That text is a policy of this mesh, and the profile is the one that follows from it.
    3. Whoever signed the policy has signed the profile.
    """
    # 1.
    if not signed.policy:
        raise SignatureError("it holds no signature")
    texts = [cose.unverified_payload(document) for document in signed.policy]
    signers = _signers(council, mesh, "policy", signed.policy, texts[0])
    # 2.
    policy = from_compiled(texts[0])
    if policy.mesh != mesh.id.hex():
        raise SignatureError("the policy is of another mesh than the anchor")
    profile = codec.encode(profile_of(mesh, policy))
    # 3.
    if _signers(council, mesh, "profile", signed.profile, profile).keys() != signers.keys():
        raise SignatureError("not everyone who signed the policy has signed its profile, or the reverse")
    return _signed(council, policy, signers)


def read_past(council: Council, mesh: Mesh, signed: SignedPolicy) -> Signed:
    """Return the same of a version of before, by those who were the operators when it was signed."""
    for each in council.lineage[:-1]:
        try:
            found = read_signed(each, mesh, signed)
        except SealingError:
            continue
        if not found.lacking:
            return found
    return read_signed(council.lineage[-1], mesh, signed)


def of_now(council: Council, mesh: Mesh, signed: SignedPolicy) -> SignedPolicy:
    """Return a set of signatures without those of former operators, which count for nothing any more."""
    return SignedPolicy(
        tuple(each for each in signed.policy if not _is_former(council, mesh, "policy", each)),
        tuple(each for each in signed.profile if not _is_former(council, mesh, "profile", each)),
    )


def usable(council: Council, mesh: Mesh, signed: SignedPolicy, policy: Policy) -> SignedPolicy:
    """Return those signatures alone that count for `policy`, of each operator who signed its profile too."""
    made = _counting(council, mesh, "policy", signed.policy, compiled(policy))
    profiled = _counting(council, mesh, "profile", signed.profile, codec.encode(profile_of(mesh, policy)))
    names = sorted(made.keys() & profiled.keys())
    return SignedPolicy(tuple(made[name] for name in names), tuple(profiled[name] for name in names))


def _counting(
    council: Council, mesh: Mesh, label: str, documents: Iterable[bytes], text: bytes
) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for document in documents:
        try:
            found = _signers(council, mesh, label, (document,), text) | found
        except PeerError:
            continue
    return found


def _is_former(council: Council, mesh: Mesh, label: str, document: bytes) -> bool:
    try:
        signer_of(council, mesh, label, document)
    except SealingError as error:
        return error.reason is Reason.FORMER_OPERATOR
    return False


def unsigned(council: Council, policy: Policy) -> Signed:
    """Return a policy that nobody has signed yet."""
    return _signed(council, policy, ())


def _signed(council: Council, policy: Policy, signers: Iterable[str]) -> Signed:
    names = sorted(signers)
    others = [operator.name for operator in council.operators if operator.name not in names]
    return Signed(policy, sha256(compiled(policy)), tuple(names), tuple(others), council.threshold)


def _signers(
    council: Council, mesh: Mesh, label: str, documents: Iterable[bytes], text: bytes
) -> dict[str, bytes]:
    """Return the signature of each operator over `text`; one over another text names its signer."""
    found: dict[str, bytes] = {}
    for document in documents:
        name = signer_of(council, mesh, label, document)
        payload = cose.unverified_payload(document)  # by now verified
        if payload != text:
            raise SignatureError(f"{name} signed another text of the {label}{_version(label, payload)}")
        found.setdefault(name, document)
    return found


def _version(label: str, payload: bytes) -> str:
    if label != "policy":
        return ""
    try:
        return f", one of version {from_compiled(payload).version}"
    except MalformedError:
        return ""


def sign(council: Council, mesh: Mesh, key: SigningKey, policy: Policy, held: SignedPolicy) -> SignedPolicy:
    """Add an operator's signature of `policy` to those held, or raise: a signer counts once."""
    if policy.mesh != mesh.id.hex():
        raise UsageError(f"the policy is of another mesh: the anchor's is {mesh.id.hex()}")
    if key.public not in [operator.key for operator in council.operators]:
        raise SignatureError("the key is none of this mesh's operators")
    check_roots(council, policy.platforms, "the policy")
    return join(council, mesh, of_now(council, mesh, held), sign_policy(council, [key], policy))


def join(
    council: Council, mesh: Mesh, first: SignedPolicy, second: SignedPolicy, expected: Policy | None = None
) -> SignedPolicy:
    """Return the signatures of both in one set that is the same in whatever order they came.

    An error names who signed another text than `expected`, without that than the last of both.
    """
    given = SignedPolicy(second.policy + first.policy, second.profile + first.profile)
    if not given.policy or not given.profile:
        raise SignatureError("there is no signature of both policy and profile")
    if expected is None:
        text, profiled = (cose.unverified_payload(each[0]) for each in (given.policy, given.profile))
    else:
        text, profiled = compiled(expected), codec.encode(profile_of(mesh, expected))
    policy = _signers(council, mesh, "policy", given.policy, text)
    profile = _signers(council, mesh, "profile", given.profile, profiled)
    joined = SignedPolicy(
        tuple(policy[name] for name in sorted(policy)), tuple(profile[name] for name in sorted(profile))
    )
    read_signed(council, mesh, joined)
    return joined


def chain(policy: Policy, previous: Signed | None) -> list[Finding]:
    """Say where a policy does not follow the one before; without that, only what can be seen alone."""
    if previous is None and policy.version > FIRST_VERSION_MOST:
        most = f"a mesh takes none above {FIRST_VERSION_MOST} as its first"
        text = f"version {policy.version} leaves too few after it: {most}"
        return [Finding("version-jump", ("version",), text)]
    if previous is None:
        if policy.version > 1 and policy.predecessor is None:
            text = (
                f"version {policy.version} names no predecessor, so no coordinator that has a policy "
                "adopts it: set `predecessor`"
            )
            return [Finding("no-predecessor", ("version",), text)]
        return []
    found = []
    before = previous.policy
    if policy.mesh != before.mesh:
        found.append(Finding("other-mesh", ("mesh",), "the version before is of another mesh"))
    if policy.version <= before.version:
        text = f"version {policy.version} does not follow version {before.version}: set {before.version + 1}"
        found.append(Finding("version-not-newer", ("version",), text))
    elif policy.version > before.version + 1:
        text = f"version {policy.version} leaves out what follows version {before.version}: "
        text += f"set {before.version + 1}"
        found.append(Finding("version-gap", ("version",), text))
    if policy.issued < before.issued:
        text = f"it was issued before version {before.version}, so no coordinator adopts it: mend `issued`"
        found.append(Finding("issued-before", ("issued",), text))
    if policy.predecessor != previous.digest.hex():
        text = f'the version before has another hash: set predecessor = "{previous.digest.hex()}"'
        found.append(Finding("predecessor-mismatch", ("predecessor",), text))
    return found


def validity(policy: Policy, now: Millis) -> str:
    """Say in words when a policy can be adopted, as seen at `now`."""
    if policy.not_before is not None and now < policy.not_before:
        return f"not before {date(policy.not_before)}"
    if policy.expires is None:
        return "without an end"
    if policy.expires <= now:
        return f"ended {date(policy.expires)}"
    return f"until {date(policy.expires)}"


def date(time: Millis) -> str:
    """Return a time as people read it, whatever number it is."""
    try:
        return datetime.fromtimestamp(time / SECOND, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{time} ms after 1970"
