"""The manufacturers' roots by fingerprint: SHA-256 of their certificates in DER."""

from typing import Final

from schemas.evidence import NITRO, SEV_SNP, TDX

# ARKs by processor line; Intel SGX Root CA; AWS Nitro Enclaves G1.
AMD_ROOTS: Final = {
    "Milan": "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    "Genoa": "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    "Turin": "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
}
VENDOR_ROOTS: Final = {
    SEV_SNP: tuple(AMD_ROOTS.values()),
    TDX: ("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",),
    NITRO: ("641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b",),
}
EVERY_VENDOR_ROOT: Final = frozenset(root for roots in VENDOR_ROOTS.values() for root in roots)
