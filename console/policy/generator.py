"""A policy proposed from evidence that was recorded: what runs is filled in, what it may do is not.

Pure. Evidence says which code runs on which chip; nothing in it says who should do what to whom, so rules are
suggestions in comments. Every machine that was seen is named by its chip, or by its
cloud where a VLEK signed, which proves no chip: wider is for a person to decide.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from attestation.amd_names import LEAKED
from attestation.claims import CRL, Genuine
from console.policy.starter import head, measurement_section, platform_section
from schemas.evidence import MEASURED, NITRO, VLEK
from schemas.messages import MAX_NAME, Millis
from schemas.policy import COORDINATOR

_NUMBER = re.compile(r"-[0-9]+$")
_NOT_A_NAME = re.compile(r"[^a-z0-9_-]+")

_SUGGESTIONS = """
# ---- Who may do what: nothing, until you say so. Names of classes, tools and contexts are yours to give:
# [clients.desk]
# key = "…"                   # 64 hexadecimal digits, from the client
# roles = ["requester"]
#
# [classes]
# work = {{ role = "{role}", lifetime_seconds = 3600 }}
#
# [tools]
# look-up = "{role}"
"""

_UNMEASURED = [
    "# CAREFUL: RTMR0 to 3 are zero, so nothing that was booted is measured here. MRTD is that of a",
    "# paravisor such as Azure's: every image that runs under it looks the same, and this pins none of them.",
]

_RULE = """
# [[rules]]
# role = "{role}"
# may = "call"                # or send, submit, read, write
# what = "look-up"
# per_minute = 60
# arguments = {{ type = "object", properties = {{ limit = {{ type = "integer", maximum = 10 }} }} }}
"""


class Seen(NamedTuple):
    """One enclave that was recorded, under the name of its folder."""

    name: str
    claims: Genuine

    @property
    def workload(self) -> str:
        """Return the name that its image gets: of its folder, without a number at the end."""
        name = _NOT_A_NAME.sub("-", self.meant).strip("-_")[:MAX_NAME]
        return name or "worker"

    @property
    def meant(self) -> str:
        """Return the same before anything is replaced or cut: who is alike only then is not the same."""
        last = self.name.rsplit("/", 1)[-1].lower()
        return _NUMBER.sub("", last) or last


Images = Mapping[str, Mapping[str, Sequence[Seen]]]  # workload, platform: who was seen


def proposal(
    seen: Sequence[Seen], left_out: Iterable[str], *, issued: Millis, lab: bool, mesh: str | None = None
) -> str:
    """Return the text of a policy under which all that was seen would be admitted.

    `left_out` says what was recorded and could not be used, and why. `lab`: all of it is under a lab's roots.
    """
    images = _images(seen)
    platforms = sorted({each.claims.platform for each in seen})
    parts = [head(issued=issued, mesh=mesh)]
    parts += [f"# Left out: {each}\n" for each in left_out]
    parts += [_platform(name, seen, lab) for name in platforms]
    parts.append("\n# ---- The coordinator's image: what agents expect before they say anything to it.\n")
    if COORDINATOR in images:
        parts += _pinned("coordinators", images[COORDINATOR])
    else:
        parts.append(
            measurement_section(f"coordinators.{platforms[0]}", platforms[0], "the coordinator's image")
        )
    parts.append(
        "\n# ---- Workloads: what was seen running, named as its folders. Rename them, and roles, to last.\n"
    )
    workloads = [name for name in images if name != COORDINATOR]
    if not workloads:
        parts.append("[workloads]\n")
    for name in workloads:
        parts.append(f'\n[workloads.{name}]\nroles = ["{_role(name)}"]\n')
        parts += _pinned(f"workloads.{name}.on", images[name])
    parts.append(_SUGGESTIONS.format(role=_role(workloads[0]) if workloads else "worker"))
    parts += [_RULE.format(role=_role(name)) for name in workloads]
    return "".join(parts)


def _images(seen: Sequence[Seen]) -> Images:
    """Sort what was seen by image: by measurements first, for what measures the same is one workload.

    Of other platforms it is one if the folders are named alike, before any name is cut to fit.
    """
    images: dict[str, dict[str, list[Seen]]] = {}
    meant: dict[str, str] = {}
    # Names that fit come first, so that none of the others takes one from them: the coordinator's, above all.
    for each in sorted(seen, key=lambda one: (one.workload != one.meant, one.name)):
        platform, name, number = each.claims.platform, each.workload, 1
        same = (on[platform] for on in images.values() if platform in on)
        if found := next((known for known in same if _digests(known[0]) == _digests(each)), None):
            found.append(each)
            continue
        while platform in images.get(name, {}) or meant.get(name, each.meant) != each.meant:
            number += 1
            ending = f"_{number}"
            name = each.workload[: MAX_NAME - len(ending)] + ending
        meant[name] = each.meant
        images.setdefault(name, {})[platform] = [each]
    return images


def _digests(seen: Seen) -> dict[str, str]:
    return {name: seen.claims.measurements[name] for name in MEASURED[seen.claims.platform]}


def _role(workload: str) -> str:
    return workload if workload not in ("coordinator", "operator", "mesh") else f"{workload}-role"


def _platform(name: str, seen: Sequence[Seen], lab: bool) -> str:
    claims = [each.claims for each in seen if each.claims.platform == name]
    keys = _keys(claims)
    if lab:
        listed = ", ".join(f'"{root}"' for root in sorted({each.root for each in claims}))
        return (
            f"\n# ---- {name} of a lab: its roots are nobody's but the lab's, and prove nothing elsewhere.\n"
            f"[platforms.{name}]\nlab_roots = [{listed}]\n{keys}"
        )
    return platform_section(
        name,
        leaked_too=any(each.product in LEAKED for each in claims),
        crl=not any(CRL in each.missing for each in claims),
        keys=keys,
    )


def _keys(claims: Iterable[Genuine]) -> str:
    """Return lines that accept the kinds of key and the clouds that were seen, none if no cloud's key was."""
    kinds = sorted({each.key for each in claims if each.key})
    if VLEK not in kinds:
        return ""
    lines = [
        f"keys = {json.dumps(kinds)}   # a VLEK is a cloud's key, on all of its chips: it proves none of them"
    ]
    if clouds := sorted({each.cloud for each in claims if each.cloud}):
        lines.append(
            f"clouds = {json.dumps(clouds)}   # whose VLEKs were seen, by the CSP_ID of their certificates"
        )
    return "".join(f"{line}\n" for line in lines)


def _pinned(table: str, on: Mapping[str, Sequence[Seen]]) -> Iterable[str]:
    for platform, seen in sorted(on.items()):
        chips = sorted({each.claims.chip for each in seen if each.claims.chip_is_proven})
        lines = [f"\n# seen as {', '.join(each.name for each in seen)}", f"[{table}.{platform}]"]
        if chips:
            what = "parent instances, new with every launch of one; " if platform == NITRO else ""
            lines.append(f"chips = [  # {what}remove it to accept every machine of this platform")
            lines += [f'    "{chip}",' for chip in chips]
            lines.append("]")
        elif any(each.claims.key == VLEK for each in seen):
            lines.append(
                "# no chips: a VLEK signed, so every machine of its cloud is accepted, whichever it was"
            )
        lines += ["", f"[{table}.{platform}.measurements]"]
        if seen[0].claims.runtime_unmeasured:
            lines += _UNMEASURED
        lines += [f'{name} = "{digest}"' for name, digest in _digests(seen[0]).items()]
        yield "\n".join([*lines, ""])
