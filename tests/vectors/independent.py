"""Derive every vector of `protocol.json` again from docs/protocol.md alone: nothing of sealbus is imported.

Each section of the file has a function here of its name, from `in` to `out`. As a command it checks a file:
`python tests/vectors/independent.py [FILE]`.
"""

import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from nacl.signing import SigningKey

In = dict[str, Any]
KINDS = {  # kind: number, and how the header goes on after suite and kind
    "session": (1, ("session_id", "counter")),
    "task": (2, ("token", "epoch", "handle", "counter", "task_id")),
    "group": (3, ("token", "epoch", "handle", "counter")),
    "result": (4, ("token", "epoch", "task_id", "salt")),
}
CLAIMS = {  # section 3; `signing_key` goes into cnf
    "subject": 2,
    "audience": 3,
    "expires": 4,
    "issued": 6,
    "kem_key": -65538,
    "mesh": -65539,
    "term": -65540,
    "policy_version": -65541,
    "kind": -65542,
    "workload": -65543,
    "platform": -65544,
    "roles": -65545,
    "action": -65546,
    "what": -65547,
    "constraints": -65548,
    "rule": -65549,
}


# Section 1.2: notation


def h(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key: bytes, *parts: bytes) -> bytes:  # HKDF-Extract, and HKDF-Expand of one block
    return hmac.digest(key, b"".join(parts), "sha256")


def cbor(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)


def msgpack(value: Any) -> bytes:
    """MessagePack in the shortest form, of nulls, unsigned integers, bytes, text and arrays."""
    if value is None:
        return b"\xc0"
    if isinstance(value, int):
        return bytes([value]) if value < 128 else sized(value, {1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF})
    if isinstance(value, bytes):
        return sized(len(value), {1: 0xC4, 2: 0xC5, 4: 0xC6}) + value
    if isinstance(value, str):
        text = value.encode()
        short = bytes([0xA0 | len(text)]) if len(text) < 32 else b""
        return (short or sized(len(text), {1: 0xD9, 2: 0xDA, 4: 0xDB})) + text
    short = bytes([0x90 | len(value)]) if len(value) < 16 else b""
    return (short or sized(len(value), {2: 0xDC, 4: 0xDD})) + b"".join(map(msgpack, value))


def sized(number: int, heads: dict[int, int]) -> bytes:
    width = next(each for each in heads if number < 1 << 8 * each)
    return bytes([heads[width]]) + number.to_bytes(width, "big")


def ctx(i: In, label: str, *values: Any) -> bytes:
    return cbor(["sealbus/1 " + label, i["suite"], i["mesh"], *values])


def key(i: In, secret: bytes, label: str, *values: Any) -> bytes:
    return mac(secret, ctx(i, label, *values), b"\x01")


