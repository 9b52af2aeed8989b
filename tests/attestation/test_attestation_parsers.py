"""Any bytes parse or give a typed error; what the encoders write the readers read; formats are as stated."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from cryptography import x509 as independent
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import AttestationError, EvidenceMalformedError, NotGenuineError, der, nitro, sev_snp, x509
from attestation.nitro import cbor
from lab.simulate import certificates
from lab.simulate.nitro import NitroCard
from lab.simulate.sev_snp import SevSnpChip
from schemas.errors import Reason, UsageError

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HASH = SHA384()

PARSERS: list[Callable[[bytes], Any]] = [
    sev_snp.parse,
    nitro.parse,
    cbor.read,
    x509.read_certificate,
    lambda data: x509.read_revoked(x509.read_revocation_list(data)),
    x509.load_public_key,
    lambda data: der.read_oid(der.Reader(data)),
    lambda data: der.read_integer(der.Reader(data)),
    lambda data: der.read_bits(der.Reader(data)),
    lambda data: der.read_boolean(der.Reader(data)),
    lambda data: der.read_time(der.Reader(data)),
]


def refuse_or_return(parse: Callable[[bytes], Any], data: bytes) -> None:
    try:
        parse(data)
    except AttestationError:
        return


@settings(deadline=None)  # signatures on a busy machine
@given(st.binary(max_size=2048))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    for parse in PARSERS:
        refuse_or_return(parse, data)


@given(st.binary(min_size=0x4A0, max_size=0x4A0))
def test_any_report_of_the_right_size_parses_or_is_refused(data: bytes) -> None:
    known = (3).to_bytes(4, "little") + data[4:8] + (0x30000).to_bytes(8, "little") + data[16:]
    refuse_or_return(sev_snp.parse, known)


@settings(deadline=None)  # signatures on a busy machine
@given(data=st.binary(max_size=64), position=st.integers(0, 4000), size=st.integers(0, 64))
def test_damaged_certificates_and_lists_parse_or_are_refused(
    chip: SevSnpChip, data: bytes, position: int, size: int
) -> None:
    for name in ("vcek.der", "ark.der", "crl.der"):
        good = chip.endorsements[name]
        at = position % len(good)
        damaged = good[:at] + data + good[at + size :]
        refuse_or_return(x509.read_certificate, damaged)
        refuse_or_return(lambda data: x509.read_revoked(x509.read_revocation_list(data)), damaged)


@settings(deadline=None)  # signatures on a busy machine
@given(data=st.binary(max_size=8), position=st.integers(0, 5000), size=st.integers(0, 8))
def test_damaged_documents_verify_or_are_refused(
    card: NitroCard, data: bytes, position: int, size: int
) -> None:
    evidence, _ = card.evidence(
        dict.fromkeys(("pcr0", "pcr1", "pcr2"), b"\1" * 48), bytes(64), bytes(32), now=NOW
    )
    at = position % len(evidence.value)
    damaged = evidence.value[:at] + data + evidence.value[at + size :]
    refuse_or_return(lambda value: nitro.verify(value, {}, now=NOW), damaged)


@settings(deadline=None)  # signatures on a busy machine
@given(
    st.dictionaries(st.sampled_from(["vcek.der", "ask.der", "ark.der", "crl.der"]), st.binary(max_size=99))
)
def test_any_endorsements_are_refused(chip: SevSnpChip, endorsements: dict[str, bytes]) -> None:
    report = chip.sign(chip.body({"measurement": bytes(48), "host_data": bytes(32)}, bytes(64)))
    with pytest.raises(AttestationError):
        sev_snp.verify(report, endorsements, now=NOW)


# DER


@given(st.integers(0, 2**248 - 1))
def test_integers_read_back(number: int) -> None:
    assert der.read_integer(der.Reader(der.integer(number))) == number


@given(
    st.tuples(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**32), max_size=5)).map(
        lambda arcs: ".".join(map(str, (arcs[0], arcs[1], *arcs[2])))
    )
)
def test_object_identifiers_read_back(dotted: str) -> None:
    assert der.read_oid(der.Reader(der.oid(dotted))) == dotted


@given(st.integers(-20 * 365 * 86_400, 130 * 365 * 86_400))
def test_times_read_back(seconds: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert der.read_time(der.Reader(der.time(moment))) == moment


@given(st.binary(max_size=70_000))
def test_items_read_back(content: bytes) -> None:
    reader = der.Reader(der.item(der.OCTET_STRING, content) + b"\x05\x00")
    assert reader.content(der.OCTET_STRING) == content
    assert reader.content(der.NULL) == b""
    reader.finish()


@pytest.mark.parametrize(
    "encoded",
    [
        "3080020100 0000",  # indefinite length
        "308103020100",  # length in more octets than it needs
        "30820003020100",
        "3084000000030201 00",  # more octets than we follow
        "3003020100 00",  # goes on
        "3004020100",  # cut short
        "30",
        "",
    ],
)
def test_der_that_is_not_der_is_malformed(encoded: str) -> None:
    with pytest.raises(EvidenceMalformedError):
        der.read_only(bytes.fromhex(encoded), der.SEQUENCE)


@pytest.mark.parametrize("encoded", ["0200", "020180", "02020001", "0221" + "01" * 33])
def test_integer_that_is_empty_negative_padded_or_endless_is_malformed(encoded: str) -> None:
    with pytest.raises(EvidenceMalformedError):
        der.read_integer(der.Reader(bytes.fromhex(encoded)))


@pytest.mark.parametrize(
    "text", [b"261123120000", b"2611231200Z", b"261323120000Z", b"2611231200+0Z", b"26112312000\xb2Z"]
)
def test_time_in_another_form_is_malformed(text: bytes) -> None:
    with pytest.raises(EvidenceMalformedError):
        der.read_time(der.Reader(der.item(der.UTC_TIME, text)))


def test_leftover_items_are_malformed() -> None:
    reader = der.Reader(der.integer(1))
    with pytest.raises(EvidenceMalformedError):
        reader.finish()


# X.509


def test_certificates_read_as_an_independent_reader_reads_them(card: NitroCard) -> None:
    leaf, bundle = card.chain(NOW)
    for encoded in (leaf, *bundle):
        ours, theirs = x509.read_certificate(encoded), independent.load_der_x509_certificate(encoded)
        assert ours.serial == theirs.serial_number
        assert (ours.not_before, ours.not_after) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)
        assert (ours.subject, ours.issuer) == (theirs.subject.public_bytes(), theirs.issuer.public_bytes())
        [name] = theirs.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert ours.common_name == name.value
        assert ours.signed == theirs.tbs_certificate_bytes
        assert ours.signature == theirs.signature
        assert ours.fingerprint == theirs.fingerprint(SHA256()).hex()
        assert {each.oid.dotted_string: each.critical for each in theirs.extensions} == {
            name: extension.critical for name, extension in ours.extensions.items()
        }


def test_vcek_has_serial_number_zero_and_raw_hardware_id(chip: SevSnpChip) -> None:
    vcek = x509.read_certificate(chip.endorsements["vcek.der"])
    assert vcek.serial == 0
    assert vcek.extensions["1.3.6.1.4.1.3704.1.4"].value == chip.chip_id
    with pytest.warns(CryptographyDeprecationWarning, match="serial number"):
        independent.load_der_x509_certificate(chip.endorsements["vcek.der"])


Chain = list[x509.Certificate]


def build(
    *,
    path_lengths: tuple[int | None, ...] = (None, 0),
    extra: independent.Extension[Any] | None = None,
    patch: tuple[str, str] = ("", ""),
) -> Chain:
    """Build root, intermediates and leaf of P-384, whose chain is sound unless told otherwise.

    `patch` changes bytes of the leaf's issuer before its own issuer signs it.
    """
    since = NOW - timedelta(days=1)
    above: tuple[independent.Certificate, certificates.Key] | None = None
    chain: list[bytes] = []
    signers: list[ec.EllipticCurvePrivateKey] = []
    for number, path_length in enumerate(path_lengths):
        key = ec.generate_private_key(ec.SECP384R1())
        authority = certificates.make_ca(
            f"authority {number}",
            key,
            serial=number + 1,
            not_before=since,
            lifetime=timedelta(days=9),
            path_length=path_length,
            issuer=above,
        )
        above = (authority, key)
        signers.append(key)
        chain.insert(0, certificates.der(authority))
    assert above is not None
    leaf_key = ec.generate_private_key(ec.SECP384R1())
    builder = (
        independent.CertificateBuilder(
            above[0].subject, certificates.distinguished_name("leaf"), leaf_key.public_key(), 99
        )
        .not_valid_before(since)
        .not_valid_after(since + timedelta(days=9))
    )
    if extra is not None:
        builder = builder.add_extension(extra.value, critical=extra.critical)
    chain.insert(0, certificates.der(builder.sign(above[1], HASH)))
    old, new = (bytes.fromhex(each) for each in patch)
    body = der.read_only(chain[1], der.SEQUENCE).item(der.SEQUENCE)
    assert not old or body.count(old) == 1
    changed = body.replace(old, new) if old else body
    signature = der.bits(signers[-2].sign(changed, ec.ECDSA(HASH)))
    chain[1] = der.item(der.SEQUENCE, changed, x509.ECDSA_SHA384, signature)
    return [x509.read_certificate(each) for each in chain]


def refused_chain(chain: Chain, reason: Reason, *, now: datetime = NOW) -> None:
    with pytest.raises(NotGenuineError) as refusal:
        x509.verify_chain(chain, now=now)
    assert refusal.value.reason is reason


def extension(value: Any, *, critical: bool) -> independent.Extension[Any]:
    return independent.Extension(value.oid, critical, value)


def test_sound_chain_gives_the_leafs_key() -> None:
    chain = build()
    key = x509.verify_chain(chain, now=NOW)
    assert key.public_numbers() == x509.load_public_key(chain[0].key_info).public_numbers()


def test_chain_longer_than_an_authority_allows_is_refused() -> None:
    x509.verify_chain(build(path_lengths=(2, 1, 0)), now=NOW)
    refused_chain(build(path_lengths=(None, 0, 0)), Reason.CHAIN_INVALID)
    refused_chain(build(path_lengths=(0, None)), Reason.CHAIN_INVALID)


def test_certificate_that_names_another_issuer_than_the_one_who_signed_it_is_refused() -> None:
    leaf, *above = build()
    x509.verify_chain([leaf, *above], now=NOW)
    refused_chain([replace(leaf, issuer=above[1].subject), *above], Reason.CHAIN_INVALID)


def issued(name: str, by: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey) -> bytes:
    """Make an authority's certificate that names any issuer, whoever signs it."""
    made = certificates.make_ca(name, key, serial=7, not_before=NOW, lifetime=timedelta(days=1))
    content = der.read_only(certificates.der(made), der.SEQUENCE).content(der.SEQUENCE)
    subject = certificates.distinguished_name(name).public_bytes()
    # The issuer stands before the subject, and both are the same in what signs itself.
    issuer = certificates.distinguished_name(by).public_bytes()
    changed = der.item(der.SEQUENCE, content.replace(subject, issuer, 1))
    signature = der.bits(signer.sign(changed, ec.ECDSA(HASH)))
    return der.item(der.SEQUENCE, changed, x509.ECDSA_SHA384, signature)


