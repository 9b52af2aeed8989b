"""A bundle that a process carries completes Evidence that came without, and nobody's word is taken for it."""

import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from attestation import AttestationError, AttesterError, nitro, sev_snp, tdx
from attestation.attesters.own_machine import COLLATERAL, OwnMachine
from attestation.bundles.bundle import SKEW, encode_file, sign_bundle
from attestation.bundles.carried import Carried, CarryingMachine, carried_by
from attestation.memory import Memory
from attestation.tdx.collateral import NAMES
from console.documents import make_anchor
from lab.simulate import certificates
from lab.simulate import sev_snp as simulated_snp
from lab.simulate.tdx_issuer import tcb_info
from schemas.collateral import CollateralEntry, Entries
from schemas.errors import Reason, UsageError
from schemas.evidence import MAX_ENDORSEMENTS, MEASURED, SEV_SNP, Endorsements, Evidence
from sealing.context import SUITE_GCM
from sealing.council import succeed
from sealing.documents import open_anchor
from sealing.keys import SigningKey
from tests.attestation.tdx_forge import NOW, Forge
from tests.sealing.council_world import KEYS, change, council
from tests.sealing.council_world import signed as succession

ALICE, BOB, MALLORY = (SigningKey() for _ in "abc")
OPERATORS = [("alice", ALICE.public), ("bob", BOB.public)]
ANCHOR, MESH = open_anchor(make_anchor(OPERATORS, 2, ["ab" * 32], 1, SUITE_GCM))
OTHER_ANCHOR, _ = open_anchor(make_anchor(OPERATORS, 2, ["cd" * 32], 1, SUITE_GCM))
ISSUED = int(NOW.timestamp() * 1000)
KEY_BINDING, CHALLENGE = bytes(64), bytes(32)

SUBJECTS = {
    "pck-crl/platform": ("pck_crl.der", "pck_crl_chain.pem"),
    "qe-identity": ("qe_identity.json", "qe_identity_chain.pem"),
    "root-ca-crl": ("root_ca_crl.der", "pck_crl_chain.pem"),
    "tcb-info/1ab0c06f0000": ("tcb_info.json", "tcb_info_chain.pem"),
}


def entries_of(files: Endorsements) -> Entries:
    return tuple(
        CollateralEntry(subject=subject, files={name: files[name] for name in names}, fetched=0)
        for subject, names in SUBJECTS.items()
    )


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


@pytest.fixture
def quote(forge: Forge) -> Evidence:
    return Evidence(tdx.MEDIA_TYPE, forge.quote())


@pytest.fixture
def file(forge: Forge, tmp_path: Path) -> Path:
    """A bundle that both operators signed."""
    path = tmp_path / "bundle"
    path.write_bytes(sign_bundle(ANCHOR, (ALICE, BOB), entries_of(forge.endorsements()), issued=ISSUED))
    return path


def carried(file: Path) -> Carried:
    return Carried(file, ANCHOR, MESH, clock=lambda: ISSUED)


def put(file: Path, data: bytes) -> None:
    """Replace a file as `sealbus collateral sign` does: whole."""
    new = file.with_suffix(".new")
    new.write_bytes(data)
    new.replace(file)


def test_evidence_that_came_without_collateral_is_complete(quote: Evidence, forge: Forge, file: Path) -> None:
    with pytest.raises(AttestationError):
        tdx.verify(quote.value, {}, now=NOW)
    completed = carried(file).complete(quote, {})
    assert tdx.verify(quote.value, completed, now=NOW) == forge.verify()


DAY = timedelta(days=1)
KEYS_OF_AMD = ("vcek", "vlek")


