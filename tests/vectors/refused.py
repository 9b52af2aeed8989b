"""What must be refused: bytes that are nearly right, each with the failure that it causes."""

from collections.abc import Callable, Iterator
from typing import Any

import cbor2
from msgspec.structs import replace

from schemas import cbor, codec, peer
from schemas.documents import OperatorKey
from schemas.errors import PeerError
from schemas.messages import Chain, Signature, Succession
from sealing import cose, council
from sealing.context import sha256
from sealing.documents import open_anchor
from sealing.frames import KIND_SESSION, SESSION_HEADER, aead, check_shape, open_frame, seal
from sealing.padding import pad, unpad
from sealing.roll import encode_roll, open_roll, roll_hash
from tests.vectors import examples as ex
from tests.vectors.examples import of
from tests.vectors.world import KEMS, fixed

MESH, KEY, SUBJECT = ex.MESH, fixed("key of a refused frame"), "sb.refused"
Given = dict[str, Any]

NOT_DETERMINISTIC = {
    "a number in a longer form": "1817",
    "a length in a longer form": "5801ff",
    "an indefinite array": "9fff",
    "an indefinite byte string": "5f41ffff",
    "keys out of order": "a2020101" + "00",
    "a key twice": "a201000100",
    "a key that is a byte string": "a1410100",
    "a tag": "c100",
    "a float": "f93c00",
    "undefined": "f7",
    "text that is not UTF-8": "61ff",
    "more after the item": "0000",
    "less than the item": "4200",
    "nothing": "",
    "arrays in arrays, 25 deep": "81" * 25 + "00",
    "an array of more than the data": "9a00020001",
}
NOT_MESSAGE_PACK = {
    "no message": "90",
    "an unknown kind": "919104",
    "a field too many": "919200c0",
    "a request id of 15 bytes": "919203c40f" + "00" * 15,
    "more after the array": "91910000",
    "a map": "80",
}


def undone(**given: Any) -> Given:
    """Return what a receiver of a damaged session frame has."""
    return {"suite": 1, "key": KEY, "subject": SUBJECT, **given}


def texts() -> Iterator[tuple[str, Given]]:
    for name, data in NOT_DETERMINISTIC.items():
        yield name, {"data": bytes.fromhex(data)}


def peers() -> Iterator[tuple[str, Given]]:
    for name, data in NOT_MESSAGE_PACK.items():
        yield name, {"data": bytes.fromhex(data)}


def padded() -> Iterator[tuple[str, Given]]:
    honest = pad(b"body")
    yield "a byte that is not zero", {"data": honest[:-1] + b"\x01"}
    yield "longer than its size", {"data": pad(bytes(300)) + bytes(256)}
    yield "shorter than its size", {"data": honest[:-1]}
    yield "a length beyond the end", {"data": (253).to_bytes(4, "big") + bytes(252)}
    yield "a size for another length", {"data": (4).to_bytes(4, "big") + bytes(316)}


def signatures() -> Iterator[tuple[str, Given]]:
    key = ex.AGENT.signing
    honest = cose.sign(key, MESH, "view", b"payload")
    protected, _, payload, signature = cbor2.loads(honest)
    given = {**of(MESH), "public": key.public, "label": "view"}
    yield "another label", {**given, "label": "beacon", "data": honest}
    yield "another mesh", {**given, "mesh": bytes(32), "data": honest}
    yield "another suite", {**given, "suite": 2, "data": honest}
    yield "another key", {**given, "public": ex.PEER.signing.public, "data": honest}
    yield "another payload", {**given, "data": honest.replace(b"payload", b"paylOad")}
    yield "a signature with one bit changed", {**given, "data": honest[:-1] + bytes([honest[-1] ^ 1])}
    heirs = cose.sign(key, MESH, "order", b"payload", fixed("operators"))
    yield "operators of another set", {**given, "label": "order", "data": heirs}
    for name, parts in (
        ("a tag", cbor2.CBORTag(18, [protected, {}, payload, signature])),
        ("another algorithm", [bytes.fromhex("a10126"), {}, payload, signature]),
        ("a header more", [bytes.fromhex("a201270300"), {}, payload, signature]),
        ("an unprotected header", [protected, {4: b"11"}, payload, signature]),
        ("a detached payload", [protected, {}, None, signature]),
    ):
        yield name, {**given, "data": cbor2.dumps(parts, canonical=True)}


