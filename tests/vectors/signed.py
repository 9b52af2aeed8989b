"""What is signed: messages, documents and CWTs, case by case."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from schemas import codec
from schemas.policy import compiled
from sealing import cose, council, documents, roll
from sealing.context import Mesh, sha256
from sealing.keys import SigningKey
from tests.vectors import examples as ex
from tests.vectors.examples import Case, of, values
from tests.vectors.primitives import SIGNED
from tests.vectors.world import (
    fixed,
)

MESH = ex.MESH


def signing(mesh: Mesh, key: SigningKey, label: str, payload: bytes, *bound: bytes) -> dict[str, Any]:
    """Return SIGN with what the signature is over."""
    data = cose.sign(key, mesh, label, payload, *bound)
    assert cose.open_signed(data, key.public, mesh, label, *bound) == payload
    structure = cose._to_be_signed(mesh, label, payload, *bound)
    return {"payload": payload, "sig_structure": structure, "signed": data}


def signatures() -> Iterator[Case]:
    seed = fixed("agent signs")
    for mesh in ex.MESHES:
        for label in SIGNED:
            given = {**of(mesh), "seed": seed, "label": label, "message": b"a message"}
            yield f"{label}, suite {mesh.suite}", given, signing(mesh, SigningKey(seed), label, b"a message")


def signed_documents() -> Iterator[Case]:
    operators, term = ex.OPERATORS[:2], [ex.COORDINATOR.signing]
    kinds: dict[str, Any] = {label: kind for kind, label in documents.LABELS.items()}
    for label, document, keys in (
        ("policy", ex.POLICY, operators),
        ("profile", ex.PROFILE, operators),
        ("order", ex.ORDER, operators[::-1]),
        ("revocation", ex.REVOCATION, ex.OPERATORS),
        ("renewal", ex.RENEWAL, ex.OPERATORS),
        ("break-glass", ex.GLASS, ex.OPERATORS[1:]),
        ("collateral", ex.COLLATERAL, operators),
        ("view", ex.VIEW, term),
        ("beacon", ex.BEACON, term),
        ("receipt", ex.RECEIPT, term),
        ("head", ex.HEAD, term),
    ):
        each = [signing(MESH, key, label, codec.encode(document)) for key in keys]
        signed = [one["signed"] for one in each]
        if label == "collateral":
            assert documents.open_by_operators(ex.COUNCIL, MESH, label, signed) == codec.encode(document)
        elif label == "policy":
            assert documents.open_policy(ex.COUNCIL, MESH, signed)[0] == document
        elif label == "profile":
            assert documents.open_profile(ex.COUNCIL, MESH, signed) == document
        elif keys is not term:
            assert documents.open_act(ex.COUNCIL, MESH, signed, kinds[label]) == document
        seeds = [key.secrets()[0] for key in keys]
        given = {**of(MESH), "seeds": seeds, "label": label, "fields": values(document)}
        yield label, given, {**each[0], "hash": sha256(each[0]["payload"]), "signed": signed}
    assert compiled(ex.POLICY) == codec.encode(ex.POLICY)
    yield _by_heirs("revocation", ex.REVOCATION)
    yield _by_heirs("order", ex.ORDER)


def _by_heirs(label: str, document: Any) -> Case:
    """Return what those sign who followed the anchor's operators."""
    names, threshold, signers = ex.CHANGES[0]
    step = ex.signed_change(ex.COUNCIL, ex.change(ex.COUNCIL, names, threshold), signers)
    heirs = council.succeed(ex.COUNCIL, step)
    keys = [key for name, key in sorted(ex.PEOPLE.items()) if key.public in heirs.keys][:threshold]
    each = [signing(MESH, key, label, codec.encode(document), heirs.digest) for key in keys]
    signed = [one["signed"] for one in each]
    kind = type(document)
    assert documents.open_act(heirs, MESH, signed, kind) == document
    seeds = [key.secrets()[0] for key in keys]
    given = {
        **of(MESH),
        "seeds": seeds,
        "label": label,
        "operators": heirs.digest,
        "fields": values(document),
    }
    return (
        f"{label} by operators who followed",
        given,
        {
            **each[0],
            "hash": sha256(each[0]["payload"]),
            "signed": signed,
        },
    )


def changes_of_operators() -> Iterator[Case]:
    held = ex.COUNCIL
    changes = []
    for names, threshold, signers in ex.CHANGES:
        document = ex.change(held, names, threshold)
        held = council.succeed(held, ex.signed_change(held, document, signers))
        seeds = [ex.PEOPLE[name].secrets()[0] for name in signers]
        changes.append({"fields": values(document), "seeds": seeds})
    assert council.follow(ex.COUNCIL, held.chain) == held
    hashes = [each.digest for each in reversed(held.lineage)]
    yield (
        "two changes",
        {**of(MESH), "changes": changes},
        {"chain": codec.encode(held.chain), "hashes": hashes},
    )


def rolls() -> Iterator[Case]:
    named = (ex.REVOCATION, replace(ex.REVOCATION, kind="chip", value="c0"), replace(ex.REVOCATION, time=1))
    for revocations in ((), named):
        digests = [roll.digest(each) for each in revocations]
        data = roll.encode_roll(digests)
        assert roll.open_roll(data, roll.roll_hash(digests)) == tuple(sorted(digests))
        given = {"revocations": [values(each) for each in revocations]}
        out = {"digests": digests, "roll": data, "hash": sha256(data)}
        yield f"{len(revocations)} revocations", given, out


def cwts() -> Iterator[Case]:
    key = ex.COORDINATOR.signing
    for name, admission in zip(("agent", "peer", "client"), ex.ADMISSIONS, strict=True):
        data = documents.sign_admission(key, MESH, admission)
        assert documents.open_admission(data, key.public, MESH) == admission
        yield f"admission of {name}", *_cwt("admission", admission, data)
    for name, grant in (("grant", ex.GRANT), ("grant with every constraint", ex.NARROW_GRANT)):
        data = documents.sign_grant(key, MESH, grant)
        assert documents.open_grant(data, key.public, MESH) == grant
        yield name, *_cwt("grant", grant, data)


def _cwt(label: str, document: Any, data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    given = {**of(MESH), "seed": fixed("coordinator signs"), "label": label, "claims": values(document)}
    payload = cose.unverified_payload(data)
    structure = cose._to_be_signed(MESH, label, payload)
    return given, {"payload": payload, "sig_structure": structure, "signed": data}
