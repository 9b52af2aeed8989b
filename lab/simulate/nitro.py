"""A simulated Nitro machine: documents of an enclave, with a chain through region, zone and instance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256, sha384
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from attestation import nitro
from lab.simulate import certificates
from schemas.evidence import Endorsements, Evidence

ROOT_LIFETIME = timedelta(days=30 * 365)  # as AWS's
REGION, ZONE = "lab-1", "lab-1a"

# The authorities between root and enclave, with the path length and life that AWS gives them.
_AUTHORITIES = (
    (f"{REGION}.aws.nitro-enclaves", 2, timedelta(days=20)),
    (f"{ZONE}.zonal.{REGION}.aws.nitro-enclaves", 1, timedelta(days=5)),
    (f"instance.{REGION}.aws.nitro-enclaves", 0, timedelta(days=1)),
)
LEAF_LIFETIME = timedelta(hours=3, seconds=3)
BACKDATED = timedelta(seconds=3)  # so that a clock which is a little behind takes a new certificate

PROTECTED = cbor2.dumps({1: -35})  # ES384
PCRS = 16
ZERO = bytes(48)


def make_root(now: datetime) -> dict[str, bytes]:
    """Make the simulated AWS: its root and nothing else, because all below lives for days."""
    key = ec.generate_private_key(ec.SECP384R1())
    root = certificates.make_ca(
        "aws.nitro-enclaves",
        key,
        serial=x509.random_serial_number(),
        not_before=now.replace(microsecond=0) - timedelta(days=1),
        lifetime=ROOT_LIFETIME,
    )
    return {"root.pem": certificates.pem(key), "root.der": certificates.der(root)}


@dataclass(frozen=True, slots=True)
class NitroCard:
    """One simulated instance: its card signs documents under the simulated AWS."""

    instance_id: str
    root_certificate: x509.Certificate = field(repr=False)
    root_key: ec.EllipticCurvePrivateKey = field(repr=False)
    keys: tuple[ec.EllipticCurvePrivateKey, ...] = field(repr=False)  # region, zone, instance, enclave

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], *, serial: int) -> "NitroCard":
        """Make the instance of this serial number, under the root in `files`."""
        return cls(
            instance_id="i-" + sha256(b"sealbus lab nitro instance %d" % serial).hexdigest()[:17],
            root_certificate=certificates.load_certificate(files, "root.der"),
            root_key=certificates.load_ec_key(files, "root.pem"),
            keys=tuple(ec.generate_private_key(ec.SECP384R1()) for _ in range(4)),
        )

    @property
    def root(self) -> str:
        """Name the root as a policy does."""
        return sha256(certificates.der(self.root_certificate)).hexdigest()

    def evidence(
        self,
        measurements: Mapping[str, bytes],
        key_binding: bytes,
        challenge: bytes,
        *,
        now: datetime,
        debug: bool = False,
    ) -> tuple[Evidence, Endorsements]:
        """Attest to an enclave with these measurements; the document carries its own chain."""
        fields = self.fields(measurements, key_binding, challenge, now=now, debug=debug)
        return Evidence(nitro.MEDIA_TYPE, self.sign(fields)), {}

    def fields(
        self,
        measurements: Mapping[str, bytes],
        key_binding: bytes,
        challenge: bytes,
        *,
        now: datetime,
        debug: bool = False,
    ) -> dict[str, Any]:
        """Fill in a document, in the module's order; in debug mode it reports zeros for PCR 0 to 2."""
        leaf, bundle = self.chain(now)
        pcrs = dict.fromkeys(range(PCRS), ZERO)
        # As the module extends it: from zero, by the hash of the parent's instance id.
        pcrs[4] = sha384(ZERO + sha384(self.instance_id.encode()).digest()).digest()
        if not debug:
            pcrs.update({index: measurements[f"pcr{index}"] for index in (0, 1, 2)})
        return {
            "module_id": f"{self.instance_id}-enc{self.instance_id[2:18]}",
            "digest": "SHA384",
            "timestamp": round(now.timestamp() * 1000),
            "pcrs": pcrs,
            "certificate": leaf,
            "cabundle": bundle,
            "public_key": None,
            "user_data": key_binding,
            "nonce": challenge,
        }

    def sign(self, fields: Mapping[str, Any]) -> bytes:
        """Sign a document: COSE_Sign1, untagged, over a map of indefinite length as modules now write."""
        members = b"".join(cbor2.dumps(name) + cbor2.dumps(value) for name, value in fields.items())
        return self.sign_payload(b"\xbf" + members + b"\xff")

    def sign_payload(self, payload: bytes) -> bytes:
        """Sign any bytes as the payload of a document."""
        to_be_signed = cbor2.dumps(["Signature1", PROTECTED, b"", payload])
        r, s = decode_dss_signature(self.keys[3].sign(to_be_signed, ec.ECDSA(SHA384())))
        return cbor2.dumps([PROTECTED, {}, payload, r.to_bytes(48) + s.to_bytes(48)])

    def chain(self, now: datetime) -> tuple[bytes, list[bytes]]:
        """Issue the certificates of this moment: the enclave's, and the bundle with the root first."""
        since = now.replace(microsecond=0) - BACKDATED
        above: tuple[x509.Certificate, certificates.Key] = (self.root_certificate, self.root_key)
        bundle = [certificates.der(self.root_certificate)]
        for key, (name, path_length, lifetime) in zip(self.keys, _AUTHORITIES, strict=False):
            authority = certificates.make_ca(
                name,
                key,
                serial=x509.random_serial_number(),
                not_before=since,
                lifetime=lifetime,
                path_length=path_length,
                issuer=above,
            )
            above = (authority, key)
            bundle.append(certificates.der(authority))
        return self._leaf(above, since), bundle

    def _leaf(self, issuer: tuple[x509.Certificate, certificates.Key], since: datetime) -> bytes:
        builder = (
            x509.CertificateBuilder(
                issuer[0].subject,
                certificates.distinguished_name(f"{self.instance_id}-enc.{REGION}.aws"),
                self.keys[3].public_key(),
                x509.random_serial_number(),
            )
            .not_valid_before(since)
            .not_valid_after(since + LEAF_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(certificates.key_usage(certificate_sign=False), critical=False)
        )
        return certificates.der(builder.sign(issuer[1], SHA384()))