def frames() -> Iterator[tuple[str, Given]]:
    header = SESSION_HEADER.pack(1, KIND_SESSION, bytes(8), 7)
    honest = seal(aead(MESH, KEY), header, 7, b"body", SUBJECT.encode())
    yield "another subject", undone(data=honest, subject="sb.other")
    yield "another key", undone(data=honest, key=fixed("another key"))
    for name, at in (
        ("suite", 0),
        ("kind", 1),
        ("session id", 2),
        ("counter", 17),
        ("body", 18),
        ("tag", -1),
    ):
        changed = bytearray(honest)
        changed[at] ^= 1
        yield f"another {name}", undone(data=bytes(changed))
    yield "less than header and tag", undone(data=honest[:33])
    unpadded = header + aead(MESH, KEY).encrypt((7).to_bytes(12, "big"), b"body", header + SUBJECT.encode())
    yield "a body without padding", undone(data=unpadded)


def changes_of_operators() -> Iterator[tuple[str, Given]]:
    held, (names, threshold, signers) = ex.COUNCIL, ex.CHANGES[0]
    good = ex.change(held, names, threshold)
    step = ex.signed_change(held, good, signers)
    after = council.succeed(held, step)

    def given(*chain: Succession) -> Given:
        anchor = codec.encode(ex.ANCHORS[0])
        return {"anchor": anchor, "known": codec.encode(()), "chain": codec.encode(chain)}

    shared = (*good.operators[:3], OperatorKey("x", good.operators[0].key))
    for name, changes in (
        ("another mesh", {"mesh": bytes(32)}),
        ("another predecessor", {"previous": bytes(32)}),
        ("a version left out", {"version": 2}),
        ("half of the operators as threshold", {"threshold": 2}),
        ("two operators of one key", {"operators": shared}),
    ):
        bad = ex.change(held, names, threshold)
        yield name, given(ex.signed_change(held, replace(bad, **changes), signers))
    for name, by in (
        ("one of those of before too few", ("ada", "dan", "eve")),
        ("one of those of after too few", ("ada", "cyd", "dan")),
        ("a new key that did not sign", ("ada", "ben", "dan")),
    ):
        yield name, given(ex.signed_change(held, good, by))
    yield "signatures in another order", given(Succession(step.text, step.signatures[::-1]))
    yield "a signature twice", given(Succession(step.text, (step.signatures[0], *step.signatures)))
    yield "a signature with one bit changed", given(_flipped(step))
    again = ex.change(after, ("ada", "ben", "dan"), 2)
    yield (
        "who was an operator before",
        given(step, ex.signed_change(after, again, ("ada", "ben", "cyd", "dan"))),
    )
    yield "a change twice", given(step, step)
    other = ex.signed_change(held, ex.change(held, names, threshold, reason="another"), signers)
    known = codec.encode((step,))
    yield "another change than the one that is known", {**given(other), "known": known}
    yield "fewer changes than are known", {**given(), "known": known}


def _flipped(step: Succession) -> Succession:
    first, *rest = step.signatures
    wrong = Signature(first.key, bytes([first.signature[0] ^ 1]) + first.signature[1:])
    return Succession(step.text, (wrong, *rest))


def rolls() -> Iterator[tuple[str, Given]]:
    one, two = sorted(ex.ROLL)[:2]
    honest = encode_roll((one, two))
    yield "another roll than is named", {"named": sha256(honest), "data": encode_roll((one,))}
    for name, digests in (
        ("out of order", [two, one]),
        ("a revocation twice", [one, one]),
        ("a digest of 31 bytes", [one[:31]]),
    ):
        data = codec.encode(digests)
        yield name, {"named": sha256(data), "data": data}