@pytest.mark.parametrize(
    ("root", "middle", "sound"),
    [("root", "root", True), ("root", "rout", False), ("rout", "root", False)],
    ids=["sound", "an intermediate of another issuer", "a root of another issuer"],
)
def test_signed_names_say_who_issued_whom_up_to_the_root_itself(root: str, middle: str, sound: bool) -> None:
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(3)]
    above = independent.load_der_x509_certificate(issued("middle", middle, keys[1], keys[0]))
    leaf = (
        independent.CertificateBuilder(
            above.subject, certificates.distinguished_name("leaf"), keys[2].public_key(), 99
        )
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(keys[1], HASH)
    )
    chain = [
        x509.read_certificate(each)
        for each in (certificates.der(leaf), certificates.der(above), issued("root", root, keys[0], keys[0]))
    ]
    if sound:
        x509.verify_chain(chain, now=NOW)
    else:
        refused_chain(chain, Reason.CHAIN_INVALID)


def test_crl_says_nothing_of_a_certificate_that_another_issued() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    made = certificates.make_ca("a", key, serial=1, not_before=NOW, lifetime=timedelta(days=1))
    issuer = x509.read_certificate(certificates.der(made))
    listing = x509.read_revocation_list(
        certificates.make_crl(made, key, this_update=NOW, lifetime=timedelta(days=1))
    )
    own, other = (x509.read_certificate(issued("c", by, key, key)) for by in ("a", "b"))
    x509.verify_not_revoked(own, issuer, listing, now=NOW)
    with pytest.raises(NotGenuineError) as refusal:
        x509.verify_not_revoked(other, issuer, listing, now=NOW)
    assert refusal.value.reason is Reason.COLLATERAL_MISMATCH


