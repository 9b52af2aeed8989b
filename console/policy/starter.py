"""The policy that an operator starts from: commented, strict, and complete but for what only operators know.

Pure. Each gap is a placeholder that no field accepts, so a starter can't be signed by mistake.
"""

from collections.abc import Sequence

from attestation.amd_names import LEAKED
from attestation.vendors import AMD_ROOTS, VENDOR_ROOTS
from schemas.evidence import MEASURED, NITRO, SEV_SNP, TDX
from schemas.messages import Millis
from schemas.placeholders import placeholder

_HEAD = """\
#:schema ./policy.schema.json
# (for completion in an editor: sealbus policy schema > policy.schema.json)

# The policy of one mesh: everything that its operators decide. What is not allowed here is refused.
# Fill in what says so, then: sealbus policy check, policy sign (each operator), policy show.

mesh = "{mesh}"
version = 1        # rises by one with every change
# predecessor = "…"  # from version 2 on: the hash that `sealbus policy show` prints of the version before
issued = {issued}  # milliseconds since 1970
# not_before = …   # no coordinator adopts this policy earlier
# expires = …      # nor from here on, so that a signed policy does not lie about for ever
"""

_PLATFORMS = {
    SEV_SNP: """
# ---- AMD SEV-SNP: what is demanded of every machine, whatever runs on it.
[platforms.sev-snp]
roots = [
{roots}
]
{crl}
{keys}# features = ["alias-check"]   # refuse machines whose firmware does not check for aliased memory

# The processor lines that are accepted. Floors make old firmware unacceptable:
# minimum_tcb = {{ snp = 23, microcode = 84 }}, minimum_committed_tcb = {{ snp = 22 }}
{products}
{leaked}
""",
    TDX: """
# ---- Intel TDX: what is demanded of every machine, whatever runs on it.
[platforms.tdx]
roots = ["{roots}"]
statuses = ["UpToDate", "SWHardeningNeeded"]
max_collateral_days = 30   # since Intel issued it: the network can't hold back news for longer
# minimum_tcb = {{ TCB_EVALUATION_DATA_NUMBER = 19 }}
# A status or advisory that you live with until a day, after which it is refused again:
# exceptions = [{{ accept = "OutOfDate", until = 2027-01-31T00:00:00Z }}]
""",
    NITRO: """
# ---- AWS Nitro Enclaves: what is demanded of every document.
[platforms.nitro]
roots = ["{roots}"]
max_evidence_seconds = 300
""",
}

_LEFT_OUT = """\
#
# {line} is left out on purpose: a root of its keys was extracted by software (arXiv 2605.12990), so that
# evidence of any {line} chip can be forged. If you must: uncomment its root and the line below, and name
# `chips = ["…"]` beside the measurements of every workload that runs there. Evidence of {line} is accepted
# from named chips only (decision 0020).
# [platforms.sev-snp.products.{line}]"""

_TAKEN_IN = """\
#
# A root of {line}'s keys was extracted by software (arXiv 2605.12990), so that evidence of any {line} chip
# can be forged. It is accepted from the chips that workloads name below, and from no others (decision 0020).
[platforms.sev-snp.products.{line}]"""

_CRL = "require_crl = true   # without the revocation list a revoked certificate would pass"
_NO_CRL = """\
# require_crl = true   # what was recorded came without a revocation list: get it, as `sealbus collateral
#                      # fetch` does, and uncomment this, for without it a revoked certificate passes"""

_KEYS = """\
# keys = ["vcek"]   # a chip's own key alone: a cloud's (VLEK) is accepted as well, and proves no chip
# clouds = ["…"]    # whose VLEKs alone: the CSP_ID that `sealbus evidence verify` shows
"""

_WORK = """
# ---- Workloads: an image, the roles it may hold, and what it measures as on each platform.
[workloads.worker]
roles = ["worker"]
"""

_RIGHTS = """
# ---- Clients: principals outside any enclave, known by their key alone.
[clients.desk]
key = "{client}"
roles = ["requester"]

# ---- What there is to do: classes of tasks with the role that takes them, tools with the role that offers
# them, and, in [messages], kinds of one-way messages with the role that takes them. Names are lower-case.
[classes]
work = {{ role = "worker", lifetime_seconds = 3600 }}

[tools]
look-up = "worker"

# ---- Rules: who may do what. Deny is the default, and a rule with `deny` in the place of `may` wins over all
# that permit. A rule may say as well: max_bytes, per_minute, days = ["mon"], hours = "08:00-18:00" (UTC),
# until = 2027-01-31T00:00:00Z, and a JSON Schema:
# arguments = {{ type = "object", properties = {{ limit = {{ type = "integer", maximum = 10 }} }} }}
[[rules]]
role = "requester"
may = "submit"       # tasks of a class
what = "work"
max_bytes = 1_000_000

[[rules]]
role = "requester"
may = "call"         # a tool
what = "look-up"
per_minute = 60

[limits]
admission_seconds = 600    # evidence is asked for anew at half of it
grace_seconds = 10         # how long a revocation can be withheld at most
role_epoch_seconds = 3600
# operator_lease_seconds = 86400   # nobody is live when operators were not heard for so long
"""


def starter(platforms: Sequence[str], *, issued: Millis, mesh: str | None = None) -> str:
    """Return the text of a starter for some platforms, its coordinator on the first of them."""
    parts = [head(issued=issued, mesh=mesh)]
    parts += [platform_section(name) for name in platforms]
    parts.append("\n# ---- The coordinator's image: what agents expect before they say anything to it.\n")
    parts.append(measurement_section(f"coordinators.{platforms[0]}", platforms[0], "the coordinator's image"))
    parts.append(_WORK)
    parts += [
        measurement_section(f"workloads.worker.on.{name}", name, "the worker's image") for name in platforms
    ]
    parts.append(_RIGHTS.format(client=placeholder("the public key of this client, 64 hexadecimal digits")))
    return "".join(parts)


def head(*, issued: Millis, mesh: str | None) -> str:
    """Return what a policy begins with."""
    filled = mesh or placeholder("the mesh, which `sealbus policy anchor` prints")
    return _HEAD.format(mesh=filled, issued=f"{issued:_}")


def platform_section(name: str, *, leaked_too: bool = False, crl: bool = True, keys: str = "") -> str:
    """Return what is demanded of a manufacturer's platform.

    Of SEV-SNP: `leaked_too` names the line as well whose keys have leaked, `crl` demands a revocation list,
    `keys` are lines about the keys that sign, if not those of a starter.
    """
    if name != SEV_SNP:
        return _PLATFORMS[name].format(roots=VENDOR_ROOTS[name][0])
    (leaked,) = LEAKED
    off = "" if leaked_too else "# "
    roots = [
        f'    {off if line == leaked else ""}"{root}",  # ARK of {line}' for line, root in AMD_ROOTS.items()
    ]
    products = [f"[platforms.sev-snp.products.{line}]" for line in AMD_ROOTS if line != leaked]
    return _PLATFORMS[name].format(
        roots="\n".join(roots),
        products="\n".join(products),
        crl=_CRL if crl else _NO_CRL,
        keys=keys or _KEYS,
        leaked=(_TAKEN_IN if leaked_too else _LEFT_OUT).format(line=leaked),
    )


def measurement_section(table: str, platform: str, image: str) -> str:
    """Return placeholders for an image's measurements."""
    lines = [f'{name} = "{placeholder(f"{name} of {image}")}"' for name in MEASURED[platform]]
    return "\n".join([f"\n[{table}.measurements]", *lines, ""])
