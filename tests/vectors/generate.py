"""Write `protocol.json`: what this implementation derives from fixed inputs.

Run it from the root of the repository: `python -m tests.vectors.generate`. The same inputs give the same
file, so a change of it is a change of the protocol. What is in it, `README.md` says.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from attestation import workload_id
from schemas import codec
from schemas.codec import Message
from schemas.evidence import TDX, WorkloadValues
from schemas.messages import Body, ResultBody, TaskBody
from schemas.policy import compiled
from schemas.scheduling import TaskMessage
from schemas.subjects import Kind, stream_name, subject
from sealing import cose, documents, kdf, merkle
from sealing.binding import AGENT as BIND_AGENT
from sealing.binding import COORDINATOR as BIND_COORDINATOR
from sealing.binding import NO_TRANSCRIPT, key_binding
from sealing.context import Mesh, sha256
from sealing.frames import (
    GROUP_HEADER,
    KIND_GROUP,
    KIND_RESULT,
    KIND_SESSION,
    KIND_TASK,
    RESULT_HEADER,
    SESSION_HEADER,
    TASK_HEADER,
    aead,
    open_frame,
    seal,
)
from sealing.groups import Opener, Sealer, Sender, make_handle, sender_key, sender_package
from sealing.keys import SigningKey
from sealing.padding import pad, unpad
from sealing.results import ResultHeader, client_reply_key, open_result, role_reply_key, seal_result
from sealing.session import Peer, PendingSession, accept_init, open_init
from tests.vectors import examples as ex
from tests.vectors.world import (
    FIRST_EPHEMERAL,
    KEMS,
    SECOND_EPHEMERAL,
    TIME,
    Kem,
    Party,
    fixed,
)

FILE = Path(__file__).with_name("protocol.json")
Case = tuple[str, dict[str, Any], dict[str, Any]]
MESH = ex.MESH


def of(mesh: Mesh) -> dict[str, Any]:
    """Return what every context starts from."""
    return {"suite": mesh.suite, "mesh": mesh.id}


def values(message: Any) -> Any:
    """Return a message as plain data, in the order in which it is encoded."""
    return msgspec.to_builtins(message, builtin_types=(bytes,))


# What is derived, with values of the right shapes for every label of protocol.md section 1.5.
TOKEN, TASK_ID, SALT, HANDLE = fixed("token", 16), fixed("task", 16), fixed("salt", 16), fixed("handle", 76)
KEYS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "i2r": ((),),
    "r2i": ((),),
    "subject": (("i2r",), ("r2i",)),
    "token": (("redactor", 9), ("mesh", 22_000_000)),
    "handle": (("redactor", 9),),
    "sender": (("redactor", 9, HANDLE),),
    "name": (("task", b"redact"), ("inbox", ex.AGENT.instance)),
    "reply": ((TOKEN, TASK_ID), (TOKEN, 9, TASK_ID)),
    "result": ((TASK_ID, SALT),),
}
SIGNED = ("init", "accept", "profile", "policy", "order", "revocation")
SIGNED += ("admission", "grant", "view", "beacon", "receipt")
CONTEXTS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "role": (("redactor",),),
    "key binding": (("agent", fixed("challenge"), bytes(32), fixed("signing"), fixed("kem", 1216)),),
    "leaf": ((),),
    **{label: ((),) for label in SIGNED},
    "init": ((), (ex.PEER.instance,)),
    "accept": ((), (fixed("th1"),)),
    **KEYS,
}


def contexts() -> Iterator[Case]:
    for mesh in ex.MESHES:
        for label, each in CONTEXTS.items():
            for given in each:
                name = f"{label}, {len(given)} values, suite {mesh.suite}"
                yield name, {**of(mesh), "label": label, "values": given}, {"context": mesh.ctx(label, *given)}


def derivations() -> Iterator[Case]:
    secret = fixed("a secret")
    for label, each in KEYS.items():
        for given in each:
            out = {"info": MESH.ctx(label, *given), "key": kdf.derive(secret, MESH, label, *given)}
            name = f"{label}, {given[0] if given and isinstance(given[0], str) else len(given)}"
            yield name, {**of(MESH), "secret": secret, "label": label, "values": given}, out


def padding() -> Iterator[Case]:
    for length in (0, 1, 251, 252, 253, 300, 1_020, 1_021, 5_000, 65_532, 65_533, 1_032_188):
        padded = pad(bytes(length))
        yield f"{length} bytes", {"length": length}, {"size": len(padded), "start": padded[:4]}


def bodies() -> Iterator[Case]:
    for number, body in enumerate(ex.BODIES):
        data = codec.encode(body)
        assert codec.decode(data, type(body)) == body
        yield f"{type(body).__name__} {number}", {"fields": values(body)}, {"cbor": data}


def parties() -> Iterator[Case]:
    named = {"coordinator": ex.COORDINATOR, "agent": ex.AGENT, "peer": ex.PEER, "client": ex.CLIENT}
    for name, party in named.items():
        out = {"signing_key": party.signing.public, "kem_key": party.kem.public, "instance": party.instance}
        yield name, party.given, out


def roles() -> Iterator[Case]:
    for mesh in ex.MESHES:
        yield f"suite {mesh.suite}", {**of(mesh), "name": "redactor"}, {"role_id": mesh.role_id("redactor")}


def workloads() -> Iterator[Case]:
    for publisher in ex.PUBLISHERS:
        pinned = WorkloadValues(
            workload="redactor",
            platform=TDX,
            measurements={"rtmr0": "aa" * 48, "mrtd": "bb" * 48, "rtmr1": "cc" * 48},
            publisher=publisher,
        )
        named = None if publisher is None else [publisher.key, publisher.minimum_svn]
        given = {"platform": TDX, "measurements": pinned.measurements, "publisher": named}
        name = "no publisher" if publisher is None else f"publisher, SVN {publisher.minimum_svn}"
        yield name, given, {"workload_id": workload_id(pinned)}


def key_bindings() -> Iterator[Case]:
    for purpose, party, transcript in (
        (BIND_COORDINATOR, ex.COORDINATOR, NO_TRANSCRIPT),
        (BIND_AGENT, ex.AGENT, fixed("a transcript")),
    ):
        given = {
            "purpose": purpose,
            "challenge": fixed("a challenge"),
            "transcript": transcript,
            "signing_key": party.signing.public,
            "kem_key": party.kem.public,
        }
        yield purpose, {**of(MESH), **given}, {"report_data": key_binding(MESH, **given)}


def challenges() -> Iterator[Case]:
    for count in (1, 2, 5):
        hellos = [codec.encode(msgspec.structs.replace(ex.BODIES[0], nonce=fixed(f"nonce {n}"))) for n in range(count)]
        leaves = [merkle.leaf(MESH, hello) for hello in hellos]
        root, paths = merkle.paths(leaves)
        for index, leaf in enumerate(leaves):
            assert merkle.root_of_path(leaf, index, count, paths[index]) == root
        yield f"{count} hellos", {**of(MESH), "hellos": hellos}, {"leaves": leaves, "challenge": root, "paths": paths}


def anchors() -> Iterator[Case]:
    for anchor in ex.ANCHORS:
        data = codec.encode(anchor)
        _, mesh = documents.open_anchor(data)
        yield f"suite {anchor.suite}", {"fields": values(anchor)}, {"cbor": data, "mesh": mesh.id}


def signing(mesh: Mesh, key: SigningKey, label: str, payload: bytes) -> dict[str, Any]:
    """Return SIGN with what the signature is over."""
    data = cose.sign(key, mesh, label, payload)
    assert cose.open_signed(data, key.public, mesh, label) == payload
    structure = cose._to_be_signed(mesh, label, payload)
    return {"payload": payload, "sig_structure": structure, "signed": data}


def signatures() -> Iterator[Case]:
    seed = fixed("agent signs")
    for mesh in ex.MESHES:
        for label in SIGNED:
            given = {**of(mesh), "seed": seed, "label": label, "message": b"a message"}
            yield f"{label}, suite {mesh.suite}", given, signing(mesh, SigningKey(seed), label, b"a message")


def signed_documents() -> Iterator[Case]:
    operators, term = ex.OPERATORS[:2], [ex.COORDINATOR.signing]
    for label, document, keys in (
        ("policy", ex.POLICY, operators),
        ("profile", ex.PROFILE, operators),
        ("order", ex.ORDER, operators[::-1]),
        ("revocation", ex.REVOCATION, ex.OPERATORS),
        ("view", ex.VIEW, term),
        ("beacon", ex.BEACON, term),
        ("receipt", ex.RECEIPT, term),
    ):
        each = [signing(MESH, key, label, codec.encode(document)) for key in keys]
        signed = [one["signed"] for one in each]
        if keys is not term:
            opened = getattr(documents, f"open_{label}")(ex.ANCHORS[0], MESH, signed)
            assert (opened[0] if label == "policy" else opened) == document
        seeds = [key.secrets()[0] for key in keys]
        given = {**of(MESH), "seeds": seeds, "label": label, "fields": values(document)}
        yield label, given, {**each[0], "hash": sha256(each[0]["payload"]), "signed": signed}
    assert compiled(ex.POLICY) == codec.encode(ex.POLICY)


def cwts() -> Iterator[Case]:
    key = ex.COORDINATOR.signing
    for name, admission in zip(("agent", "peer", "client"), ex.ADMISSIONS, strict=True):
        data = documents.sign_admission(key, MESH, admission)
        assert documents.open_admission(data, key.public, MESH) == admission
        yield f"admission of {name}", *_cwt("admission", admission, data)
    data = documents.sign_grant(key, MESH, ex.GRANT)
    assert documents.open_grant(data, key.public, MESH) == ex.GRANT
    yield "grant", *_cwt("grant", ex.GRANT, data)


def _cwt(label: str, document: Any, data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    given = {**of(MESH), "seed": fixed("coordinator signs"), "label": label, "claims": values(document)}
    payload = cose.unverified_payload(data)
    structure = cose._to_be_signed(MESH, label, payload)
    return given, {"payload": payload, "sig_structure": structure, "signed": data}


def seals() -> Iterator[Case]:
    for label, kem in zip(("init", "accept") * 2 + ("init",), KEMS.values(), strict=True):
        value, message = fixed("instance or th1"), b"a message to be sealed"
        info = MESH.ctx(label, value)
        wire = kem.seal(message, info)
        assert unpad(kem.open(wire, info)) == message
        given = {"label": label, "values": [value], "kem_seed": kem.seed, "enc": kem.enc, "message": message}
        key, nonce = kem.schedule(info)
        out = {"public": kem.public, "info": info, "shared_secret": kem.shared_secret()}
        yield f"{label} to {kem.public[:4].hex()}", {**of(MESH), **given}, {**out, "key": key, "nonce": nonce, "sealed": wire}


def frames() -> Iterator[Case]:
    group = {"token": TOKEN, "epoch": 9, "handle": HANDLE, "counter": 2**32 + 5}
    for mesh in ex.MESHES:
        address = subject(mesh.id, Kind.BEACON)
        for kind, number, layout, fields, to in (
            ("session", KIND_SESSION, SESSION_HEADER, {"session_id": fixed("s", 8), "counter": 1_025}, address),
            ("task", KIND_TASK, TASK_HEADER, {**group, "task_id": TASK_ID}, ""),
            ("group", KIND_GROUP, GROUP_HEADER, group, address),
            ("result", KIND_RESULT, RESULT_HEADER, {"token": TOKEN, "epoch": 0, "task_id": TASK_ID, "salt": SALT}, ""),
        ):
            for body in (b"", fixed("a body", 700)):
                header = layout.pack(mesh.suite, number, *fields.values())
                counter, key = int(fields.get("counter", 0)), fixed(f"key of {kind}")  # type: ignore[call-overload]
                data = seal(aead(mesh, key), header, counter, body, to.encode())
                assert open_frame(aead(mesh, key), data, layout.size, counter, to.encode()) == body
                given = {**of(mesh), "kind": kind, "key": key, "header": fields, "body": body, "subject": to}
                out = {"header": header, "nonce": counter.to_bytes(12, "big"), "aad": header + to.encode()}
                yield f"{kind}, {len(body)} bytes, suite {mesh.suite}", given, {**out, "frame": data}


def handshakes() -> Iterator[Case]:
    credential = codec.encode(ex.CREDENTIAL), codec.encode(ex.COORDINATOR_CREDENTIAL)
    context, state = sha256(codec.encode(ex.OFFER)), codec.encode(ex.STATE)
    given = (FIRST_EPHEMERAL, credential, context, (None, None, None), state)
    for mesh in ex.MESHES:
        yield f"agent to coordinator, suite {mesh.suite}", *_handshake(mesh, ex.AGENT, ex.COORDINATOR, *given)
    term = ex.COORDINATOR.signing
    admissions = [documents.sign_admission(term, MESH, admission) for admission in ex.ADMISSIONS]
    beacon = documents.sign_message(term, MESH, "beacon", ex.BEACON)
    role = MESH.role_id("redactor")
    given = (SECOND_EPHEMERAL, (admissions[0], admissions[1]), sha256(admissions[1]), (role, role, beacon), beacon)
    yield "agent to peer", *_handshake(MESH, ex.AGENT, ex.PEER, *given)
    role = MESH.role_id("desk")
    given = (SECOND_EPHEMERAL, (admissions[2], admissions[1]), sha256(admissions[1]), (role, given[3][0], beacon), beacon)
    yield "client to peer", *_handshake(MESH, ex.CLIENT, ex.PEER, *given)


def _handshake(
    mesh: Mesh,
    initiator: Party,
    responder: Party,
    ephemeral: Kem,
    credentials: Sequence[bytes],
    context: bytes,
    rest: tuple[bytes | None, ...],
    state: bytes,
) -> tuple[dict[str, Any], dict[str, Any]]:
    secrets, ids = (fixed("I's secret"), fixed("R's secret")), (fixed("I's id", 8), fixed("R's id", 8))

    def fixed_seal(mesh: Mesh, public: bytes, signed: bytes, label: str, *values: object) -> bytes:
        return KEMS[public].seal(signed, mesh.ctx(label, *values))

    fresh = Kem(ephemeral.seed.hex(), ephemeral.enc.hex(), "")
    # The machines themselves run, but for what is drawn at random in them.
    with patch("sealing.session.seal_signed", fixed_seal), patch("sealing.session.KemKey", lambda: fresh):
        asked = PendingSession(
            mesh,
            initiator,
            responder=Peer(responder.instance, responder.signing.public),
            responder_kem=responder.kem.public,
            credential=credentials[0],
            context=context,
            secret=secrets[0],
            session_id=ids[0],
            role=rest[0],
            responder_role=rest[1],
            beacon=rest[2],
        )
        peer = Peer(initiator.instance, initiator.signing.public)
        opened = open_init(mesh, responder, asked.wire, lambda _: peer)
        wire2, theirs = accept_init(
            mesh, responder, opened, credential=credentials[1], state=state, secret=secrets[1], session_id=ids[1]
        )
        signed = unpad(ephemeral.open(wire2, mesh.ctx("accept", asked.init_hash)))
        ours = asked.accept(wire2, lambda _: None)
    sent = [codec.encode(Body("confirm", bytes(16), None)), codec.encode(Body("time", TASK_ID, None))]
    answered = [codec.encode(Body("time", TASK_ID, [TIME]))]
    frames_i2r, frames_r2i = [ours.seal(body) for body in sent], []
    assert [theirs.open(frame) for frame in frames_i2r] == sent
    frames_r2i = [theirs.seal(body) for body in answered]
    assert [ours.open(frame) for frame in frames_r2i] == answered
    init_signed = unpad(responder.kem.open(asked.wire, mesh.ctx("init", responder.instance)))
    prk = kdf.extract(ours.transcript, secrets[0] + secrets[1])
    challenge, keys = ex.STATE.challenge, (initiator.signing.public, initiator.kem.public)
    given = {
        **of(mesh),
        "initiator": initiator.given,
        "responder": responder.given,
        "ephemeral_seed": ephemeral.seed,
        "init_enc": responder.kem.enc,
        "accept_enc": ephemeral.enc,
        "init": [credentials[0], context, secrets[0], ids[0], *rest],
        "accept": [credentials[1], secrets[1], ids[1], state],
        "challenge": challenge,
        "bodies_i2r": sent,
        "bodies_r2i": answered,
    }
    out = {
        "init": cose.unverified_payload(init_signed),
        "init_signed": init_signed,
        "wire1": asked.wire,
        "th1": asked.init_hash,
        "accept": cose.unverified_payload(signed),
        "accept_signed": signed,
        "wire2": wire2,
        "th": ours.transcript,
        "prk": prk,
        "accept_subject": asked.accept_subject,
        "key_i2r": kdf.derive(prk, mesh, "i2r"),
        "key_r2i": kdf.derive(prk, mesh, "r2i"),
        "subject_i2r": ours.send_subject,
        "subject_r2i": ours.receive_subject,
        "frames_i2r": frames_i2r,
        "frames_r2i": frames_r2i,
        "report_data": key_binding(mesh, BIND_AGENT, challenge, ours.transcript, *keys),
    }
    return given, out


def epochs() -> Iterator[Case]:
    names = {"task": b"redact", "inbox": ex.AGENT.instance, "load": ex.AGENT.instance, "assign": ex.AGENT.instance}
    for mesh in ex.MESHES:
        for member in (ex.MEMBER, ex.MESH_MEMBER):
            sender, nonce = Sender(ex.AGENT.instance, mesh.role_id("redactor")), fixed("nonce", 12)
            handle, opener = make_handle(mesh, member, sender, nonce), Opener(mesh, member)
            frame = opener.sealer(sender, nonce).seal_group(b"body", "subject")
            assert opener.open_group(frame, "subject") == (sender, b"body")
            given = {
                **of(mesh),
                "member": values(member),
                "sender_instance": sender.instance,
                "sender_role": sender.role_id,
                "handle_nonce": nonce,
                "names": names,
            }
            out = {
                "token": opener.token,
                "handle_key": kdf.derive(member.secret, mesh, "handle", member.group, member.epoch),
                "handle": handle,
                "sender_key": sender_key(mesh, member, handle),
                "sender_package": codec.encode(sender_package(mesh, member, sender, nonce)),
                "member_package": codec.encode(member),
                "names": {kind: opener.name_token(kind, name) for kind, name in names.items()},
            }
            yield f"{member.group}, suite {mesh.suite}", given, out


def tasks() -> Iterator[Case]:
    for mesh in ex.MESHES:
        for client in (True, False):
            yield f"{'client' if client else 'enclave'}, suite {mesh.suite}", *_task(mesh, client=client)


def _task(mesh: Mesh, *, client: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    role = mesh.role_id("desk" if client else "redactor")
    sender = Sender(ex.CLIENT.instance if client else ex.AGENT.instance, role)
    package = sender_package(mesh, ex.MEMBER, sender, fixed("nonce", 12))
    secret, epoch = fixed("reply secret"), 0 if client else 11
    if client:
        reply = client_reply_key(mesh, secret, package.token, TASK_ID)
    else:
        reply = role_reply_key(mesh, secret, package.token, epoch, TASK_ID)
    reply_to, payload = fixed("reply to", 16), fixed("a payload", 300)
    body = TaskBody("redact", TASK_ID, TIME, TIME + 1, reply, epoch, reply_to, payload)
    sealer = Sealer(mesh, package)
    sealer._next()  # so that the counter is not zero
    frame = sealer.seal_task(codec.encode(body), TASK_ID)
    assert Opener(mesh, ex.MEMBER).open_task(frame) == (sender, TASK_ID, codec.encode(body))
    result = ResultBody(ex.PEER.instance, "", "", b"a value")
    header = ResultHeader(package.token, epoch, TASK_ID, SALT)
    sealed = seal_result(mesh, reply, header, codec.encode(result))
    assert open_result(mesh, reply, sealed) == codec.encode(result)
    given = {
        **of(mesh),
        "client": client,
        "token": package.token,
        "epoch": package.epoch,
        "handle": package.handle,
        "sender_key": package.key,
        "counter": 1,
        "reply_secret": secret,
        "reply_epoch": epoch,
        "task_id": TASK_ID,
        "task": [body.task_class, body.issued, body.expires, reply_to, payload],
        "hints": values(ex.HINTS),
        "salt": SALT,
        "result": values(result),
    }
    out = {
        "reply_key": reply,
        "body": codec.encode(body),
        "frame": frame,
        "message": codec.encode(TaskMessage(ex.HINTS, frame)),
        "result_key": kdf.derive(reply, mesh, "result", TASK_ID, SALT),
        "result_frame": sealed,
        "subject": subject(mesh.id, Kind.RESULT, reply_to),
    }
    return given, out


def subjects() -> Iterator[Case]:
    for kind in Kind:
        token = b"\x00" if kind in (Kind.HELLO, Kind.BOOT, Kind.BEACON) else TOKEN
        given = {"mesh": MESH.id, "kind": kind.value, "token": token}
        yield kind.value, given, {"subject": subject(MESH.id, kind, token)}


def streams() -> Iterator[Case]:
    for stream in ("tasks", "results"):
        yield stream, {"mesh": MESH.id, "stream": stream}, {"name": stream_name(MESH.id, stream)}


def revoked() -> Iterator[Case]:
    for entries in ((), ex.REVOKED):
        given = {"revoked": values(entries)}
        yield f"{len(entries)} entries", given, {"revoked_hash": sha256(codec.encode(entries))}


SECTIONS = {
    **{each.__name__: each for each in (contexts, derivations, padding, bodies, parties, roles, workloads)},
    **{each.__name__: each for each in (key_bindings, challenges, anchors, signatures)},
    "documents": signed_documents,
    **{each.__name__: each for each in (cwts, seals, frames, handshakes, epochs, tasks, subjects, streams)},
    "revoked": revoked,
}


def shown(value: Any) -> Any:
    """Return a value as it stands in the file: byte strings as h'..', like in CBOR's diagnostic notation."""
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, Message):
        return shown(values(value))
    if isinstance(value, dict):
        return {name: shown(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [shown(each) for each in value]
    assert value is None or isinstance(value, int) or not value.startswith("h'")
    return value


def generated() -> str:
    """Return the text of the file."""
    sections = {
        section: [{"name": name, "in": shown(given), "out": shown(out)} for name, given, out in cases()]
        for section, cases in SECTIONS.items()
    }
    encapsulations = [
        shown({"seed": kem.seed, "eseed": kem.eseed, "pk": kem.public, "ct": kem.enc}) for kem in KEMS.values()
    ]
    whole = {"protocol": "sealbus/1", "encapsulations": encapsulations, "sections": sections}
    return json.dumps(whole, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(generated(), "utf-8")
    print(f"{FILE}: {FILE.stat().st_size} bytes")
