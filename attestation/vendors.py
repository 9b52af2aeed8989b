"""The manufacturers' roots that the product pins, and the policy that judges evidence without a mesh."""

from schemas.evidence import NITRO, SEV_SNP, TDX, PlatformValues, ProductValues
from schemas.vendor_roots import AMD_ROOTS, VENDOR_ROOTS

__all__ = ["AMD_ROOTS", "BUILT_IN", "VENDOR_ROOTS", "built_in_for"]

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