def test_a_list_that_does_not_name_him_yet_is_no_way_around_the_bundles(
    quote: Evidence, forge: Forge, tmp_path: Path
) -> None:
    was = forge.issuer.collateral(now=NOW - DAY)
    serial = x509.load_pem_x509_certificates(forge.pck_chain.rstrip(b"\0"))[0].serial_number
    now = forge.issuer.collateral(now=NOW)
    now["pck_crl.der"] = forge.issuer.revoke(forge.issuer.pck_ca, [serial], now=NOW)
    path = tmp_path / "revoking"
    path.write_bytes(sign_bundle(ANCHOR, (ALICE, BOB), entries_of(now), issued=ISSUED))
    assert tdx.verify(quote.value, was, now=NOW).missing == ()
    with pytest.raises(AttestationError) as refusal:
        tdx.verify(quote.value, carried(path).complete(quote, was), now=NOW)
    assert refusal.value.reason is Reason.CERTIFICATE_REVOKED


def test_what_the_bundle_lacks_stays(quote: Evidence, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(sign_bundle(ANCHOR, (ALICE, BOB), (), issued=ISSUED))
    came = dict.fromkeys(NAMES, b"the sender's")
    assert carried(path).complete(quote, came) == came


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(nitro.MEDIA_TYPE, b"carries its own chain"),
        Evidence("application/x", b"of nothing known"),
        Evidence(tdx.MEDIA_TYPE, b"not a quote"),
        Evidence(sev_snp.MEDIA_TYPE, b""),
    ],
)
def test_evidence_that_needs_nothing_or_says_nothing_is_left_for_the_appraisal(
    evidence: Evidence, file: Path
) -> None:
    assert carried(file).complete(evidence, {"x": b"y"}) == {"x": b"y"}


def test_a_report_of_a_chip_gets_the_certificate_of_that_chip(tmp_path: Path) -> None:
    made = simulated_snp.make_root(NOW)
    chip = simulated_snp.SevSnpChip.from_files(made, serial=1)
    measured = {name: bytes(32 if name == "host_data" else 48) for name in MEASURED[SEV_SNP]}
    evidence, files = chip.evidence(measured, KEY_BINDING, CHALLENGE, now=NOW)
    subject = f"vcek/Genoa/{chip.chip_id.hex()}/{simulated_snp.TCB.hex()}"
    path = tmp_path / "bundle"
    entry = CollateralEntry(subject=subject, files=files, fetched=0)
    path.write_bytes(sign_bundle(ANCHOR, (ALICE, BOB), (entry,), issued=ISSUED))
    held = carried(path)
    assert sev_snp.verify(evidence.value, held.complete(evidence, {}), now=NOW).chip == chip.chip_id.hex()
    # Certificates that came stay, an older list does not.
    issuer = certificates.load_certificate(made, "ark.der"), certificates.load_rsa_key(made, "ark.pem")
    older = certificates.make_crl(*issuer, this_update=NOW - 2 * DAY, lifetime=30 * DAY)
    completed = held.complete(evidence, {"vcek.der": b"his", "crl.der": older})
    assert completed == {**files, "vcek.der": b"his", "crl_2.der": older}


def test_a_list_of_the_bundle_that_has_expired_still_refuses_whom_it_names(
    tmp_path: Path, amd: dict[str, bytes], chip: simulated_snp.SevSnpChip
) -> None:
    measured = {name: bytes(32 if name == "host_data" else 48) for name in MEASURED[SEV_SNP]}
    evidence, files = chip.evidence(measured, KEY_BINDING, CHALLENGE, now=NOW)
    issuer = certificates.load_certificate(amd, "ark.der"), certificates.load_rsa_key(amd, "ark.pem")
    names_him = certificates.make_crl(
        *issuer, this_update=NOW - 40 * DAY, lifetime=30 * DAY, revoked=(simulated_snp.ASK_SERIAL,)
    )
    chain = {name: files[name] for name in ("ask.der", "ark.der")}
    path = tmp_path / "bundle"
    entry = CollateralEntry(subject="crl/Genoa/vcek", files={"crl.der": names_him, **chain}, fetched=0)
    path.write_bytes(signed((entry,), issued=ISSUED))
    # The newer list of the same root, which is of other keys, is current and names nobody.
    other = certificates.make_crl(*issuer, this_update=NOW - DAY, lifetime=60 * DAY)
    whole = carried(path).complete(evidence, {**files, "crl.der": other})
    assert whole["crl.der"] == other
    with pytest.raises(AttestationError) as refusal:
        sev_snp.verify(evidence.value, whole, now=NOW)
    assert refusal.value.reason is Reason.CERTIFICATE_REVOKED