@pytest.mark.parametrize(
    ("curve", "named", "by_its_name"),
    [
        (ec.SECP384R1(), x509.ECDSA_SHA256, x509.ECDSA_SHA384),
        (ec.SECP384R1(), x509.PSS_SHA384, x509.ECDSA_SHA384),
        (ec.SECP256R1(), x509.ECDSA_SHA384, x509.ECDSA_SHA256),
    ],
    ids=["P-384 as SHA-256", "P-384 as RSA", "P-256 as SHA-384"],
)
def test_signature_under_another_algorithm_than_it_names_is_none(
    curve: ec.EllipticCurve, named: bytes, by_its_name: bytes
) -> None:
    key = ec.generate_private_key(curve)
    made = certificates.make_ca("a", key, serial=1, not_before=NOW, lifetime=timedelta(days=1))
    body = der.read_only(certificates.der(made), der.SEQUENCE).item(der.SEQUENCE)
    digest = SHA384() if by_its_name == x509.ECDSA_SHA384 else SHA256()
    for algorithm, sound in ((by_its_name, True), (named, False)):
        # Both places name it, so it reads; and it is the key's, over these very bytes.
        [old] = [each for each in (x509.ECDSA_SHA256, x509.ECDSA_SHA384) if each in body]
        changed = der.item(der.SEQUENCE, der.Reader(body).content(der.SEQUENCE).replace(old, algorithm))
        signature = der.bits(key.sign(changed, ec.ECDSA(digest)))
        certificate = x509.read_certificate(der.item(der.SEQUENCE, changed, algorithm, signature))
        assert x509.is_signed_by(certificate.key_info, certificate) is sound


