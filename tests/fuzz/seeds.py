"""What fuzzing starts from: what the lab's machines say, and real evidence if SEALBUS_EVIDENCE names it."""

import os
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import cbor2
import msgspec
from hypothesis import HealthCheck, Phase, given, settings

from attestation import nitro
from attestation.errors import AttestationError
from attestation.nitro import cbor as nitro_cbor
from attestation.sev_snp.parse import SIGNED_SIZE
from attestation.tdx.collateral import (
    PCK_CRL_CHAIN,
    QE_IDENTITY,
    QE_IDENTITY_CHAIN,
    TCB_INFO,
    TCB_INFO_CHAIN,
    read_chain,
)
from attestation.tdx.parse import parse_quote
from attestation.tdx.pck import SGX_EXTENSION
from lab.simulate import nitro as lab_nitro
from lab.simulate import sev_snp as lab_sev_snp
from lab.simulate import tdx as lab_tdx
from schemas import codec, peer
from schemas.evidence import NITRO, SEV_SNP, TDX
from tests.amd import amd_root
from tests.attestation.tables import table_of
from tests.fuzz import targets
from tests.fuzz.signed import PCRS, nitro_card
from tests.fuzz.world import NOW, World
from tests.schemas.strategies import KINDS, of

KEY_BINDING, CHALLENGE = bytes(range(64)), bytes(range(32))
FILES = {SEV_SNP: "report.bin", TDX: "quote.bin", NITRO: "attestation.cbor"}
CERTIFICATES = ("vcek.der", "ask.der", "ark.der")
CHAINS = (TCB_INFO_CHAIN, QE_IDENTITY_CHAIN, PCK_CRL_CHAIN)
OTHER_GUID = "ecae0c0f-9502-43b1-afa2-0ae2e0d565b6"
MOST_OF_ONE_NAME = 12  # more vectors of one kind say nothing new to a parser


def make_world() -> World:
    """Make one machine of each platform and let it speak; RSA-4096 keys take seconds."""
    chip = lab_sev_snp.SevSnpChip.from_files(amd_root(NOW), serial=1)
    platform = lab_tdx.TdxPlatform.from_files(lab_tdx.make_root(NOW), serial=1)
    card = lab_nitro.NitroCard.from_files(lab_nitro.make_root(NOW), serial=1)
    guest = {"measurement": b"\x01" * 48, "host_data": b"\x02" * 32}
    domain = dict.fromkeys(lab_tdx.MEASURED, b"\x01" * 48)
    pcrs = dict.fromkeys(("pcr0", "pcr1", "pcr2"), b"\x01" * 48)
    said = {
        SEV_SNP: chip.evidence(guest, KEY_BINDING, CHALLENGE, now=NOW),
        TDX: platform.evidence(domain, KEY_BINDING, CHALLENGE, now=NOW),
        NITRO: card.evidence(pcrs, KEY_BINDING, CHALLENGE, now=NOW),
    }
    return World({name: (evidence.type, evidence.value, beside) for name, (evidence, beside) in said.items()})


def seeds(world: World) -> dict[str, list[bytes]]:
    """Return what each target starts from, by its name."""
    evidence = {name: [world.said[name][1], *_real(FILES[name])] for name in FILES}
    chains = [*_quoted_chains(evidence[TDX]), *_named(world, *CHAINS)]
    return {
        "sev-snp-report": evidence[SEV_SNP],
        "sev-snp-table": _tables(world),
        "tdx-quote": evidence[TDX],
        "tdx-chain": [bytes((each.count(b"BEGIN"),)) + each for each in chains],
        "tdx-collateral": [
            bytes((kind,)) + each
            for kind, name in ((targets.TCB_INFO, TCB_INFO), (targets.QE_IDENTITY, QE_IDENTITY))
            for each in _named(world, name)
        ],
        "tdx-pck": _pck_extensions(evidence[TDX]),
        "nitro-document": evidence[NITRO],
        "x509-certificate": [*_named(world, *CERTIFICATES), *_inside(evidence[NITRO], chains)],
        "x509-crl": _named(world, "crl.der", "pck_crl.der", "root_ca_crl.der"),
        "cbor": _messages(evidence[NITRO][0]),
        "peer": _peer_frames(),
        "nats": [len(each).to_bytes(2) + each for each in _streams()],
        "cmw": _wrapped(world),
        "assess": [bytes((index,)) + data for index, (_, _, data) in enumerate(world.parts())],
        "message": _typed_messages(),
        "signed-sev-snp": [each[:SIGNED_SIZE] for each in evidence[SEV_SNP]],
        "signed-tdx": _signed_quotes(evidence[TDX]),
        "signed-nitro": _payloads(evidence[NITRO]),
    }


def _quoted_chains(quotes: list[bytes]) -> list[bytes]:
    """Return the PEM chains inside of quotes."""
    found: list[bytes] = []
    for quote in quotes:
        try:
            found.append(parse_quote(quote).pck_chain)
        except AttestationError:
            continue
    return list(dict.fromkeys(found))