@pytest.mark.parametrize("revoking", ["vcek", "vlek"])
@pytest.mark.parametrize("sent", ["no list", "an older one", "a newer one", "many"])
def test_what_one_list_of_a_root_revokes_no_other_list_of_it_brings_back(
    revoking: str, sent: str, tmp_path: Path, amd: dict[str, bytes], chip: simulated_snp.SevSnpChip
) -> None:
    measured = {name: bytes(32 if name == "host_data" else 48) for name in MEASURED[SEV_SNP]}
    evidence, files = chip.evidence(measured, KEY_BINDING, CHALLENGE, now=NOW)
    issuer = certificates.load_certificate(amd, "ark.der"), certificates.load_rsa_key(amd, "ark.pem")

    def made_on(day: int, revoked: tuple[int, ...] = ()) -> bytes:
        return certificates.make_crl(*issuer, this_update=NOW + day * DAY, lifetime=60 * DAY, revoked=revoked)

    lists = {key: made_on(-4, (simulated_snp.ASK_SERIAL,) if key == revoking else ()) for key in KEYS_OF_AMD}
    chain = {name: files[name] for name in ("ask.der", "ark.der")}
    entries = tuple(
        CollateralEntry(subject=f"crl/Genoa/{key}", files={"crl.der": data, **chain}, fetched=0)
        for key, data in sorted(lists.items())
    )
    path = tmp_path / "bundle"
    path.write_bytes(signed(entries, issued=ISSUED))
    came = {name: data for name, data in files.items() if name != "crl.der"}
    came |= {
        "no list": {},
        "an older one": {"crl.der": made_on(-5)},
        "a newer one": {"crl.der": made_on(-1)},
        "many": {"crl.der": made_on(-1)} | {f"crl_{n}.der": made_on(-n) for n in range(2, 6)},
    }[sent]
    completed = carried(path).complete(evidence, came)
    if sent in ("a newer one", "many"):
        assert completed["crl.der"] == came["crl.der"]
        assert set(lists.values()) <= set(completed.values())
    with pytest.raises(AttestationError) as refusal:
        sev_snp.verify(evidence.value, completed, now=NOW)
    assert refusal.value.reason is Reason.CERTIFICATE_REVOKED
    # And so again from memory, in which the lists are by what they are.
    memory = Memory().trial()
    assert sev_snp.verify(evidence.value, came | {"crl.der": made_on(-1)}, now=NOW, memory=memory)
    with pytest.raises(AttestationError):
        sev_snp.verify(evidence.value, completed, now=NOW, memory=memory)


# --- what is not used -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", ["one signed", "a stranger signed", "another mesh", "unsigned", "of the future"]
)
def test_what_the_operators_did_not_sign_now_for_this_mesh_is_no_collateral(
    how: str, forge: Forge, tmp_path: Path
) -> None:
    entries = entries_of(forge.endorsements())
    made = {
        "one signed": lambda: sign_bundle(ANCHOR, (ALICE,), entries, issued=ISSUED),
        "a stranger signed": lambda: sign_bundle(ANCHOR, (ALICE, MALLORY), entries, issued=ISSUED),
        "another mesh": lambda: sign_bundle(OTHER_ANCHOR, (ALICE, BOB), entries, issued=ISSUED),
        "unsigned": lambda: encode_file(entries),
        "of the future": lambda: sign_bundle(ANCHOR, (ALICE, BOB), entries, issued=ISSUED + 86_400_000),
    }
    path = tmp_path / "bundle"
    path.write_bytes(made[how]())
    with pytest.raises(UsageError, match="no collateral that this mesh's operators signed"):
        carried(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "absent", tmp_path, Path("\0")):
        with pytest.raises(UsageError, match="no collateral"):
            carried(path)


