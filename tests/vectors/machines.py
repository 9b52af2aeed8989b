"""What the protocol's machines make of fixed inputs: handshakes, epochs, tasks."""

from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

from schemas import codec
from schemas.messages import Body, ResultBody, TaskBody
from schemas.peer import Call, Cancel, Confirm, PeerMessage, Reply, encode_message, join_messages
from schemas.scheduling import TaskMessage
from schemas.subjects import Kind, subject
from sealing import cose, documents, kdf
from sealing.binding import AGENT as BIND_AGENT
from sealing.binding import key_binding
from sealing.context import Mesh, sha256
from sealing.groups import Opener, Sealer, Sender, make_handle, sender_key, sender_package
from sealing.padding import unpad
from sealing.results import ResultHeader, client_reply_key, open_result, role_reply_key, seal_result
from sealing.session import Peer, PendingSession, accept_init, open_init
from tests.vectors import examples as ex
from tests.vectors.examples import Case, of, values
from tests.vectors.primitives import SALT, TASK_ID
from tests.vectors.world import (
    FIRST_EPHEMERAL,
    KEMS,
    SECOND_EPHEMERAL,
    TIME,
    Kem,
    Party,
    fixed,
)

MESH = ex.MESH


def handshakes() -> Iterator[Case]:
    credentials = codec.encode(ex.CREDENTIAL), codec.encode(ex.COORDINATOR_CREDENTIAL)
    context, state, nobody = sha256(codec.encode(ex.OFFER)), codec.encode(ex.STATE), (None, None, None)
    for mesh in ex.MESHES:
        yield (
            f"agent to coordinator, suite {mesh.suite}",
            *_handshake(mesh, ex.AGENT, ex.COORDINATOR, FIRST_EPHEMERAL, credentials, context, nobody, state),
        )
    term, redactor = ex.COORDINATOR.signing, MESH.role_id("redactor")
    agent, peer, client = (documents.sign_admission(term, MESH, each) for each in ex.ADMISSIONS)
    beacon = documents.sign_message(term, MESH, "beacon", ex.BEACON)
    for name, party, shown_by, role in (
        ("agent", ex.AGENT, agent, redactor),
        ("client", ex.CLIENT, client, MESH.role_id("desk")),
    ):
        rest = (role, redactor, beacon)
        shown_to = (shown_by, peer)
        yield (
            f"{name} to peer",
            *_handshake(MESH, party, ex.PEER, SECOND_EPHEMERAL, shown_to, sha256(peer), rest, beacon),
        )


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
            mesh,
            responder,
            opened,
            credential=credentials[1],
            state=state,
            secret=secrets[1],
            session_id=ids[1],
        )
        signed = unpad(ephemeral.open(wire2, mesh.ctx("accept", asked.init_hash)))
        ours = asked.accept(wire2, lambda _: None)
    sent, answered = (_between_peers if rest[2] else _with_the_coordinator)()
    frames_i2r = [ours.seal(body) for body in sent]
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


def _with_the_coordinator() -> tuple[list[bytes], list[bytes]]:
    asked = [Body("confirm", bytes(16), None), Body("time", TASK_ID, None)]
    return [codec.encode(body) for body in asked], [codec.encode(Body("time", TASK_ID, [TIME]))]


def _between_peers() -> tuple[list[bytes], list[bytes]]:
    asked = [_joined(Confirm()), _joined(Call(TASK_ID, "look-up", b"\x80", TIME, None), Cancel(TASK_ID))]
    return asked, [_joined(Reply(TASK_ID, "", "", b"\x80"))]


def _joined(*said: PeerMessage) -> bytes:
    return join_messages([encode_message(message) for message in said])


def epochs() -> Iterator[Case]:
    names = {
        "task": b"redact",
        "inbox": ex.AGENT.instance,
        "load": ex.AGENT.instance,
        "assign": ex.AGENT.instance,
    }
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
