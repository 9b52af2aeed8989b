"""What a TDX platform's patch level is worth, and that dcap-qvl thinks the same."""

from copy import deepcopy
from itertools import product
from typing import Any

import pytest

from attestation.claims import Genuine
from attestation.errors import AttestationError
from attestation.tdx.tcb import ENCLAVE_STATUSES, PUBLISHED_STATUSES
from lab.simulate.tdx_issuer import QE_ISVSVN, SGX_COMPONENTS, TEE_TCB_SVN, TdxIssuer, make_root
from schemas.errors import Reason
from schemas.evidence import REVOKED
from tests.attestation.tdx_forge import NOW, Forge, judge

ISSUER = TdxIssuer.from_files(make_root(NOW))

PLATFORM, MODULE, QE = ("INTEL-SA-1", "INTEL-SA-9"), ("INTEL-SA-2", "INTEL-SA-9"), ("INTEL-SA-3",)


@pytest.fixture
def forge() -> Forge:
    return Forge(issuer=ISSUER)


def tee_tcb_svn(minor: int, major: int, microcode: int) -> bytes:
    return bytes((minor, major, microcode)) + bytes(13)


def say(level: dict[str, Any], status: str, advisories: tuple[str, ...] = ()) -> None:
    level |= {"tcbStatus": status, "advisoryIDs": list(advisories)}


def verdict(forge: Forge) -> Genuine | Reason:
    try:
        return forge.verify()
    except AttestationError as error:
        return error.reason


def agrees(forge: Forge) -> None:
    """Demand that both verifiers accept with the same words, or both refuse."""
    ours = verdict(forge)
    theirs = judge(forge.quote(), forge.endorsements(), forge.root_der, now=NOW)
    if isinstance(ours, Genuine) and ours.status == REVOKED:
        # Genuine and never acceptable: theirs mixes the two.
        assert theirs.refusal
    elif isinstance(ours, Genuine):
        assert (ours.status, ours.advisories) == (theirs.status, theirs.advisories)
    else:
        assert theirs.refusal


@pytest.mark.parametrize(
    ("platform", "module", "qe", "status"),
    [
        ("UpToDate", "UpToDate", "UpToDate", "UpToDate"),
        ("SWHardeningNeeded", "UpToDate", "UpToDate", "SWHardeningNeeded"),
        ("ConfigurationNeeded", "UpToDate", "UpToDate", "ConfigurationNeeded"),
        ("OutOfDate", "UpToDate", "UpToDate", "OutOfDate"),
        ("UpToDate", "OutOfDate", "UpToDate", "OutOfDate"),
        ("UpToDate", "UpToDate", "OutOfDate", "OutOfDate"),
        ("SWHardeningNeeded", "OutOfDate", "UpToDate", "OutOfDate"),
        ("ConfigurationNeeded", "UpToDate", "OutOfDate", "OutOfDateConfigurationNeeded"),
        ("ConfigurationAndSWHardeningNeeded", "OutOfDate", "UpToDate", "OutOfDateConfigurationNeeded"),
        ("OutOfDateConfigurationNeeded", "UpToDate", "OutOfDate", "OutOfDateConfigurationNeeded"),
    ],
)
def test_statuses_converge_to_the_worst(
    forge: Forge, platform: str, module: str, qe: str, status: str
) -> None:
    say(forge.platform_levels[0], platform, PLATFORM)
    say(forge.module_levels[0], module, MODULE)
    say(forge.qe_identity["tcbLevels"][0], qe, QE)
    genuine = forge.verify()
    assert genuine.status == status
    assert genuine.advisories == ("INTEL-SA-1", "INTEL-SA-9", "INTEL-SA-2", "INTEL-SA-3")