def test_a_newer_bundle_is_used_as_soon_as_it_is_there_and_an_older_one_never(
    quote: Evidence, forge: Forge, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = carried(file)
    first = held.complete(quote, {})
    old = file.read_bytes()
    renewed = forge.issuer.collateral(now=NOW + timedelta(hours=1))
    put(file, sign_bundle(ANCHOR, (ALICE, BOB), entries_of(renewed), issued=ISSUED + 1))
    assert held.complete(quote, {})["pck_crl.der"] == renewed["pck_crl.der"] != first["pck_crl.der"]
    caplog.set_level(logging.WARNING)
    put(file, old)
    assert held.complete(quote, {})["pck_crl.der"] == renewed["pck_crl.der"]
    assert "a newer collateral bundle was seen" in caplog.text


@pytest.fixture
def first(forge: Forge) -> Endorsements:
    return forge.issuer.collateral(now=NOW)


def signed(entries: Entries, *, issued: int) -> bytes:
    return sign_bundle(ANCHOR, (ALICE, BOB), entries, issued=issued)


@pytest.mark.parametrize("how", ["an older list", "no list"])
def test_a_newer_bundle_with_an_older_list_or_none_takes_nothing_back(
    how: str,
    quote: Evidence,
    forge: Forge,
    first: Endorsements,
    file: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(file, signed(entries_of(first), issued=ISSUED))
    held = carried(file)
    older = forge.issuer.collateral(now=NOW - DAY)
    renewed = forge.issuer.collateral(now=NOW + DAY)
    entries = entries_of(renewed | {"pck_crl.der": older["pck_crl.der"]})
    if how == "no list":
        entries = tuple(entry for entry in entries if entry.subject != "pck-crl/platform")
    caplog.set_level(logging.WARNING)
    for turn in (1, 2):
        put(file, signed(entries, issued=ISSUED + turn))
        given = held.complete(quote, older)
        assert given["pck_crl.der"] == first["pck_crl.der"]
        assert given["tcb_info.json"] == renewed["tcb_info.json"]
        assert caplog.messages[-1].endswith("and goes on: pck-crl/platform")


def test_a_lower_evaluation_in_a_newer_bundle_has_its_turn_when_the_higher_one_has_expired(
    quote: Evidence, forge: Forge, first: Endorsements, file: Path
) -> None:
    now = [ISSUED]
    put(file, signed(entries_of(first), issued=ISSUED))
    held = Carried(file, ANCHOR, MESH, clock=lambda: now[0])
    lower = {**tcb_info(NOW + DAY), "tcbEvaluationDataNumber": 17}
    going_back = first | {"tcb_info.json": forge.issuer.sign("tcbInfo", lower)}
    put(file, signed(entries_of(going_back), issued=ISSUED + 1))
    assert held.complete(quote, {})["tcb_info.json"] == first["tcb_info.json"]
    now[0] += 30 * 86_400_000
    assert held.complete(quote, {})["tcb_info.json"] == going_back["tcb_info.json"]


@pytest.mark.parametrize("third", ["a lower evaluation", "none"])
def test_what_is_newer_is_not_forgotten_in_the_shadow_of_what_expires_first(
    third: str, quote: Evidence, forge: Forge, file: Path
) -> None:
    now, day = [ISSUED], 86_400_000

    def numbered(number: int, days: int) -> Endorsements:
        info = {**tcb_info(NOW + days * DAY), "tcbEvaluationDataNumber": number}
        return forge.issuer.collateral(now=NOW + days * DAY) | {
            "tcb_info.json": forge.issuer.sign("tcbInfo", info)
        }

    def stands(files: Endorsements, sent: Endorsements) -> bool:
        return held.complete(quote, sent)["tcb_info.json"] == files["tcb_info.json"]

    highest, middle, lowest = numbered(21, 0), numbered(20, 20), numbered(19, 22)
    put(file, signed(entries_of(highest), issued=ISSUED))
    held = Carried(file, ANCHOR, MESH, clock=lambda: now[0])
    now[0] += 22 * day
    put(file, signed(entries_of(middle), issued=ISSUED + 20 * day))
    assert stands(highest, {})
    entries = entries_of(lowest)
    if third == "none":
        entries = tuple(entry for entry in entries if not entry.subject.startswith("tcb-info/"))
    for turn in (0, 1):
        put(file, signed(entries, issued=ISSUED + 22 * day + turn))
        assert stands(highest, {})
    now[0] = ISSUED + 32 * day  # the first has expired, and the second has not
    assert stands(middle, {})
    assert stands(middle, numbered(17, 15))
    put(file, signed(entries, issued=ISSUED + 22 * day + 2))
    assert stands(middle, {})


def test_what_is_no_step_back_from_what_stood_goes_before_what_never_stood(
    quote: Evidence, forge: Forge, first: Endorsements, file: Path
) -> None:
    held = None
    for turn, (number, days) in enumerate(((18, 0), (17, 2), (18, 1))):
        info = {**tcb_info(NOW + days * DAY), "tcbEvaluationDataNumber": number}
        files = first | {"tcb_info.json": forge.issuer.sign("tcbInfo", info)}
        put(file, signed(entries_of(files), issued=ISSUED + turn))
        held = held or Carried(file, ANCHOR, MESH, clock=lambda: ISSUED + 3 * 86_400_000)
        held.complete(quote, {})
    assert held is not None
    assert held.complete(quote, {})["tcb_info.json"] == files["tcb_info.json"]


def test_a_bundle_of_an_operator_whose_clock_is_ahead_waits_for_its_time_and_shuts_nobody_out(
    quote: Evidence, forge: Forge, first: Endorsements, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [ISSUED]
    put(file, signed(entries_of(first), issued=ISSUED))
    held = Carried(file, ANCHOR, MESH, clock=lambda: now[0])
    renewed = forge.issuer.collateral(now=NOW + DAY)
    put(file, signed(entries_of(renewed), issued=ISSUED + SKEW + 60_000))
    for _ in range(3):
        assert held.complete(quote, {})["pck_crl.der"] == first["pck_crl.der"]
    assert len(caplog.records) == 1
    now[0] += 60_000
    assert held.complete(quote, {})["pck_crl.der"] == renewed["pck_crl.der"]
    # One of a year ahead does not keep out what is signed in the meantime.
    put(file, signed(entries_of(first), issued=ISSUED + 365 * 86_400_000))
    assert held.complete(quote, {})["pck_crl.der"] == renewed["pck_crl.der"]
    newest = forge.issuer.collateral(now=NOW + 2 * DAY)
    put(file, signed(entries_of(newest), issued=ISSUED + SKEW + 60_000))
    assert held.complete(quote, {})["pck_crl.der"] == newest["pck_crl.der"]


def test_what_a_later_bundle_has_newer_goes_before_again(
    quote: Evidence, forge: Forge, first: Endorsements, file: Path
) -> None:
    put(file, signed(entries_of(first), issued=ISSUED))
    held = carried(file)
    for turn, days in enumerate((-1, 1), start=1):
        files = forge.issuer.collateral(now=NOW + days * DAY)
        put(file, signed(entries_of(files), issued=ISSUED + turn))
        given = held.complete(quote, {})
        assert given["pck_crl.der"] == (first if days < 0 else files)["pck_crl.der"]


@pytest.mark.parametrize("told_by", ["its host", "a bundle before"])
def test_former_operators_sign_no_bundle_for_who_was_told_of_the_change(
    told_by: str, quote: Evidence, forge: Forge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    founders = council()
    heirs = succeed(
        founders, succession(founders, change(founders, ("ada", "ben", "dan"), 2), ("ada", "ben", "dan"))
    )
    path, was = tmp_path / "bundle", entries_of(forge.issuer.collateral(now=NOW))
    first_by = founders if told_by == "its host" else heirs
    path.write_bytes(sign_bundle(first_by, (KEYS["ada"], KEYS["ben"]), was, issued=ISSUED))
    held = Carried(path, founders, founders.mesh, clock=lambda: ISSUED)
    before = held.complete(quote, {}, heirs if told_by == "its host" else None)
    # A stolen key among them, and a date that is newer than all.
    put(path, sign_bundle(founders, (KEYS["ada"], KEYS["cyd"]), (), issued=ISSUED + 1))
    assert held.complete(quote, {}, None) == before
    assert "state-rolled-back" in caplog.text
    newer = entries_of(forge.issuer.collateral(now=NOW + DAY))
    put(path, sign_bundle(heirs, (KEYS["ada"], KEYS["dan"]), newer, issued=ISSUED + 2))
    assert held.complete(quote, {}, None) != before


def test_a_file_that_turns_bad_is_told_once_and_what_was_there_before_is_used(
    quote: Evidence, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = carried(file)
    before = held.complete(quote, {})
    put(file, b"junk")
    for _ in range(2):
        assert held.complete(quote, {}) == before
    assert len(caplog.records) == 1
    good = signed((), issued=ISSUED + 1)
    file.unlink()
    for _ in range(3):
        assert held.complete(quote, {}) == before
    assert len(caplog.records) == 2
    assert "No such file" in caplog.messages[-1]
    os.mkfifo(file)
    for _ in range(2):
        assert held.complete(quote, {}) == before
    assert len(caplog.records) == 3
    assert "no regular file" in caplog.messages[-1]
    put(file, good)
    assert held.complete(quote, {}) != {}
    assert len(caplog.records) == 4


# --- on the way out ---------------------------------------------------------------------------------


class Device:
    """A TEE whose host gives it these endorsements."""

    def __init__(self, evidence: Evidence, endorsements: Endorsements) -> None:
        self._given = evidence, endorsements

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        return self._given


@pytest.mark.anyio
async def test_a_machines_evidence_goes_out_with_what_its_bundle_has(quote: Evidence, file: Path) -> None:
    settings = {COLLATERAL: str(file), "nats_url": "nats://x"}
    machine = CarryingMachine(OwnMachine(Device(quote, {}), settings), carried(file))
    evidence, endorsements = await machine.evidence(KEY_BINDING, CHALLENGE)
    assert tdx.verify(evidence.value, endorsements, now=NOW).missing == ()
    assert await machine.host() == settings
    machine.close()


@pytest.mark.anyio
async def test_endorsements_that_are_too_large_together_are_refused(quote: Evidence, file: Path) -> None:
    given = {"crl.der": bytes(MAX_ENDORSEMENTS)}
    machine = CarryingMachine(OwnMachine(Device(quote, given), {}), carried(file))
    with pytest.raises(AttesterError) as refusal:
        await machine.evidence(KEY_BINDING, CHALLENGE)
    assert refusal.value.reason is Reason.TOO_LARGE


@pytest.mark.anyio
async def test_settings_name_the_bundle_or_none(tmp_path: Path) -> None:
    assert await carried_by({"nats_url": "nats://x"}, ANCHOR, MESH) is None
    with pytest.raises(UsageError, match="absent"):
        await carried_by({COLLATERAL: str(tmp_path / "absent")}, ANCHOR, MESH)
