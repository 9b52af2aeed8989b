"""Offline bundles: endorsements that operators sign together and carry to where no service can be reached.

A bundle is a convenience that operators vouch for, never a root: whoever uses what is in it verifies it like
anything else. Pure.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from attestation.amd_names import CRL_FILE, MORE_CRL_FILES, VCEK_FILE
from attestation.bundles.dated import newer_of
from attestation.bundles.subjects import Subject
from attestation.needs import Needs, SnpNeeds, needs_of
from schemas import codec
from schemas.collateral import (
    MAX_COLLATERAL,
    CollateralBundle,
    CollateralFile,
    Entries,
    SignedCollateral,
)
from schemas.errors import MalformedError, PeerError, Reason, UsageError
from schemas.evidence import Endorsements, Evidence
from schemas.messages import Millis
from sealing import cose
from sealing.context import Mesh
from sealing.council import Council, follow
from sealing.documents import open_by_operators, sign_by_operators, signer_of
from sealing.errors import SealingError
from sealing.keys import SigningKey

LABEL = "collateral"
SKEW: Millis = 5 * 60 * 1000  # by which clocks of operators may differ
_LAST: Millis = 253_402_300_799_999  # the end of the year 9999, after which no date can be written


def encode_file(entries: Entries) -> bytes:
    """Return an unsigned file; raise `UsageError` if it would be too large to carry."""
    data = codec.encode(CollateralFile(entries=entries))
    if len(data) > MAX_COLLATERAL:
        raise UsageError(f"a collateral file holds {MAX_COLLATERAL // 2**20} MiB: make one for each site")
    return data


def decode_file(data: bytes) -> Entries:
    """Return the entries of an unsigned file, or raise `MalformedError`."""
    return _in_order(codec.decode(data, CollateralFile).entries)


def decode_signed(data: bytes) -> SignedCollateral:
    """Read a bundle that is signed by some, before it is known by whom; raise `MalformedError`."""
    return codec.decode(data, SignedCollateral)


def unverified_bundle(signed: SignedCollateral) -> CollateralBundle:
    """Return what the first signature is over: to show it, or to ask for a second one."""
    if not signed.signatures:
        raise SealingError(Reason.SIGNATURES_TOO_FEW)
    return _decode(cose.unverified_payload(signed.signatures[0]))


def sign_bundle(council: Council, keys: Sequence[SigningKey], entries: Entries, *, issued: Millis) -> bytes:
    """Return a bundle that these operators signed."""
    payload = codec.encode(CollateralBundle(mesh=council.mesh.id, issued=issued, entries=entries))
    made = sign_by_operators(keys, council, LABEL, payload)
    return codec.encode(SignedCollateral(tuple(dict.fromkeys(made)), council.chain))


def add_signatures(
    council: Council, keys: Sequence[SigningKey], signed: SignedCollateral, *, now: Millis
) -> bytes:
    """Return the bundle with these operators' signatures beside those it has, each once.

    Raises `SealingError` for a bundle of another mesh, or of a time that has not come.
    """
    bundle, mesh = unverified_bundle(signed), council.mesh
    _of_mesh(mesh, bundle)
    _not_of_the_future(bundle, now)
    payload = cose.unverified_payload(signed.signatures[0])
    more = sign_by_operators(keys, council, LABEL, payload)
    # A key can make any number of signatures over one text, and two of one operator are never whole.
    made: dict[str | bytes, bytes] = {}
    for each in (*signed.signatures, *more):
        if (whose := _whose(council, payload, each)) is not None:
            made.setdefault(whose, each)
    return codec.encode(SignedCollateral(tuple(made.values()), council.chain))


def _whose(council: Council, payload: bytes, signature: bytes) -> str | bytes | None:
    # What was signed before others followed, or over another text, would keep the bundle from ever being
    # whole. A stranger's stays, for whoever opens it to refuse.
    try:
        name = signer_of(council, council.mesh, LABEL, signature)
    except SealingError as error:
        return None if error.reason is Reason.FORMER_OPERATOR else signature
    return name if cose.unverified_payload(signature) == payload else None


def open_bundle(
    council: Council, mesh: Mesh, data: bytes, *, now: Millis, newest: Millis = 0
) -> CollateralBundle:
    """Return a bundle that at least the threshold of the operators signed, not older than `newest`.

    Whoever uses bundles remembers when the newest one was issued, so that nobody hands over an old one; one
    of the future would shut out all that follow, and is refused.
    Raises `SealingError` or `MalformedError`. What is in it is still to be verified with the evidence.
    """
    signed = decode_signed(data)
    council = follow(council, signed.operators)
    payload = open_by_operators(council, mesh, LABEL, signed.signatures)
    bundle = _decode(payload)
    _of_mesh(mesh, bundle)
    _not_of_the_future(bundle, now)
    if bundle.issued < newest:
        raise SealingError(Reason.VERSION_NOT_NEWER, "a newer collateral bundle was seen")
    return bundle


def endorsements_for(needs: Needs, entries: Entries) -> Endorsements:
    """Return what of the entries evidence needs; what is not there verification refuses."""
    if needs is None:
        return {}
    by_subject = {entry.subject: entry.files for entry in entries}
    if not isinstance(needs, SnpNeeds):
        return _files(needs.subjects(), by_subject)
    found = [_files(needs.subjects(product), by_subject) for product in needs.products]
    # A report that does not name its product is endorsed by the one that has a certificate for its chip.
    return next((files for files in found if VCEK_FILE in files), found[0])


def completed(evidence: Evidence, endorsements: Endorsements, entries: Entries) -> Endorsements:
    """Return `endorsements` with what is absent, or older than the entries', from there.

    Of AMD's lists all stay that either side has: the newest goes before, and takes no other one's place.
    """
    try:
        needs = needs_of(evidence, endorsements)
    except PeerError:
        return endorsements  # whoever appraises it says what is wrong
    if needs is None:
        return endorsements
    # An old list may still be valid: whom a newer one names has every reason to send it.
    whole = newer_of(endorsements, endorsements_for(needs, entries))
    return _with_every_list(whole, endorsements, needs, entries) if isinstance(needs, SnpNeeds) else whole


def _with_every_list(
    whole: Endorsements, came: Endorsements, needs: SnpNeeds, entries: Entries
) -> Endorsements:
    subjects = {str(each) for each in needs.lists}
    held = [entry.files.get(CRL_FILE) for entry in entries if entry.subject in subjects]
    # The entries' first: whoever sends many lists leaves out his own.
    lists = dict.fromkeys([*held, *(came.get(name) for name in (CRL_FILE, *MORE_CRL_FILES))])
    others = [data for data in lists if data and data != whole.get(CRL_FILE)]
    rest = {name: data for name, data in whole.items() if name not in MORE_CRL_FILES}
    return rest | dict(zip(MORE_CRL_FILES, others, strict=False))


def _files(subjects: Iterable[Subject], by_subject: dict[str, Endorsements]) -> Endorsements:
    return {
        name: data for each in subjects for name, data in each.given(by_subject.get(str(each), {})).items()
    }


def issued_at(bundle: CollateralBundle) -> datetime:
    """Return when a bundle was issued."""
    return datetime.fromtimestamp(bundle.issued / 1000, UTC)


def _decode(payload: bytes) -> CollateralBundle:
    bundle = codec.decode(payload, CollateralBundle)
    if bundle.issued > _LAST:
        raise MalformedError("collateral is issued at a time that is none")
    _in_order(bundle.entries)
    return bundle


def _not_of_the_future(bundle: CollateralBundle, now: Millis) -> None:
    if bundle.issued > now + SKEW:
        raise SealingError(Reason.NOT_YET_VALID, f"the collateral says that it is of {issued_at(bundle)}")


def _in_order(entries: Entries) -> Entries:
    subjects = [entry.subject for entry in entries]
    if subjects != sorted(set(subjects)):
        raise MalformedError("collateral names a subject twice, or out of order")
    for subject in subjects:
        Subject.read(subject)
    return entries


def _of_mesh(mesh: Mesh, bundle: CollateralBundle) -> None:
    if bundle.mesh != mesh.id:
        raise SealingError(Reason.WRONG_MESH)