def test_leaf_issues_nothing() -> None:
    # The leaf of one chain as the authority of the next: no basic constraints.
    chain = build()
    refused_chain([chain[0], *chain], Reason.CHAIN_INVALID)


@pytest.mark.parametrize(
    ("old", "new"),
    [("30060101ff020100", "3006010100020100"), ("03020106", "03020102")],
    ids=["no CA", "key signs no certificates"],
)
def test_who_is_no_authority_issues_nothing(old: str, new: str) -> None:
    x509.verify_chain(build(patch=(old, old)), now=NOW)
    refused_chain(build(patch=(old, new)), Reason.CHAIN_INVALID)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA-2048", "P-521", "Ed25519"],
)
def test_key_that_no_vendor_uses_is_refused(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    with pytest.raises(NotGenuineError) as refusal:
        x509.load_public_key(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert refusal.value.reason is Reason.CHAIN_INVALID


def test_authority_whose_key_signs_no_lists_revokes_nothing() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    made = certificates.make_ca("a", key, serial=1, not_before=NOW, lifetime=timedelta(days=1))
    listing = x509.read_revocation_list(
        certificates.make_crl(made, key, this_update=NOW, lifetime=timedelta(days=1))
    )
    encoded = certificates.der(made)
    for usage, allowed in (("03020106", True), ("03020104", False)):
        issuer = x509.read_certificate(encoded.replace(bytes.fromhex("03020106"), bytes.fromhex(usage)))
        if allowed:
            x509.verify_not_revoked(issuer, issuer, listing, now=NOW)
            continue
        with pytest.raises(NotGenuineError) as refusal:
            x509.verify_not_revoked(issuer, issuer, listing, now=NOW)
        assert refusal.value.reason is Reason.CHAIN_INVALID


def test_authority_as_leaf_is_refused() -> None:
    refused_chain(build()[1:], Reason.CHAIN_INVALID)


def test_critical_extension_that_is_not_understood_is_refused() -> None:
    usage = independent.ExtendedKeyUsage([independent.oid.ExtendedKeyUsageOID.SERVER_AUTH])
    x509.verify_chain(build(extra=extension(usage, critical=False)), now=NOW)
    refused_chain(build(extra=extension(usage, critical=True)), Reason.CHAIN_INVALID)


def test_validity_is_inclusive_at_both_ends() -> None:
    chain = build()
    for now in (chain[0].not_before, chain[0].not_after):
        x509.verify_chain(chain, now=now)
    second = timedelta(seconds=1)
    refused_chain(chain, Reason.CERTIFICATE_NOT_YET_VALID, now=chain[0].not_before - second)
    refused_chain(chain, Reason.CERTIFICATE_EXPIRED, now=chain[0].not_after + second)


def test_certificate_that_names_two_algorithms_is_malformed(chip: SevSnpChip) -> None:
    outer = der.read_only(chip.endorsements["vcek.der"], der.SEQUENCE)
    body, _, signature = outer.item(der.SEQUENCE), outer.item(der.SEQUENCE), outer.item(der.BIT_STRING)
    with pytest.raises(EvidenceMalformedError):
        x509.read_certificate(der.item(der.SEQUENCE, body, x509.ECDSA_SHA384, signature))


def test_crl_that_names_two_algorithms_is_malformed(chip: SevSnpChip) -> None:
    outer = der.read_only(chip.endorsements["crl.der"], der.SEQUENCE)
    body, named, signature = outer.item(der.SEQUENCE), outer.item(der.SEQUENCE), outer.item(der.BIT_STRING)
    x509.read_revocation_list(der.item(der.SEQUENCE, body, named, signature))
    with pytest.raises(EvidenceMalformedError, match="CRL names two signature algorithms"):
        x509.read_revocation_list(der.item(der.SEQUENCE, body, x509.ECDSA_SHA384, signature))


def test_certificate_or_crl_with_more_behind_or_within_is_malformed(chip: SevSnpChip) -> None:
    for name, read in (("vcek.der", x509.read_certificate), ("crl.der", x509.read_revocation_list)):
        data = chip.endorsements[name]
        read(data)
        within = der.item(der.SEQUENCE, der.Reader(data).content(der.SEQUENCE), b"\x05\x00")
        for more in (data + b"\0", within):
            with pytest.raises(EvidenceMalformedError, match="DER has more items than its type"):
                read(more)


def test_certificate_with_an_extension_twice_is_malformed(chip: SevSnpChip) -> None:
    outer = der.read_only(chip.endorsements["vcek.der"], der.SEQUENCE)
    body, algorithm, signature = (
        outer.item(der.SEQUENCE),
        outer.item(der.SEQUENCE),
        outer.item(der.BIT_STRING),
    )
    once = der.item(der.SEQUENCE, der.oid("1.3.6.1.4.1.3704.1.1"), der.item(der.OCTET_STRING, der.integer(0)))
    assert body.count(once) == 1
    listed = body[body.index(once) :]  # extensions are last
    rest = der.Reader(body).content(der.SEQUENCE)
    rest = rest[: rest.index(der.item(der.context(3), der.item(der.SEQUENCE, listed)))]
    for extensions, sound in ((listed, True), (listed + once, False)):
        changed = der.item(der.SEQUENCE, rest, der.item(der.context(3), der.item(der.SEQUENCE, extensions)))
        encoded = der.item(der.SEQUENCE, changed, algorithm, signature)
        if sound:
            assert x509.read_certificate(encoded).signed == body
            continue
        with pytest.raises(EvidenceMalformedError, match="extensions are repeated"):
            x509.read_certificate(encoded)


def test_partial_crl_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    builder = (
        independent.CertificateRevocationListBuilder()
        .issuer_name(certificates.distinguished_name("authority"))
        .last_update(NOW)
        .next_update(NOW + timedelta(days=1))
    )
    for value in (independent.CRLNumber(1), independent.DeltaCRLIndicator(1)):
        critical = isinstance(value, independent.DeltaCRLIndicator)
        signed = builder.add_extension(value, critical=critical).sign(key, HASH)
        encoded = signed.public_bytes(Encoding.DER)
        if critical:
            with pytest.raises(NotGenuineError):
                x509.read_revocation_list(encoded)
        else:
            x509.read_revocation_list(encoded)


def test_crl_lists_what_was_revoked() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = certificates.make_ca("a", key, serial=1, not_before=NOW, lifetime=timedelta(days=1))
    listing = certificates.make_crl(issuer, key, revoked=[5, 7], this_update=NOW, lifetime=timedelta(days=1))
    assert x509.read_revoked(x509.read_revocation_list(listing)) == {5, 7}


def test_entries_of_a_list_are_read_when_its_signature_holds_and_not_before() -> None:
    key, other = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    made = certificates.make_ca("a", key, serial=1, not_before=NOW, lifetime=timedelta(days=1))
    issuer = x509.read_certificate(certificates.der(made))
    sound = certificates.make_crl(made, key, revoked=[5], this_update=NOW, lifetime=timedelta(days=1))
    content = der.read_only(sound, der.SEQUENCE).content(der.SEQUENCE)
    entry = der.item(der.SEQUENCE, der.item(der.SEQUENCE, der.integer(5), der.time(NOW)))
    assert content.count(entry) == 1
    junk = der.item(der.SEQUENCE, content.replace(entry, der.item(der.SEQUENCE, b"\x05\x00")))
    for signer, kind, reason in (
        (key, EvidenceMalformedError, Reason.MALFORMED),
        (other, NotGenuineError, Reason.SIGNATURE_INVALID),
    ):
        signature = der.bits(signer.sign(junk, ec.ECDSA(HASH)))
        listing = x509.read_revocation_list(der.item(der.SEQUENCE, junk, x509.ECDSA_SHA384, signature))
        with pytest.raises(kind) as refusal:
            x509.verify_not_revoked(issuer, issuer, listing, now=NOW)
        assert refusal.value.reason is reason


def test_oversized_certificates_and_lists_are_refused_unread() -> None:
    for parse in (x509.read_certificate, x509.read_revocation_list, nitro.parse):
        with pytest.raises(EvidenceMalformedError) as refusal:
            parse(b"\x30" * (10 << 20))
        assert refusal.value.reason is Reason.TOO_LARGE


# CBOR


PLAIN = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary() | st.text(max_size=9)
LISTS = st.lists(PLAIN, max_size=3)


@given(st.dictionaries(st.text(max_size=3) | st.integers(0, 99), PLAIN | LISTS, max_size=9) | LISTS | PLAIN)
def test_cbor_reads_back(value: Any) -> None:
    assert cbor.read(cbor2.dumps(value)) == value


def test_indefinite_arrays_and_maps_are_read() -> None:
    assert cbor.read(bytes.fromhex("bf61619f0203ff6162f6ff")) == {"a": [2, 3], "b": None}


@pytest.mark.parametrize(
    "encoded",
    [
        "d818 4100",  # a tag
        "c11a514b67b0",
        "f97e00",  # a float
        "f7",  # undefined
        "5f4100ff",  # a string in pieces
        "1801",  # not minimal
        "190001",
        "1b0000000000000001",
        "a2616101616102",  # a key twice
        "bf616101616102ff",
        "bf01010102ff",
        "a1810101",  # a key that is no key
        "a1f501",
        "8181818101",  # too deep
        "bf6161ff",  # a key without value
        "9f01",  # never ends
        "ff",
        "9bffffffffffffffff",  # more members than bytes
        "5bffffffffffffffff",
        "61ff",  # not UTF-8
        "0101",  # goes on
        "",
    ],
)
def test_cbor_beyond_what_modules_write_is_malformed(encoded: str) -> None:
    with pytest.raises(EvidenceMalformedError):
        cbor.read(bytes.fromhex(encoded))


def test_number_of_members_is_bounded() -> None:
    cbor.read(cbor2.dumps([0] * cbor.MAX_ITEMS))
    for encoded in (cbor2.dumps([0] * 65), b"\x9f" + bytes(65) + b"\xff"):
        with pytest.raises(EvidenceMalformedError):
            cbor.read(encoded)


# The lab's own files


def test_lab_files_that_are_missing_or_spoilt_are_the_users_to_mend(amd: dict[str, bytes]) -> None:
    for name in ("ask.pem", "ask.der", "ark.der", "crl.der"):
        with pytest.raises(UsageError, match="sealbus lab init"):
            SevSnpChip.from_files({key: value for key, value in amd.items() if key != name}, serial=1)
    for name in ("ask.pem", "ask.der"):
        with pytest.raises(UsageError, match="sealbus lab init"):
            SevSnpChip.from_files({**amd, name: b"junk"}, serial=1)
    with pytest.raises(UsageError, match="sealbus lab init"):
        NitroCard.from_files({"root.pem": amd["ask.pem"], "root.der": amd["ask.der"]}, serial=1)


def test_simulated_machines_show_no_key(chip: SevSnpChip, card: NitroCard) -> None:
    assert "key" not in repr(chip)
    assert "key" not in repr(card)


def test_each_serial_number_is_a_machine_of_its_own(amd: dict[str, bytes], chip: SevSnpChip) -> None:
    assert SevSnpChip.from_files(amd, serial=1).chip_id == chip.chip_id
    assert SevSnpChip.from_files(amd, serial=2).chip_id != chip.chip_id