def pad(body: bytes) -> bytes:
    length = len(body) + 4
    exponent = max(length.bit_length() - 1, 8)
    unit = 1 << exponent - exponent.bit_length()
    size = 256 if length <= 256 else -(-length // unit) * unit
    return len(body).to_bytes(4, "big") + body + bytes(size - length)


def signed(i: In, seed: bytes, label: str, message: bytes) -> In:
    bound = [i["operators"]] if "operators" in i else []
    structure = cbor(["Signature1", b"\xa1\x01\x27", ctx(i, label, *bound), message])
    signature = SigningKey(seed).sign(structure).signature
    return {
        "payload": message,
        "sig_structure": structure,
        "signed": cbor([b"\xa1\x01\x27", {}, message, signature]),
    }


def kem_parts(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey, bytes]:
    expanded = hashlib.shake_256(seed).digest(96)
    m, x = (
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        X25519PrivateKey.from_private_bytes(expanded[64:]),
    )
    return m, x, m.public_key().public_bytes_raw() + x.public_key().public_bytes_raw()


def sealed(seed: bytes, enc: bytes, info: bytes, message: bytes) -> In:
    m, x, public = kem_parts(seed)
    exchanged = x.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
    shared = hashlib.sha3_256(
        m.decapsulate(enc[:1088]) + exchanged + enc[1088:] + public[1184:] + rb"\.//^" + b"\\"
    ).digest()
    version = b"HPKE-v1HPKE" + bytes.fromhex("647a00010002")
    context = b"\x00" + mac(b"", version, b"psk_id_hash") + mac(b"", version, b"info_hash", info)
    secret = mac(shared, version, b"secret")
    aead = mac(secret, b"\x00\x20", version, b"key", context, b"\x01")
    nonce = mac(secret, b"\x00\x0c", version, b"base_nonce", context, b"\x01")[:12]
    wire = enc + AESGCM(aead).encrypt(nonce, pad(message), b"")
    return {
        "public": public,
        "info": info,
        "shared_secret": shared,
        "key": aead,
        "nonce": nonce,
        "sealed": wire,
    }


def frame(i: In, kind: str, secret: bytes, fields: In, body: bytes, subject: str = "") -> In:
    number, names = KINDS[kind]
    sizes = {"epoch": 4, "counter": 8}
    header = bytes([i["suite"], number])
    header += b"".join(fields[n].to_bytes(sizes[n], "big") if n in sizes else fields[n] for n in names)
    nonce = fields.get("counter", 0).to_bytes(12, "big")
    aeads: dict[int, Any] = {1: AESGCM, 2: AESGCMSIV}
    sealing = aeads[i["suite"]](secret).encrypt(nonce, pad(body), header + subject.encode())
    return {"header": header, "nonce": nonce, "aad": header + subject.encode(), "frame": header + sealing}


def address(mesh: bytes, kind: str, token: bytes) -> str:
    return f"sb.{mesh[:16].hex()}.{kind}.{token.hex()}"


def party(keys: In) -> In:
    signing, kem = bytes(SigningKey(keys["signing_seed"]).verify_key), kem_parts(keys["kem_seed"])[2]
    own = ["client", signing] if keys["client"] else [signing, kem]
    return {"signing_key": signing, "kem_key": kem, "instance": h(cbor(own))}


# The sections of the file


def contexts(i: In) -> In:
    return {"context": ctx(i, i["label"], *i["values"])}


def derivations(i: In) -> In:
    return {"info": ctx(i, i["label"], *i["values"]), "key": key(i, i["secret"], i["label"], *i["values"])}


def padding(i: In) -> In:
    padded = pad(bytes(i["length"]))
    return {"size": len(padded), "start": padded[:4]}


def bodies(i: In) -> In:
    return {"cbor": cbor(i["fields"])}


def peers(i: In) -> In:
    return {"body": msgpack(i["messages"])}


def parties(i: In) -> In:
    return party(i)


def roles(i: In) -> In:
    return {"role_id": h(ctx(i, "role", i["name"]))[:16]}


def workloads(i: In) -> In:
    publisher = [i["publisher"]] if i["publisher"] else []
    return {"workload_id": h(cbor([i["platform"], sorted(map(list, i["measurements"].items())), *publisher]))}


def key_bindings(i: In) -> In:
    values = (i["purpose"], i["challenge"], i["transcript"], i["signing_key"], i["kem_key"])
    return {"report_data": hashlib.sha512(ctx(i, "key binding", *values)).digest()}


def challenges(i: In) -> In:
    leaves = [h(b"\x00", ctx(i, "leaf"), hello) for hello in i["hellos"]]

    def tree(part: list[bytes]) -> tuple[bytes, list[list[bytes]]]:
        if len(part) == 1:
            return part[0], [[]]
        half = 1 << (len(part) - 1).bit_length() - 1
        (left, lefts), (right, rights) = tree(part[:half]), tree(part[half:])
        return h(b"\x01", left, right), [[*p, right] for p in lefts] + [[*p, left] for p in rights]

    root, paths = tree(leaves)
    return {"leaves": leaves, "challenge": root, "paths": paths}


def signatures(i: In) -> In:
    return signed(i, i["seed"], i["label"], i["message"])


def anchors(i: In) -> In:
    return {"cbor": cbor(i["fields"]), "mesh": h(cbor(i["fields"]))}


def documents(i: In) -> In:
    each = [signed(i, seed, i["label"], cbor(i["fields"])) for seed in i["seeds"]]
    return {**each[0], "hash": h(each[0]["payload"]), "signed": [one["signed"] for one in each]}


def operators(i: In) -> In:
    chain, hashes = [], [i["mesh"]]
    for change in i["changes"]:
        text = cbor(change["fields"])
        structure = cbor(["Signature1", b"\xa1\x01\x27", ctx(i, "operators"), text])
        made = [SigningKey(seed) for seed in change["seeds"]]
        signatures = [[bytes(each.verify_key), each.sign(structure).signature] for each in made]
        chain.append([text, sorted(signatures)])
        hashes.append(h(text))
    return {"chain": cbor(chain), "hashes": hashes}


def cwts(i: In) -> In:
    # A grant that does not end has no `exp`.
    stated = {name: value for name, value in i["claims"].items() if value is not None or name != "expires"}
    claims = {CLAIMS[name]: value for name, value in stated.items() if name != "signing_key"}
    if "signing_key" in i["claims"]:
        claims[8] = {1: {1: 1, -1: 6, -2: i["claims"]["signing_key"]}}
    return signed(i, i["seed"], i["label"], cbor(claims))


def seals(i: In) -> In:
    return sealed(i["kem_seed"], i["enc"], ctx(i, i["label"], *i["values"]), i["message"])


def frames(i: In) -> In:
    return frame(i, i["kind"], i["key"], i["header"], i["body"], i["subject"])


def handshakes(i: In) -> In:
    initiator, responder = party(i["initiator"]), party(i["responder"])
    credential, context, secret, session_id, *rest = i["init"]
    ephemeral = kem_parts(i["ephemeral_seed"])[2]
    init = cbor([credential, responder["instance"], context, ephemeral, secret, session_id, *rest])
    first = signed(i, i["initiator"]["signing_seed"], "init", init)
    info = ctx(i, "init", responder["instance"])
    wire1 = sealed(i["responder"]["kem_seed"], i["init_enc"], info, first["signed"])["sealed"]
    th1 = h(wire1)
    credential, answer, answer_id, state = i["accept"]
    names = [th1, initiator["instance"], responder["instance"]]
    accept = cbor([*names, credential, answer, answer_id, state])
    second = signed(i, i["responder"]["signing_seed"], "accept", accept)
    wire2 = sealed(i["ephemeral_seed"], i["accept_enc"], ctx(i, "accept", th1), second["signed"])["sealed"]
    th = h(th1, h(wire2))
    prk = mac(th, secret + answer)
    out: In = {"init": init, "init_signed": first["signed"], "wire1": wire1, "th1": th1}
    out |= {"accept": accept, "accept_signed": second["signed"], "wire2": wire2, "th": th, "prk": prk}
    out["accept_subject"] = address(i["mesh"], "accept", th1[:16])
    for way, to in (("i2r", answer_id), ("r2i", session_id)):
        subject = address(i["mesh"], "session", key(i, prk, "subject", way)[:16])
        aead = key(i, prk, way)
        sent = [
            frame(i, "session", aead, {"session_id": to, "counter": n}, body, subject)["frame"]
            for n, body in enumerate(i["bodies_" + way])
        ]
        out |= {f"key_{way}": aead, f"subject_{way}": subject, f"frames_{way}": sent}
    values = ("agent", i["challenge"], th, initiator["signing_key"], initiator["kem_key"])
    out["report_data"] = hashlib.sha512(ctx(i, "key binding", *values)).digest()
    return out


def epochs(i: In) -> In:
    group, epoch, secret, *times = i["member"]
    derive = [key(i, secret, label, group, epoch) for label in ("token", "handle")]
    identity = i["sender_instance"] + i["sender_role"]
    handle = i["handle_nonce"] + AESGCM(derive[1]).encrypt(i["handle_nonce"], identity, b"")
    sender = key(i, secret, "sender", group, epoch, handle)
    package = cbor([group, epoch, handle, sender, derive[0][:16], *times])
    return {
        "token": derive[0][:16],
        "handle_key": derive[1],
        "handle": handle,
        "sender_key": sender,
        "sender_package": package,
        "member_package": cbor(i["member"]),
        "names": {kind: key(i, secret, "name", kind, name)[:16] for kind, name in i["names"].items()},
    }


def tasks(i: In) -> In:
    task_id, header = i["task_id"], {"token": i["token"], "epoch": i["epoch"], "handle": i["handle"]}
    values = (i["token"], task_id) if i["client"] else (i["token"], i["reply_epoch"], task_id)
    reply = key(i, i["reply_secret"], "reply", *values)
    task_class, issued, expires, reply_to, payload = i["task"]
    body = cbor([task_class, task_id, issued, expires, reply, i["reply_epoch"], reply_to, payload])
    fields = {**header, "counter": i["counter"], "task_id": task_id}
    task = frame(i, "task", i["sender_key"], fields, body)["frame"]
    result_key = key(i, reply, "result", task_id, i["salt"])
    fields = {"token": i["token"], "epoch": i["reply_epoch"], "task_id": task_id, "salt": i["salt"]}
    result = frame(i, "result", result_key, fields, cbor(i["result"]))["frame"]
    message = cbor([i["hints"], task])
    return {
        "reply_key": reply,
        "body": body,
        "frame": task,
        "message": message,
        "result_key": result_key,
        "result_frame": result,
        "subject": address(i["mesh"], "result", reply_to),
    }


def subjects(i: In) -> In:
    return {"subject": address(i["mesh"], i["kind"], i["token"])}


def streams(i: In) -> In:
    return {"name": f"sealbus-{i['mesh'][:16].hex()}-{i['stream']}"}


def revoked(i: In) -> In:
    return {"revoked_hash": h(cbor(i["revoked"]))}


def rolls(i: In) -> In:
    digests = [h(cbor(each)) for each in i["revocations"]]
    data = cbor(sorted(digests))
    return {"digests": digests, "roll": data, "hash": h(data)}


def half_of(leaves: list[bytes]) -> int:
    return 1 << (len(leaves) - 1).bit_length() - 1


def root(leaves: list[bytes]) -> bytes:  # RFC 9162 section 2.1.1
    if len(leaves) < 2:
        return leaves[0] if leaves else h()
    half = half_of(leaves)
    return h(b"\x01", root(leaves[:half]), root(leaves[half:]))


def inclusion(index: int, leaves: list[bytes]) -> list[bytes]:  # section 2.1.3.1
    if len(leaves) == 1:
        return []
    half = half_of(leaves)
    if index < half:
        return [*inclusion(index, leaves[:half]), root(leaves[half:])]
    return [*inclusion(index - half, leaves[half:]), root(leaves[:half])]


def consistency(size: int, leaves: list[bytes], known: bool = True) -> list[bytes]:  # section 2.1.4.1
    if size == len(leaves):
        return [] if known else [root(leaves)]
    half = half_of(leaves)
    if size <= half:
        return [*consistency(size, leaves[:half], known), root(leaves[half:])]
    return [*consistency(size - half, leaves[half:], False), root(leaves[:half])]


def logs(i: In) -> In:
    entries = [cbor(entry) for entry in i["entries"]]
    leaves = [h(b"\x00", ctx(i, "audit"), entry) for entry in entries]
    return {
        "entries": entries,
        "leaves": leaves,
        "log_size": len(leaves),
        "log_root": root(leaves),
        "inclusion": [inclusion(index, leaves) for index in range(len(leaves))],
        "consistency": [consistency(size, leaves) for size in range(1, len(leaves) + 1)],
    }


SECTIONS = {
    each.__name__: each
    for each in (
        contexts,
        derivations,
        padding,
        bodies,
        peers,
        parties,
        roles,
        workloads,
        key_bindings,
        challenges,
        anchors,
        signatures,
        documents,
        operators,
        cwts,
        seals,
        frames,
        handshakes,
        epochs,
        tasks,
        subjects,
        streams,
        revoked,
        rolls,
        logs,
    )
}


def read(value: Any) -> Any:
    """Turn what stands in the file into values: `h'..'` is a byte string, any other string is text."""
    if isinstance(value, dict):
        return {name: read(each) for name, each in value.items()}
    if isinstance(value, list):
        return [read(each) for each in value]
    if isinstance(value, str) and value.startswith("h'"):
        return bytes.fromhex(value[2:-1])
    return value


def main(path: Path) -> int:
    vectors = read(json.loads(path.read_text("utf-8")))
    wrong = [
        f"{section}: {case['name']}"
        for section, cases in vectors["sections"].items()
        for case in cases
        if SECTIONS[section](case["in"]) != case["out"]
    ]
    print("\n".join(wrong) or f"{sum(map(len, vectors['sections'].values()))} vectors agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("protocol.json")))
