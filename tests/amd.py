"""A simulated AMD for tests that need no stranger: the keys, seconds of work, are made once in a process."""

from datetime import datetime
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa

from lab.simulate import sev_snp


@cache
def keys() -> tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey]:
    return sev_snp.new_key(), sev_snp.new_key()


def amd_root(now: datetime) -> dict[str, bytes]:
    """Make what `sev_snp.make_root` makes, with the same keys each time."""
    return sev_snp.root_of(now, *keys())
