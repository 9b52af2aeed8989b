"""The manufacturers' roots that the product pins, and the policy that judges evidence without a mesh."""

from schemas.evidence import NITRO, SEV_SNP, TDX, PlatformValues, ProductValues

# SHA-256 of the certificates in DER: ARKs by processor line; Intel SGX Root CA; AWS Nitro Enclaves G1.
AMD_ROOTS = {
    "Milan": "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    "Genoa": "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    "Turin": "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
}
VENDOR_ROOTS = {
    SEV_SNP: tuple(AMD_ROOTS.values()),
    TDX: ("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",),
    NITRO: ("641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b",),
}

# A judge of anybody's evidence names no chips, so Milan's are let pass, with their advisory.
_PRODUCTS = {"Milan": ProductValues(any_chip=True), "Genoa": ProductValues(), "Turin": ProductValues()}

BUILT_IN = {
    SEV_SNP: PlatformValues(roots=VENDOR_ROOTS[SEV_SNP], products=_PRODUCTS),
    TDX: PlatformValues(roots=VENDOR_ROOTS[TDX]),
    NITRO: PlatformValues(roots=VENDOR_ROOTS[NITRO]),
}


def built_in_for(platform: str, root: str | None) -> PlatformValues:
    """Return the built-in policy of a platform, for another root in place of the manufacturer's if given."""
    values = BUILT_IN[platform]
    if root is None:
        return values
    return PlatformValues(lab_roots=(root,), products=values.products)