def seals() -> Iterator[tuple[str, Given]]:
    kem = next(iter(KEMS.values()))
    info = MESH.ctx("init", ex.PEER.instance)
    wire = kem.seal(b"a message", info)
    given = {"kem_seed": kem.seed, "info": info}
    yield "another context", {**given, "info": MESH.ctx("accept", ex.PEER.instance), "data": wire}
    for name, at in (("encapsulation", 0), ("share", 1_088), ("body", 1_120), ("tag", -1)):
        changed = bytearray(wire)
        changed[at] ^= 1
        yield f"another {name}", {**given, "data": bytes(changed)}
    yield "less than an encapsulation", {**given, "data": wire[:1_119]}


def honest() -> dict[str, Given]:
    """Return for each section one input that the refused ones differ from, and that is taken."""
    kem, key = next(iter(KEMS.values())), ex.AGENT.signing
    header, info = SESSION_HEADER.pack(1, KIND_SESSION, bytes(8), 7), MESH.ctx("init", ex.PEER.instance)
    signed = cose.sign(key, MESH, "view", b"payload")
    names, threshold, signers = ex.CHANGES[0]
    step = ex.signed_change(ex.COUNCIL, ex.change(ex.COUNCIL, names, threshold), signers)
    return {
        "operators": {
            "anchor": codec.encode(ex.ANCHORS[0]),
            "known": codec.encode(()),
            "chain": codec.encode((step,)),
        },
        "rolls": {"named": roll_hash(ex.ROLL), "data": encode_roll(ex.ROLL)},
        "cbor": {"data": bytes.fromhex("a2000001" + "81" * 22 + "00")},
        "peers": {"data": bytes.fromhex("919203c410" + "00" * 16)},
        "padding": {"data": pad(b"body")},
        "signatures": {**of(MESH), "public": key.public, "label": "view", "data": signed},
        "frames": undone(data=seal(aead(MESH, KEY), header, 7, b"body", SUBJECT.encode())),
        "seals": {"kem_seed": kem.seed, "info": info, "data": kem.seal(b"a message", info)},
    }


def _open_frame(given: Given) -> None:
    mesh = type(MESH)(MESH.id, given["suite"])
    check_shape(mesh, given["data"], KIND_SESSION)
    counter = int.from_bytes(given["data"][10:18], "big")
    open_frame(aead(mesh, given["key"]), given["data"], 18, counter, given["subject"].encode())


def _open_signed(given: Given) -> None:
    mesh = type(MESH)(given["mesh"], given["suite"])
    cose.open_signed(given["data"], given["public"], mesh, given["label"])


def _open_sealed(given: Given) -> None:
    kem = next(kem for kem in KEMS.values() if kem.seed == given["kem_seed"])
    kem.open(given["data"], given["info"])


def _follow(given: Given) -> None:
    first, _ = open_anchor(given["anchor"])
    known = council.follow(first, codec.decode(given["known"], Chain))
    council.follow(known, codec.decode(given["chain"], Chain))


Opening = Callable[[Given], object]
SECTIONS: dict[str, tuple[Callable[[], Iterator[tuple[str, Given]]], Opening]] = {
    "cbor": (texts, lambda given: cbor.read(given["data"])),
    "peers": (peers, lambda given: peer.decode_messages(given["data"])),
    "padding": (padded, lambda given: unpad(given["data"])),
    "signatures": (signatures, _open_signed),
    "operators": (changes_of_operators, _follow),
    "rolls": (rolls, lambda given: open_roll(given["data"], given["named"])),
    "frames": (frames, _open_frame),
    "seals": (seals, _open_sealed),
}


def refusals() -> dict[str, list[Given]]:
    """Return every section with the reason code for which each of its inputs is refused."""
    found: dict[str, list[Given]] = {}
    for section, (cases, opening) in SECTIONS.items():
        found[section] = []
        for name, given in cases():
            try:
                opening(given)
            except PeerError as refusal:
                found[section].append({"name": name, "in": given, "reason": refusal.reason.value})
            else:
                raise AssertionError(f"{section}: {name} is not refused")
    return found
