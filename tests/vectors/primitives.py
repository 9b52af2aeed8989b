"""What is derived, encoded and sealed by one function, case by case."""

from collections.abc import Iterator
from typing import Any

import msgspec

from attestation import workload_id
from schemas import codec, peer
from schemas.evidence import TDX, WorkloadValues
from schemas.subjects import Kind, stream_name, subject
from sealing import audit, documents, kdf, merkle
from sealing.binding import AGENT as BIND_AGENT
from sealing.binding import COORDINATOR as BIND_COORDINATOR
from sealing.binding import NO_TRANSCRIPT, key_binding
from sealing.context import sha256
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
from sealing.log_tree import LogTree
from sealing.padding import pad, unpad
from tests.vectors import examples as ex
from tests.vectors.examples import Case, of, values
from tests.vectors.world import (
    KEMS,
    fixed,
)

MESH = ex.MESH

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
    "task id": ((TASK_ID, fixed("content"), 3),),
}
SIGNED = (
    "init",
    "accept",
    "profile",
    "policy",
    "order",
    "revocation",
    "renewal",
    "break-glass",
    "collateral",
    "operators",
    "admission",
    "grant",
    "view",
    "beacon",
    "receipt",
    "head",
)
BY_OPERATORS = ("profile", "policy", "order", "revocation", "renewal", "break-glass", "collateral")
CONTEXTS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "role": (("redactor",),),
    "key binding": (("agent", fixed("challenge"), bytes(32), fixed("signing"), fixed("kem", 1216)),),
    "leaf": ((),),
    "audit": ((),),
    **dict.fromkeys(SIGNED, ((),)),
    # From the first change of operators on these have the hash of the set that signs.
    **dict.fromkeys(BY_OPERATORS, ((), (fixed("operators"),))),
    "init": ((), (ex.PEER.instance,)),
    "accept": ((), (fixed("th1"),)),
    **KEYS,
}


def contexts() -> Iterator[Case]:
    for mesh in ex.MESHES:
        for label, each in CONTEXTS.items():
            for given in each:
                name = f"{label}, {len(given)} values, suite {mesh.suite}"
                yield (
                    name,
                    {**of(mesh), "label": label, "values": given},
                    {"context": mesh.ctx(label, *given)},
                )


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


def peers() -> Iterator[Case]:
    for number, said in enumerate(ex.SAID):
        body = peer.join_messages([peer.encode_message(message) for message in said])
        assert peer.decode_messages(body) == said
        plain = [values(message) for message in said]
        yield f"frame {number}, {len(said)} messages", {"messages": plain}, {"body": body}


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
        given = (purpose, fixed("a challenge"), transcript, party.signing.public, party.kem.public)
        names = ("purpose", "challenge", "transcript", "signing_key", "kem_key")
        out = {"report_data": key_binding(MESH, *given)}
        yield purpose, {**of(MESH), **dict(zip(names, given, strict=True))}, out


def challenges() -> Iterator[Case]:
    for count in (1, 2, 5):
        hellos = [
            codec.encode(msgspec.structs.replace(ex.BODIES[0], nonce=fixed(f"nonce {n}")))
            for n in range(count)
        ]
        leaves = [merkle.leaf(MESH, hello) for hello in hellos]
        root, paths = merkle.paths(leaves)
        for index, leaf in enumerate(leaves):
            assert merkle.root_of_path(leaf, index, count, paths[index]) == root
        yield (
            f"{count} hellos",
            {**of(MESH), "hellos": hellos},
            {"leaves": leaves, "challenge": root, "paths": paths},
        )


def anchors() -> Iterator[Case]:
    for anchor in ex.ANCHORS:
        data = codec.encode(anchor)
        _, mesh = documents.open_anchor(data)
        yield f"suite {anchor.suite}", {"fields": values(anchor)}, {"cbor": data, "mesh": mesh.id}


def seals() -> Iterator[Case]:
    for label, kem in zip(("init", "accept") * 2 + ("init",), KEMS.values(), strict=True):
        value, message = fixed("instance or th1"), b"a message to be sealed"
        info = MESH.ctx(label, value)
        wire = kem.seal(message, info)
        assert unpad(kem.open(wire, info)) == message
        given = {"label": label, "values": [value], "kem_seed": kem.seed, "enc": kem.enc, "message": message}
        key, nonce = kem.schedule(info)
        out = {"public": kem.public, "info": info, "shared_secret": kem.shared_secret()}
        yield (
            f"{label} to {kem.public[:4].hex()}",
            {**of(MESH), **given},
            {**out, "key": key, "nonce": nonce, "sealed": wire},
        )


def frames() -> Iterator[Case]:
    group = {"token": TOKEN, "epoch": 9, "handle": HANDLE, "counter": 2**32 + 5}
    for mesh in ex.MESHES:
        address = subject(mesh.id, Kind.BEACON)
        for kind, number, layout, fields, to in (
            (
                "session",
                KIND_SESSION,
                SESSION_HEADER,
                {"session_id": fixed("s", 8), "counter": 1_025},
                address,
            ),
            ("task", KIND_TASK, TASK_HEADER, {**group, "task_id": TASK_ID}, ""),
            ("group", KIND_GROUP, GROUP_HEADER, group, address),
            (
                "result",
                KIND_RESULT,
                RESULT_HEADER,
                {"token": TOKEN, "epoch": 0, "task_id": TASK_ID, "salt": SALT},
                "",
            ),
        ):
            for body in (b"", fixed("a body", 700)):
                header = layout.pack(mesh.suite, number, *fields.values())
                counter, key = int(fields.get("counter", 0)), fixed(f"key of {kind}")  # type: ignore[call-overload]
                data = seal(aead(mesh, key), header, counter, body, to.encode())
                assert open_frame(aead(mesh, key), data, layout.size, counter, to.encode()) == body
                given = {
                    "suite": mesh.suite,
                    "kind": kind,
                    "key": key,
                    "header": fields,
                    "body": body,
                    "subject": to,
                }
                out = {"header": header, "nonce": counter.to_bytes(12, "big"), "aad": header + to.encode()}
                yield f"{kind}, {len(body)} bytes, suite {mesh.suite}", given, {**out, "frame": data}


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


def logs() -> Iterator[Case]:
    tree = LogTree()
    entries = [codec.encode(entry) for entry in ex.ENTRIES]
    for entry in entries:
        tree.append(audit.leaf(MESH, entry))
    for size in (0, 1, 2, 6, 7):
        out = {
            "entries": entries[:size],
            "leaves": [audit.leaf(MESH, entry) for entry in entries[:size]],
            "log_size": size,
            "log_root": tree.root(size),
            "inclusion": [tree.inclusion(index, size) for index in range(size)],
            "consistency": [tree.consistency(older, size) for older in range(1, size + 1)],
        }
        context = of(MESH) if size else {}
        yield f"{size} entries", {**context, "entries": [values(each) for each in ex.ENTRIES[:size]]}, out