@pytest.mark.parametrize("part", ["platform", "module", "qe"])
def test_anything_revoked_revokes_the_platform(forge: Forge, part: str) -> None:
    levels = {
        "platform": forge.platform_levels,
        "module": forge.module_levels,
        "qe": forge.qe_identity["tcbLevels"],
    }
    say(levels[part][0], "Revoked")
    assert forge.verify().status == REVOKED


@pytest.mark.parametrize("part", ["platform", "module", "qe"])
def test_status_of_unknown_meaning_is_not_recognized(forge: Forge, part: str) -> None:
    levels = {
        "platform": forge.platform_levels,
        "module": forge.module_levels,
        "qe": forge.qe_identity["tcbLevels"],
    }
    say(levels[part][0], "SomewhatUpToDate")
    assert verdict(forge) == Reason.TCB_NOT_RECOGNIZED


@pytest.mark.parametrize(
    ("platform", "module", "qe"), list(product(PUBLISHED_STATUSES, ENCLAVE_STATUSES, ENCLAVE_STATUSES))
)
def test_independent_verifier_converges_alike(forge: Forge, platform: str, module: str, qe: str) -> None:
    say(forge.platform_levels[0], platform, PLATFORM)
    say(forge.module_levels[0], module, MODULE)
    say(forge.qe_identity["tcbLevels"][0], qe, QE)
    agrees(forge)


@pytest.mark.parametrize("number", [n for n, svn in enumerate(SGX_COMPONENTS) if svn])
def test_platform_below_a_level_in_one_component_misses_it(forge: Forge, number: int) -> None:
    for level in forge.platform_levels:
        level["tcb"]["sgxtcbcomponents"] = deepcopy(level["tcb"]["sgxtcbcomponents"])
    forge.platform_levels[0]["tcb"]["sgxtcbcomponents"][number]["svn"] += 1
    assert forge.verify().status == "OutOfDate"
    agrees(forge)
    forge.platform_levels[1]["tcb"]["sgxtcbcomponents"][number]["svn"] += 1
    assert verdict(forge) == Reason.TCB_NOT_RECOGNIZED
    agrees(forge)


def test_platform_below_a_level_in_its_pcesvn_misses_it(forge: Forge) -> None:
    forge.platform_levels[0]["tcb"]["pcesvn"] = 14
    assert forge.verify().status == "OutOfDate"
    assert forge.verify().advisories == ("INTEL-SA-00837",)
    agrees(forge)


def test_td_below_a_level_in_its_microcode_misses_every_level(forge: Forge) -> None:
    forge.td.tee_tcb_svn = tee_tcb_svn(11, 1, 3)
    assert verdict(forge) == Reason.TCB_NOT_RECOGNIZED
    agrees(forge)


@pytest.mark.parametrize(
    ("minor", "expected"),
    [(5, "UpToDate"), (4, "OutOfDate"), (2, "OutOfDate"), (1, Reason.TCB_NOT_RECOGNIZED)],
)
def test_module_stands_at_the_level_of_its_minor_version(
    forge: Forge, minor: int, expected: str | Reason
) -> None:
    forge.td.tee_tcb_svn = tee_tcb_svn(minor, 1, 4)
    # As published: the platform's own numbers for the module stay those of module 1.0.
    result = verdict(forge)
    assert (result.status if isinstance(result, Genuine) else result) == expected
    agrees(forge)


def test_newer_major_version_starts_again_at_a_low_minor(forge: Forge) -> None:
    forge.td.tee_tcb_svn = tee_tcb_svn(3, 3, 4)
    assert verdict(forge) == Reason.TCB_NOT_RECOGNIZED
    identities = forge.tcb_info["tdxModuleIdentities"]
    identities.append({**deepcopy(identities[0]), "id": "TDX_03"})
    identities[1]["tcbLevels"][0]["tcb"]["isvsvn"] = 3
    assert forge.verify().status == "UpToDate"
    agrees(forge)


