"""What is fuzzed, as plain functions of bytes: each returns, or raises because something is wrong.

Three things are wrong: an error that is no refusal, two answers to one input, and a cost that is not linear
in the input's size. Inputs that choose among several readers say which in their first byte. Counting the cost
is slow, so a `Sampled` target looks for the latter two in a share of its inputs only.

A run by coverage imports this twice, with and without the instruments: only what is covered bears their cost.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from attestation import nitro, sev_snp, x509
from attestation.assess import assess
from attestation.result import Basis, as_json
from attestation.sev_snp.table import read_table
from attestation.tdx import collateral
from attestation.tdx.parse import parse_quote
from attestation.tdx.pck import SGX_EXTENSION, read_pck
from console.cmw import unwrap_all
from schemas import cbor, codec
from schemas.errors import SealbusError
from schemas.evidence import NITRO, SEV_SNP, TDX
from schemas.peer import decode_messages
from tests.fuzz import signed, trees
from tests.fuzz.cost import within
from tests.fuzz.world import NOW, World
from tests.schemas.strategies import KINDS
from transport.nats_parser import BrokenError, NatsParser

NAMES = (
    "sev-snp-report",
    "sev-snp-table",
    "tdx-quote",
    "tdx-chain",
    "tdx-collateral",
    "tdx-pck",
    "nitro-document",
    "x509-certificate",
    "x509-crl",
    "cbor",
    "peer",
    "nats",
    "cmw",
    "assess",
    "message",
    "signed-sev-snp",
    "signed-tdx",
    "signed-nitro",
)

SAMPLE = 32  # a second reading that counts costs three more, so at this share it no longer sets the pace
MAX_PAYLOAD = 1000  # as a broker would have said
LONGEST_CHAIN = 4
TCB_INFO, QE_IDENTITY = range(2)


class NotTheSameError(Exception):
    """One input had two answers."""


@dataclass(frozen=True)
class Target:
    """One reader, and what it may cost: `base` calls, and `per_byte` more for each byte."""

    name: str
    read: Callable[[bytes], object]
    base: int
    per_byte: int
    refusals: tuple[type[Exception], ...] = (SealbusError,)
    mutate: trees.Mutate | None = None
    share: int = 1  # of a number of runs, one in so many: what verifies signatures is slow

    def once(self, data: bytes) -> None:
        """Read `data`, and raise if an error gets out."""
        self._answer(data)

    def __call__(self, data: bytes) -> None:
        """Read `data` twice, and raise if anything is wrong with it."""
        answer = self._answer(data)
        most = self.base + self.per_byte * len(data)
        if within(most, lambda: self._answer(data)) != answer:
            raise NotTheSameError(self.name)

    def _answer(self, data: bytes) -> object:
        try:
            return self.read(data)
        except self.refusals as refusal:
            return type(refusal), str(refusal)


class Sampled:
    """A target that reads each input once, uncounted; as it should the first, each larger, each 32nd as well.

    Which those are depends on nothing but the inputs before, so a run with the same seed is the same run.
    """

    def __init__(self, target: Target, once: Callable[[bytes], None] | None = None) -> None:
        """`once` is the same reader with the instruments of a fuzzer, which would be counted too."""
        self._target = target
        self._once = once
        self.executions = 0
        self._largest = -1

    def __call__(self, data: bytes) -> None:
        """Read `data`, and raise if anything that is looked for is wrong with it."""
        sampled = self.executions % SAMPLE == 0 or len(data) > self._largest
        self.executions += 1
        self._largest = max(self._largest, len(data))
        if self._once is not None:
            self._once(data)
            if sampled:
                self._target(data)
        elif sampled:
            self._target(data)
        else:
            self._target.once(data)


def _read_list(data: bytes) -> object:
    return x509.read_revoked(x509.read_revocation_list(data))


def targets(world: World) -> dict[str, Target]:
    """Return all targets by their names; `world` is what surrounds an input."""
    listed = (
        Target("sev-snp-report", sev_snp.parse, 120, 0),
        Target("sev-snp-table", read_table, 400, 1),
        Target("tdx-quote", parse_quote, 150, 0),
        Target("tdx-chain", _read_chain, 500, 12),
        Target("tdx-collateral", _collateral_reader(world), 4000, 2, mutate=trees.mutate_json),
        Target("tdx-pck", _pck_reader(world), 100, 12),
        Target("nitro-document", nitro.parse, 300, 8, mutate=trees.mutate_document),
        Target("x509-certificate", x509.read_certificate, 500, 12),
        Target("x509-crl", _read_list, 500, 12),
        Target("cbor", cbor.read, 50, 8, mutate=trees.mutate_canonical),
        Target("peer", decode_messages, 20, 1, mutate=trees.mutate_msgpack),
        Target("nats", _feed, 50, 8, refusals=(SealbusError, BrokenError)),
        Target("cmw", unwrap_all, 60, 8),
        Target("assess", _assessor(world), 40_000, 16, share=20),
        Target("message", _message, 600, 16, mutate=trees.mutate_message),
        Target("signed-sev-snp", signed.reader(SEV_SNP), 4_000, 8, share=10),
        Target("signed-tdx", signed.reader(TDX), 12_000, 8, share=10),
        Target("signed-nitro", signed.reader(NITRO), 12_000, 16, mutate=trees.mutate_payload, share=10),
    )
    return {target.name: target for target in listed}


def _read_chain(data: bytes) -> object:
    return collateral.read_chain(data[1:], data[0] % (LONGEST_CHAIN + 1)) if data else None


def _collateral_reader(world: World) -> Callable[[bytes], object]:
    kinds: dict[int, tuple[str, str, type[msgspec.Struct]]] = {
        TCB_INFO: (collateral.TCB_INFO, collateral.TCB_INFO_CHAIN, collateral.TcbInfo),
        QE_IDENTITY: (collateral.QE_IDENTITY, collateral.QE_IDENTITY_CHAIN, collateral.QeIdentity),
    }

    def read(data: bytes) -> object:
        if not data:
            return None
        name, chain, kind = kinds[data[0] % len(kinds)]
        found = collateral.read_collateral({name: data[1:], chain: world.endorsement(chain)})
        signed = found.tcb_info or found.qe_identity
        # What a signature keeps strangers from: its signer is not to be trusted with a crash either.
        return signed and (signed, collateral._decode(signed[0].body, kind))

    return read


def _pck_reader(world: World) -> Callable[[bytes], object]:
    pck = world.pck

    def read(data: bytes) -> object:
        extension = x509.Extension(critical=False, value=data)
        return read_pck(replace(pck, extensions={SGX_EXTENSION: extension}))

    return read


def _message(data: bytes) -> object:
    """Read a message or document of the type that the first byte says; written again it must be the same."""
    kind = KINDS[data[0] % len(KINDS)] if data else KINDS[0]
    read = codec.decode(data[1:], kind)
    written = codec.encode(read)
    # A document's field that is absent has its default, so two encodings of it may mean one thing.
    if written != data[1:] and not issubclass(kind, codec.Document):
        raise NotTheSameError(kind.__name__)
    try:
        again = codec.decode(written, kind)
    except SealbusError as error:
        raise NotTheSameError(kind.__name__) from error
    if again != read:
        raise NotTheSameError(kind.__name__)
    return read


class _Heard(list[tuple[object, ...]]):
    """What a parser of NATS told."""

    def on_message(self, sid: int, subject: bytes, reply: bytes, payload: memoryview, headers: bytes) -> None:
        self.append((sid, subject, reply, bytes(payload), headers))

    def on_ping(self) -> None:
        self.append(("ping",))

    def on_pong(self) -> None:
        self.append(("pong",))

    def on_error(self, text: str) -> None:
        self.append(("error", text))


def _feed(data: bytes) -> object:
    """Feed a stream whole and cut in two, where its first two bytes say; what was told must be the same."""
    cut, stream = int.from_bytes(data[:2]), data[2:]
    whole, whole_broke = _told(stream)
    pieces, pieces_broke = _told(stream[:cut], stream[cut:])
    # A line that is longer than a parser waits for may be taken if it came at once, so one may break alone.
    shorter = min(len(whole), len(pieces))
    if whole[:shorter] != pieces[:shorter] or (whole != pieces and not (whole_broke or pieces_broke)):
        raise NotTheSameError("a stream and its pieces")
    return pieces, pieces_broke


def _told(*pieces: bytes) -> tuple[_Heard, str]:
    heard = _Heard()
    parser = NatsParser(heard, MAX_PAYLOAD)
    try:
        for piece in pieces:
            parser.feed(piece)
    except BrokenError as error:
        return heard, str(error)
    return heard, ""


def _assessor(world: World) -> Callable[[bytes], object]:
    """Read the part that the first byte names, beside the others as they were: the door of the tool."""
    parts = [(platform, name) for platform, name, _ in world.parts()]

    def read(data: bytes) -> object:
        if not data:
            return None
        platform, name = parts[data[0] % len(parts)]
        evidence, endorsements = world.with_part(platform, name, data[1:])
        return as_json(assess(evidence, endorsements, now=NOW), platform, Basis(NOW, NOW, "fuzz"))

    return read
