"""Of two endorsements the newer is judged by, whoever it came from; without an age it is none."""

from datetime import timedelta

import pytest

from attestation.bundles.dated import newer_of
from attestation.tdx.collateral import NAMES
from lab.simulate.tdx_issuer import tcb_info
from schemas.evidence import Endorsements
from tests.attestation.tdx_forge import NOW, Forge

DAY = timedelta(days=1)
DOCUMENTS = ("tcb_info.json", "qe_identity.json", "pck_crl.der", "root_ca_crl.der")


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


@pytest.fixture(scope="module")
def held(forge: Forge) -> Endorsements:
    """What the verifier has."""
    return forge.issuer.collateral(now=NOW)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_of_two_documents_the_newer_is_judged_by(name: str, forge: Forge, held: Endorsements) -> None:
    newer, older = (forge.issuer.collateral(now=NOW + after)[name] for after in (DAY, -DAY))
    assert newer_of(held | {name: newer}, held) == held | {name: newer}
    assert newer_of(held | {name: older}, held) == held
    assert newer != held[name] != older


def test_a_later_date_does_not_bring_back_an_earlier_evaluation(forge: Forge, held: Endorsements) -> None:
    later = tcb_info(NOW + DAY)
    later["tcbEvaluationDataNumber"] -= 1
    assert newer_of({"tcb_info.json": forge.issuer.sign("tcbInfo", later)}, held) == held


def test_what_was_issued_at_the_same_time_is_not_newer(forge: Forge, held: Endorsements) -> None:
    other = {"tcb_info.json": forge.issuer.sign("tcbInfo", tcb_info(NOW))}
    assert other["tcb_info.json"] != held["tcb_info.json"]
    assert newer_of(other, held) == held


def test_a_higher_evaluation_of_the_same_time_is_newer(forge: Forge, held: Endorsements) -> None:
    higher = tcb_info(NOW)
    higher["tcbEvaluationDataNumber"] += 1
    came = {"tcb_info.json": forge.issuer.sign("tcbInfo", higher)}
    assert newer_of(came, held) == held | came


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_say_when_it_was_issued_gives_way(name: str, held: Endorsements) -> None:
    for junk in (b"the sender's", b"{}", b""):
        assert newer_of({name: junk}, held) == held


def test_what_only_one_has_stays() -> None:
    assert newer_of({"vcek.der": b"his", "ask.der": b""}, {"ark.der": b"ours"}) == {
        "vcek.der": b"his",
        "ark.der": b"ours",
    }