def test_module_before_1_5_is_judged_by_the_platforms_numbers(forge: Forge) -> None:
    forge.td.tee_tcb_svn = tee_tcb_svn(5, 0, 4)
    assert forge.verify().status == "UpToDate"
    forge.td.tee_tcb_svn = tee_tcb_svn(4, 0, 4)
    assert verdict(forge) == Reason.TCB_NOT_RECOGNIZED
    agrees(forge)


@pytest.mark.parametrize("major", [0, 1])
def test_module_of_another_signer_or_attributes_is_refused(forge: Forge, major: int) -> None:
    forge.td.tee_tcb_svn = tee_tcb_svn(11, major, 4)
    forge.td.mrsignerseam = bytes(47) + b"\x01"
    assert verdict(forge) == Reason.TCB_MISMATCH
    forge.td.mrsignerseam = bytes(48)
    forge.td.seamattributes = b"\x01" + bytes(7)
    assert verdict(forge) == Reason.TCB_MISMATCH
    agrees(forge)
    for module in (forge.tcb_info["tdxModule"], forge.tcb_info["tdxModuleIdentities"][0]):
        module["attributesMask"] = "FE" + "FF" * 7
    assert verdict(forge) == Reason.TCB_MISMATCH
    agrees(forge)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("miscselect", b"\x01\x00\x00\x00"),
        ("attributes", b"\x13" + bytes(15)),  # debug
        ("attributes", b"\x01" + bytes(15)),
        ("mrsigner", bytes(32)),
        ("isvprodid", 1),
    ],
)
def test_quote_of_another_enclave_is_refused(forge: Forge, field: str, value: object) -> None:
    setattr(forge.qe, field, value)
    assert verdict(forge) == Reason.TCB_MISMATCH
    agrees(forge)


def test_masked_attributes_of_the_quoting_enclave_do_not_matter(forge: Forge) -> None:
    forge.qe.attributes = b"\x15" + bytes(7) + b"\xe7" + bytes(7)
    assert forge.verify().status == "UpToDate"
    agrees(forge)


def test_quoting_enclave_below_every_level_is_not_recognized(forge: Forge) -> None:
    forge.qe.isvsvn = 3
    assert verdict(forge) == Reason.TCB_NOT_RECOGNIZED
    agrees(forge)


def test_older_quoting_enclave_stands_at_its_level(forge: Forge) -> None:
    level = deepcopy(forge.qe_identity["tcbLevels"][0])
    forge.qe_identity["tcbLevels"][0]["tcb"]["isvsvn"] = QE_ISVSVN + 1
    say(level, "OutOfDate", QE)
    forge.qe_identity["tcbLevels"].append(level)
    genuine = forge.verify()
    assert (genuine.status, genuine.advisories) == ("OutOfDate", QE)
    agrees(forge)


@pytest.mark.parametrize("part", ["platform", "module", "qe"])
@pytest.mark.parametrize("other", [-1, 0, 1])
def test_levels_that_do_not_descend_are_malformed(forge: Forge, part: str, other: int) -> None:
    levels = {
        "platform": forge.platform_levels,
        "module": forge.module_levels,
        "qe": forge.qe_identity["tcbLevels"],
    }[part]
    following = deepcopy(levels[0])
    say(following, "Revoked")
    number = "pcesvn" if part == "platform" else "isvsvn"
    following["tcb"][number] += other
    levels.insert(1, following)
    result = verdict(forge)
    # The first that is met counts, so one behind it that asks for as much is met by nothing.
    assert (result.status if isinstance(result, Genuine) else result) == (
        "UpToDate" if other < 0 else Reason.MALFORMED
    )


def test_hexadecimal_that_ends_in_a_line_is_none(forge: Forge) -> None:
    for where, name in ((forge.tcb_info, "fmspc"), (forge.qe_identity, "mrsigner")):
        was = where[name]
        where[name] += "\n"
        assert verdict(forge) == Reason.MALFORMED
        where[name] = was


# --- a module replaced below a running TD ------------------------------------------------------


