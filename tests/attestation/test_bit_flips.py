"""No bit of genuine evidence can change, neither in what is signed nor in the signature."""

from pathlib import Path
from random import Random

import cbor2
import pytest

from attestation import AttestationError, sev_snp
from attestation.appraise import verify
from attestation.sev_snp.parse import SIGNATURE_FIELD, SIGNED_SIZE
from attestation.tdx.parse import parse_quote
from schemas.evidence import NITRO, PLATFORMS, SEV_SNP, TDX, Evidence
from tests.attestation.vectors import Vector, folders, load, parameters, present

GENUINE = [each for each in folders(*PLATFORMS) if not each.name.startswith("neg-")]
QUICK = 12  # of each vector: a few hundred in all
EXHAUSTIVE = 400


def spans(vector: Vector) -> list[tuple[int, int]]:
    """Return where the signed bytes and the signatures lie in the evidence."""
    value = vector.evidence.value
    if vector.platform == SEV_SNP:
        return [(0, SIGNED_SIZE), (SIGNED_SIZE, SIGNED_SIZE + 2 * SIGNATURE_FIELD)]
    if vector.platform == TDX:
        quote = parse_quote(value)
        parts = (quote.signature, quote.attestation_key, quote.qe_report_signed, quote.qe_report_signature)
        body = [(0, len(quote.signed))]
        body += [(start, start + len(part)) for part in parts for start in (value.index(part),)]
        authentication = value.index(quote.qe_report_signature) + 64 + 2
        return [*body, (authentication, authentication + len(quote.qe_authentication_data))]
    frame = value.removeprefix(b"\xd2")
    [_, _, body, signature] = cbor2.loads(frame[: frame.rindex(cbor_signature(frame)) + 96])
    start, end = value.index(body), value.index(signature)
    return [(start, start + len(body)), (end, end + len(signature))]


def cbor_signature(frame: bytes) -> bytes:
    """Return the last item of a COSE_Sign1, a byte string of 96."""
    at = frame.rindex(b"\x58\x60")
    return frame[at + 2 : at + 98]


def flipped(value: bytes, bit: int) -> bytes:
    position = bit // 8
    return value[:position] + bytes((value[position] ^ 1 << bit % 8,)) + value[position + 1 :]


def survivors(vector: Vector, count: int) -> list[int]:
    """Flip `count` random bits in each span, one at a time; return those that were not noticed."""
    verify(vector.evidence, vector.endorsements, now=vector.now)
    random = Random(vector.folder.name)  # the same bits in every run
    unnoticed = []
    for start, end in spans(vector):
        for bit in (random.randrange(8 * start, 8 * end) for _ in range(count)):
            changed = Evidence(vector.evidence.type, flipped(vector.evidence.value, bit))
            try:
                verify(changed, vector.endorsements, now=vector.now)
            except AttestationError:
                continue
            unnoticed.append(bit)
    return unnoticed


@pytest.mark.parametrize("folder", parameters(GENUINE))
def test_random_bits_of_signed_bytes_and_signatures_are_all_noticed(folder: Path | None) -> None:
    assert survivors(load(present(folder)), QUICK) == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", parameters(GENUINE))
def test_many_bits_of_signed_bytes_and_signatures_are_all_noticed(folder: Path | None) -> None:
    assert survivors(load(present(folder)), EXHAUSTIVE) == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", parameters([each for each in GENUINE if each.parent.name == SEV_SNP][:1]))
def test_every_bit_of_a_report_is_noticed(folder: Path | None) -> None:
    vector = load(present(folder))
    for bit in range(8 * len(vector.evidence.value)):
        with pytest.raises(AttestationError):
            sev_snp.verify(flipped(vector.evidence.value, bit), vector.endorsements, now=vector.now)


def test_every_platform_has_its_signed_bytes_among_them() -> None:
    present(GENUINE[0] if GENUINE else None)
    assert {each.parent.name for each in GENUINE} == {SEV_SNP, TDX, NITRO}