def _signed_quotes(quotes: list[bytes]) -> list[bytes]:
    """Return what was signed of each quote."""
    found: list[bytes] = []
    for quote in quotes:
        try:
            found.append(parse_quote(quote).signed)
        except AttestationError:
            continue
    return found


def _payloads(documents: list[bytes]) -> list[bytes]:
    """Return payloads; of the first, the chain ends in the key that the target signs with."""
    evidence, _ = nitro_card().evidence(PCRS, KEY_BINDING, CHALLENGE, now=NOW)
    found: list[bytes] = []
    for document in (evidence.value, *documents):
        try:
            frame, _ = nitro_cbor.read_first(document.removeprefix(b"\xd2"))
        except AttestationError:
            continue
        match frame:
            case [_, _, bytes() as payload, _]:
                found.append(payload)
    return found


def _typed_messages() -> list[bytes]:
    """Return a few messages of every type, each behind the number of its type."""
    found = [bytes((number,)) + codec.encode(each) for number in range(len(KINDS)) for each in _some(number)]
    return list(dict.fromkeys(found))


def _some(number: int) -> list[object]:
    found: list[object] = []

    @settings(
        max_examples=3,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(of(KINDS[number]))
    def gather(message: object) -> None:
        found.append(message)

    gather()
    return found


def _tables(world: World) -> list[bytes]:
    own = {name: world.endorsement(name) for name in CERTIFICATES}
    return [table_of(own), table_of({}), table_of(own, {OTHER_GUID: b"?"}), *_real("auxblob.bin")]


def _pck_extensions(quotes: list[bytes]) -> list[bytes]:
    leaves = [read_chain(chain, 3)[0] for chain in _quoted_chains(quotes) if chain.count(b"BEGIN") == 3]
    return list(dict.fromkeys(leaf.extensions[SGX_EXTENSION].value for leaf in leaves))


def _inside(documents: list[bytes], chains: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for document in documents:
        try:
            payload = nitro.parse(document).payload
        except AttestationError:
            continue
        found += [payload.certificate, *payload.cabundle]
    for chain in chains:
        found += [each.encoded for each in read_chain(chain, chain.count(b"BEGIN"))]
    return list(dict.fromkeys(found))[: 4 * MOST_OF_ONE_NAME]


def _messages(document: bytes) -> list[bytes]:
    nested: object = 0
    for _ in range(20):
        nested = [nested]
    samples: tuple[object, ...] = (
        {"name": "alice", "roles": ["reader", "writer"], "since": 1_795_000_000, "key": bytes(32)},
        [1, -1, True, None, b"", "", {}, [], 2**64 - 1, -(2**64)],
        {number: bytes(number) for number in range(30)},
        nested,
    )
    return [*map(codec.encode, samples), document]


def _peer_frames() -> list[bytes]:
    said: list[peer.PeerMessage] = [
        peer.Confirm(),
        peer.Call(bytes(16), "tool", b"arguments", 1_795_000_000_000, bytes(16)),
        peer.Call(bytes(16), "tool", b"", 1, None),
        peer.Reply(bytes(16), "no-grant", "detail", b"value"),
        peer.Cancel(bytes(16)),
        peer.Reopen("sb.00.inbox.00", b"init"),
    ]
    encoded = [peer.encode_message(each) for each in said]
    return [*(peer.join_messages([each]) for each in encoded), peer.join_messages(encoded)]


def _streams() -> list[bytes]:
    message = b"MSG a.b 1 r.x 5\r\nhello\r\n"
    headed = b"HMSG a.b 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\n"
    others = b"PING\r\nPONG\r\n+OK\r\n-ERR 'Authorization Violation'\r\n" + b'INFO {"max_payload":1000}\r\n'
    return [message, headed, others, message + headed + others + message]


def _wrapped(world: World) -> list[bytes]:
    found: list[bytes] = []
    for media_type, value, _ in world.said.values():
        found += [
            cbor2.dumps([media_type, value]),
            cbor2.dumps([media_type, value, 1]),
            msgspec.json.encode([media_type, urlsafe_b64encode(value).decode().rstrip("=")]),
        ]
    return found


def _named(world: World, *names: str) -> list[bytes]:
    own = [data for _, part, data in world.parts() if part in names]
    return [*own, *(each for name in names for each in _real(name))]


def _real(name: str) -> list[bytes]:
    """Return files of this name in the vectors, none twice; nothing where there are no vectors."""
    folder = os.environ.get("SEALBUS_EVIDENCE")
    if not folder:
        return []
    found = {
        sha256(data).digest(): data for data in map(Path.read_bytes, sorted(Path(folder).glob(f"*/*/{name}")))
    }
    return list(found.values())[:MOST_OF_ONE_NAME]