def replaced_module(launched: str, running: str) -> Forge:
    """Launch under a platform level of one status and run under one of another."""
    forge = Forge(issuer=ISSUER, version=5)
    forge.td.tee_tcb_svn, forge.tee_tcb_svn_2 = tee_tcb_svn(11, 1, 3), TEE_TCB_SVN
    say(forge.platform_levels[0], running, MODULE)
    lower = deepcopy(forge.platform_levels[0])
    lower["tcb"]["tdxtcbcomponents"][2]["svn"] = 3
    say(lower, launched, PLATFORM)
    forge.platform_levels.insert(1, lower)
    return forge


# What a policy would have to accept that accepts a status: of its own or a milder kind, in words.
AMISS = {
    "UpToDate": set[str](),
    "SWHardeningNeeded": {"hardening"},
    "ConfigurationNeeded": {"configuration"},
    "ConfigurationAndSWHardeningNeeded": {"configuration", "hardening"},
    "OutOfDate": {"old"},
    "OutOfDateConfigurationNeeded": {"old", "configuration"},
    "TDRelaunchAdvised": {"old"},
    "TDRelaunchAdvisedConfigurationNeeded": {"old", "configuration"},
    REVOKED: {"revoked"},
}


@pytest.mark.parametrize(("launched", "running"), list(product(PUBLISHED_STATUSES, PUBLISHED_STATUSES)))
def test_status_says_what_is_amiss_with_either_module_and_is_never_milder_than_the_independent_verifiers(
    launched: str, running: str
) -> None:
    forge = replaced_module(launched, running)
    genuine = forge.verify()
    wanted = AMISS[launched] | AMISS[running]
    for worst in ("old", "revoked"):  # no status says of these that software is to be hardened too
        wanted -= {"hardening"} if worst in wanted else set()
    assert AMISS[genuine.status] == ({"revoked"} if "revoked" in wanted else wanted)
    assert genuine.advisories == ("INTEL-SA-1", "INTEL-SA-9", "INTEL-SA-2")
    theirs = judge(forge.quote(), forge.endorsements(), forge.root_der, now=NOW)
    if theirs.refusal:
        assert genuine.status == REVOKED
    else:
        assert genuine.status == REVOKED or AMISS[theirs.status] <= AMISS[genuine.status] | {"hardening"}
        assert set(theirs.advisories) <= set(genuine.advisories)
    # What runs adds nothing to what launched: then they say the same.
    if AMISS[running] <= AMISS[launched] and not theirs.refusal:
        assert genuine.status == theirs.status


@pytest.mark.parametrize(
    ("launched", "running", "status"),
    [
        ("OutOfDate", "OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded"),
        ("OutOfDateConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"),
        ("ConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"),
        ("SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"),
        ("UpToDate", "OutOfDate", "OutOfDate"),
        ("OutOfDate", "UpToDate", "TDRelaunchAdvised"),
        ("OutOfDate", "ConfigurationNeeded", "TDRelaunchAdvisedConfigurationNeeded"),
        ("OutOfDateConfigurationNeeded", "UpToDate", "TDRelaunchAdvisedConfigurationNeeded"),
        ("OutOfDate", "Revoked", "Revoked"),
        ("Revoked", "UpToDate", "Revoked"),
    ],
)
def test_a_td_under_a_replaced_module_has_the_status_of_both(
    launched: str, running: str, status: str
) -> None:
    assert replaced_module(launched, running).verify().status == status


def test_floors_are_those_of_the_lower_module() -> None:
    genuine = replaced_module("OutOfDate", "UpToDate").verify()
    assert genuine.tcb["TEE_TCB_SVN_02"] == 3


def test_older_of_the_two_evaluation_numbers_counts(forge: Forge) -> None:
    forge.qe_identity["tcbEvaluationDataNumber"] = 17
    assert forge.verify().tcb["TCB_EVALUATION_DATA_NUMBER"] == 17
