"""A simulated SEV-SNP machine: version 3 reports of a Genoa chip, with VCEK, ASK, ARK and CRL."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256, sha512

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation import der, sev_snp
from attestation.x509 import PSS_PADDING, PSS_SHA384
from lab.simulate import certificates
from schemas.evidence import Endorsements, Evidence

PRODUCT = "Genoa"
ROOT_LIFETIME = timedelta(days=25 * 365)  # as AMD's
VCEK_LIFETIME = timedelta(days=7 * 365)
ARK_SERIAL, ASK_SERIAL = 0x10000, 0x10001  # AMD numbers its authorities like this

# A TCB_VERSION as Genoa lays it out: boot loader, TEE, four reserved bytes, SNP, microcode.
TCB = bytes.fromhex("04000000000018db")
CPUID = bytes((0x19, 0x11, 0x01))
POLICY = 0x30000  # SMT allowed, and the bit that must be one
POLICY_DEBUG = 1 << 19

_AMD = "1.3.6.1.4.1.3704.1"
# Extensions of a VCEK in AMD's order: suffix of the object identifier, byte of TCB_VERSION.
_SPLS = (("3.1", 0), ("3.2", 1), ("3.4", 2), ("3.5", 3), ("3.6", 4), ("3.7", 5), ("3.3", 6), ("3.8", 7))


def make_root(now: datetime) -> dict[str, bytes]:
    """Make the simulated AMD: root and signing authority (RSA-4096, seconds of work) and an empty CRL."""
    return root_of(now, new_key(), new_key())


def new_key() -> rsa.RSAPrivateKey:
    """Draw a key of the length that AMD's authorities have."""
    return rsa.generate_private_key(public_exponent=65537, key_size=4096)


def root_of(now: datetime, ark_key: rsa.RSAPrivateKey, ask_key: rsa.RSAPrivateKey) -> dict[str, bytes]:
    """Make the simulated AMD that has these keys."""
    since = now.replace(microsecond=0) - timedelta(days=1)
    ark = certificates.make_ca(
        f"ARK-{PRODUCT}", ark_key, serial=ARK_SERIAL, not_before=since, lifetime=ROOT_LIFETIME
    )
    ask = certificates.make_ca(
        f"SEV-{PRODUCT}",
        ask_key,
        serial=ASK_SERIAL,
        not_before=since,
        lifetime=ROOT_LIFETIME,
        path_length=0,
        issuer=(ark, ark_key),
    )
    return {
        "ark.pem": certificates.pem(ark_key),
        "ark.der": certificates.der(ark),
        "ask.pem": certificates.pem(ask_key),
        "ask.der": certificates.der(ask),
        "crl.der": certificates.make_crl(ark, ark_key, this_update=since, lifetime=ROOT_LIFETIME),
    }


def make_vcek(
    files: Mapping[str, bytes],
    key: ec.EllipticCurvePublicKey,
    *,
    chip_id: bytes,
    tcb: bytes,
    not_before: datetime,
    lifetime: timedelta = VCEK_LIFETIME,
) -> bytes:
    """Make a VCEK as AMD does, down to serial number 0, which general builders refuse."""
    ask_key = certificates.load_rsa_key(files, "ask.pem")
    ask = certificates.load_certificate(files, "ask.der")
    extensions = [
        _extension("1", der.integer(0)),
        _extension("2", der.item(der.IA5_STRING, PRODUCT.encode())),
        *(_extension(suffix, der.integer(tcb[position])) for suffix, position in _SPLS),
        _extension("4", chip_id),  # raw bytes, as in every genuine one
    ]
    body = der.item(
        der.SEQUENCE,
        der.item(der.context(0), der.integer(2)),
        der.integer(0),
        PSS_SHA384,
        ask.subject.public_bytes(),
        der.item(der.SEQUENCE, der.time(not_before), der.time(not_before + lifetime)),
        certificates.distinguished_name("SEV-VCEK").public_bytes(),
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        der.item(der.context(3), der.item(der.SEQUENCE, *extensions)),
    )
    signature = ask_key.sign(body, PSS_PADDING, SHA384())
    return der.item(der.SEQUENCE, body, PSS_SHA384, der.bits(signature))


def _extension(suffix: str, value: bytes) -> bytes:
    return der.item(der.SEQUENCE, der.oid(f"{_AMD}.{suffix}"), der.item(der.OCTET_STRING, value))


@dataclass(frozen=True, slots=True)
class SevSnpChip:
    """One simulated processor: it signs reports with a key that the simulated AMD endorses."""

    chip_id: bytes
    endorsements: Endorsements = field(repr=False)
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], *, serial: int) -> "SevSnpChip":
        """Make the chip of this serial number, endorsed by the root in `files`."""
        key = ec.generate_private_key(ec.SECP384R1())
        chip_id = sha512(b"sealbus lab sev-snp chip %d" % serial).digest()
        since = certificates.load_certificate(files, "ask.der").not_valid_before_utc
        vcek = make_vcek(files, key.public_key(), chip_id=chip_id, tcb=TCB, not_before=since)
        given = {name: certificates.load_file(files, name) for name in ("ask.der", "ark.der", "crl.der")}
        return cls(chip_id, {"vcek.der": vcek, **given}, key)

    @property
    def root(self) -> str:
        """Name the root as a policy does."""
        return sha256(self.endorsements["ark.der"]).hexdigest()

    def evidence(
        self,
        measurements: Mapping[str, bytes],
        key_binding: bytes,
        challenge: bytes,
        *,
        now: datetime,
        debug: bool = False,
    ) -> tuple[Evidence, Endorsements]:
        """Attest to a guest with these measurements; a report has no clock and no room for a challenge."""
        del challenge, now
        report = self.sign(self.body(measurements, key_binding, debug=debug))
        return Evidence(sev_snp.MEDIA_TYPE, report), self.endorsements

    def body(self, measurements: Mapping[str, bytes], key_binding: bytes, *, debug: bool = False) -> bytes:
        """Lay out the signed part of a report (AMD publication 56860, ATTESTATION_REPORT)."""
        body = bytearray(0x2A0)
        for offset, value in (
            (0x000, (3).to_bytes(4, "little")),
            (0x008, (POLICY | (POLICY_DEBUG if debug else 0)).to_bytes(8, "little")),
            (0x034, (1).to_bytes(4, "little")),
            (0x038, TCB),
            (0x040, (0x25).to_bytes(8, "little")),
            (0x050, key_binding),
            (0x090, measurements["measurement"]),
            (0x0C0, measurements["host_data"]),
            (0x140, sha256(b"report id" + self.chip_id + measurements["measurement"]).digest()),
            (0x160, b"\xff" * 32),
            (0x180, TCB),
            (0x188, CPUID),
            (0x1A0, self.chip_id),
            (0x1E0, TCB),
            (0x1E8, bytes((29, 55, 1, 0, 29, 55, 1, 0))),
            (0x1F0, TCB),
        ):
            body[offset : offset + len(value)] = value
        return bytes(body)

    def sign(self, body: bytes) -> bytes:
        """Sign the body of a report as the firmware does: R and S little-endian, 72 bytes each."""
        r, s = decode_dss_signature(self.key.sign(body, ec.ECDSA(SHA384())))
        return body + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(0x170)
