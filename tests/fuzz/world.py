"""The evidence and endorsements that an input is put beside: whole, but for the part that is fuzzed.

The lab's machines have new keys in every process, and an input that broke something may only do so beside
the chain that it was found beside. So a world can be written down, and read back by whoever repeats it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from attestation.tdx.collateral import read_chain
from attestation.tdx.parse import parse_quote
from attestation.x509 import Certificate
from schemas import codec
from schemas.evidence import NITRO, SEV_SNP, TDX, Endorsements, Evidence

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PLATFORMS = (SEV_SNP, TDX, NITRO)
EVIDENCE = "evidence"  # the name of the part that is no endorsement

Said = dict[str, tuple[str, bytes, Endorsements]]


@dataclass(frozen=True)
class World:
    """What one machine of each platform said: media type, evidence, endorsements."""

    said: Said

    @classmethod
    def from_bytes(cls, data: bytes) -> "World":
        """Read a world that was written down."""
        return cls(codec.decode(data, Said))

    def to_bytes(self) -> bytes:
        """Write it down."""
        return codec.encode(self.said)

    def parts(self) -> Iterator[tuple[str, str, bytes]]:
        """Give every platform, part and its bytes, in the same order each time."""
        for platform in PLATFORMS:
            _, value, endorsements = self.said[platform]
            yield platform, EVIDENCE, value
            for name in sorted(endorsements):
                yield platform, name, endorsements[name]

    def with_part(self, platform: str, name: str, data: bytes) -> tuple[Evidence, Endorsements]:
        """Return what a platform said, with one part of it replaced."""
        media_type, value, endorsements = self.said[platform]
        if name == EVIDENCE:
            return Evidence(media_type, data), endorsements
        return Evidence(media_type, value), {**endorsements, name: data}

    def endorsement(self, name: str) -> bytes:
        """Return an endorsement by its name; no two platforms share one."""
        return next(data for _, part, data in self.parts() if part == name)

    @property
    def pck(self) -> Certificate:
        """Return the certificate of the TDX platform."""
        return read_chain(parse_quote(self.said[TDX][1]).pck_chain, 3)[0]

    @property
    def collateral(self) -> Mapping[str, bytes]:
        """Return Intel's documents."""
        return self.said[TDX][2]
