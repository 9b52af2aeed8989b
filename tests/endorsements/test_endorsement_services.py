"""AMD's and Intel's services: what is asked of them; no answer passes but what was asked for."""

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

import pytest

from attestation import sev_snp as snp
from attestation import tdx
from attestation.bundles.bundle import completed
from attestation.endorsements import (
    Cache,
    EndorsementError,
    NoSuchDocumentError,
    PcsSource,
    Subject,
    WrongDocumentError,
    collect,
    merged,
    needs_of,
)
from attestation.endorsements.gather import entry_of, merge
from attestation.endorsements.pcs import INTEL_PCS, INTEL_ROOT_CA_CRL, Pcs
from attestation.errors import NotGenuineError
from attestation.needs import SnpNeeds
from lab.simulate import certificates, sev_snp
from lab.simulate.tdx_issuer import tcb_info
from schemas.errors import Reason
from schemas.evidence import Evidence
from tests.attestation.tdx_forge import Forge
from tests.endorsements.conftest import FMSPC, Desk
from tests.endorsements.world import NOW, Answer, Service, Time, pem

pytestmark = pytest.mark.anyio

TCB_INFO = Subject("tcb-info", (FMSPC.lower(),))
TCB_INFO_TARGET = f"/tdx/certification/v4/tcb?fmspc={FMSPC}"
PCK_CRL_TARGET = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
CRL = Subject("crl", ("Genoa", "vcek"))
CRL_TARGET, CHAIN_TARGET = "/vcek/v1/Genoa/crl", "/vcek/v1/Genoa/cert_chain"


def report(chip: sev_snp.SevSnpChip) -> Evidence:
    measurements = {"measurement": bytes(48), "host_data": bytes(32)}
    evidence, _ = chip.evidence(measurements, bytes(64), b"", now=NOW)
    return evidence


def quote_of(intel: Forge) -> Evidence:
    return Evidence(tdx.MEDIA_TYPE, intel.quote())


async def test_what_a_report_needs_is_fetched_and_then_verifies_it(
    desk: Desk, service: Service, chip: sev_snp.SevSnpChip, vcek_target: str
) -> None:
    evidence = report(chip)
    fetched = await collect(needs_of(evidence, {}), {}, desk.services)
    assert service.asked == [CHAIN_TARGET, vcek_target, CRL_TARGET]
    genuine = snp.verify(evidence.value, merged(fetched), now=NOW)
    assert genuine.missing == ()


@pytest.mark.parametrize("pccs", [False, True], ids=["PCS", "PCCS"])
async def test_what_a_quote_needs_is_fetched_and_then_verifies_it(
    pccs: bool, desk: Desk, service: Service, intel: Forge
) -> None:
    service.serve_intel(intel.endorsements(), FMSPC, pccs=pccs)
    evidence = quote_of(intel)
    fetched = await collect(needs_of(evidence, {}), {}, desk.services)
    genuine = tdx.verify(evidence.value, merged(fetched), now=NOW)
    assert genuine.missing == ()
    assert genuine.status == "UpToDate"


async def test_a_quote_under_the_processor_authority_gets_the_chain_of_that_authority(
    desk: Desk, service: Service, processor: Forge
) -> None:
    service.serve_intel(processor.endorsements(), FMSPC, authority="processor")
    evidence = quote_of(processor)
    fetched = await collect(needs_of(evidence, {}), {}, desk.services)
    assert tdx.verify(evidence.value, merged(fetched), now=NOW).missing == ()
    # Nor does it lose it on the way through a file.
    assert completed(evidence, {}, merge((), map(entry_of, fetched), roots=())[0]) == merged(fetched)


async def test_header_names_may_come_in_lower_case(desk: Desk, service: Service) -> None:
    answer = service.answers[TCB_INFO_TARGET]
    answer.headers = {name.lower(): value for name, value in answer.headers.items()}
    assert (await desk.pcs.get(TCB_INFO)).subject == TCB_INFO


async def test_a_crl_may_come_as_pem(desk: Desk, service: Service, intel: Forge) -> None:
    crl = intel.endorsements()["pck_crl.der"]
    service.answers[PCK_CRL_TARGET].body = pem(crl).replace(b"CERTIFICATE", b"X509 CRL")
    fetched = await desk.pcs.get(Subject("pck-crl", ("platform",)))
    assert fetched.files["pck_crl.der"] == crl


def test_intels_own_service_has_its_root_crl_elsewhere_and_a_pccs_beside_the_rest() -> None:
    assert PcsSource(INTEL_PCS).root_ca_crl_url == INTEL_ROOT_CA_CRL
    assert (
        PcsSource("https://pccs:8081/").root_ca_crl_url == "https://pccs:8081/sgx/certification/v4/rootcacrl"
    )


async def test_the_early_update_is_asked_for_by_name(desk: Desk, service: Service) -> None:
    early = Pcs(desk.pcs._fetcher, PcsSource(service.base, update="early"))
    with pytest.raises(NoSuchDocumentError):
        await early.get(TCB_INFO)
    assert service.asked == [f"{TCB_INFO_TARGET}&update=early"]


async def test_a_turin_chip_is_asked_for_by_eight_bytes_and_its_fmc(desk: Desk, service: Service) -> None:
    service.answers["/vcek/v1/Turin/cert_chain"] = service.answers[CHAIN_TARGET]
    with pytest.raises(WrongDocumentError) as caught:
        await desk.kds.get(Subject("vcek", ("Turin", "3b42092f69c656d3", "0102030400000047")))
    # The chain is Genoa's, and nothing is asked in the name of a chain that is another product's.
    assert caught.value.reason is Reason.CHAIN_INVALID
    assert service.asked == ["/vcek/v1/Turin/cert_chain"]


async def test_a_report_that_names_no_product_is_tried_with_each(
    desk: Desk, service: Service, chip: sev_snp.SevSnpChip
) -> None:
    needs = SnpNeeds(("Milan", "Genoa"), "vcek", chip.chip_id, sev_snp.TCB)
    fetched = await collect(needs, {}, desk.services)
    assert {each.subject.of[0] for each in fetched} == {"Genoa"}
    assert service.asked[0] == "/vcek/v1/Milan/cert_chain"


async def test_a_masked_chip_can_not_be_asked_for(desk: Desk, service: Service) -> None:
    needs = SnpNeeds(("Genoa",), "vcek", b"", sev_snp.TCB)
    with pytest.raises(EndorsementError) as caught:
        await collect(needs, {}, desk.services)
    assert caught.value.reason is Reason.NO_VCEK
    assert service.asked == []


async def test_a_vlek_has_to_come_with_the_evidence(desk: Desk, service: Service) -> None:
    needs = SnpNeeds(("Genoa",), "vlek", b"", sev_snp.TCB)
    with pytest.raises(EndorsementError) as caught:
        await collect(needs, {}, desk.services)
    assert caught.value.reason is Reason.NO_VLEK
    assert service.asked == []


async def test_the_chain_and_list_above_a_vlek_are_those_of_vleks(
    desk: Desk, service: Service, amd: dict[str, bytes], chip: sev_snp.SevSnpChip
) -> None:
    asvk = certificates.make_ca(
        "SEV-VLEK-Genoa",
        certificates.load_rsa_key(amd, "ask.pem"),
        serial=9,
        not_before=NOW,
        lifetime=timedelta(days=9),
        path_length=0,
        issuer=(
            certificates.load_certificate(amd, "ark.der"),
            certificates.load_rsa_key(amd, "ark.pem"),
        ),
    )
    chain = pem(certificates.der(asvk)) + pem(amd["ark.der"])
    service.answers["/vlek/v1/Genoa/cert_chain"] = Answer(chain)
    service.answers["/vlek/v1/Genoa/crl"] = Answer(amd["crl.der"])
    needs = SnpNeeds(("Genoa",), "vlek", b"", sev_snp.TCB)
    fetched = await collect(needs, {"vlek.der": b"came with the evidence"}, desk.services)
    assert set(merged(fetched)) == {"ask.der", "ark.der", "crl.der"}
    # A service that answers with the chain of VCEKs is wrong, though that is under the same root.
    service.answers["/vlek/v1/Genoa/cert_chain"] = service.answers[CHAIN_TARGET]
    Cache(desk.cache)._path(f"{service.base}/vlek/v1/Genoa/cert_chain").unlink()
    with pytest.raises(WrongDocumentError, match="kind of key"):
        await desk.kds.get(Subject("chain", ("Genoa", "vlek")))


def amd_crl(files: dict[str, bytes], *, days: int = 0, revoked: tuple[int, ...] = ()) -> bytes:
    return certificates.make_crl(
        certificates.load_certificate(files, "ark.der"),
        certificates.load_rsa_key(files, "ark.pem"),
        revoked=revoked,
        this_update=NOW + timedelta(days=days),
        lifetime=timedelta(days=20),
    )


async def test_another_chips_certificate_is_refused(
    desk: Desk,
    service: Service,
    vcek: Subject,
    vcek_target: str,
    amd: dict[str, bytes],
    chip: sev_snp.SevSnpChip,
) -> None:
    service.answers[vcek_target].body = sev_snp.make_vcek(
        amd, chip.key.public_key(), chip_id=b"\x07" * 64, tcb=sev_snp.TCB, not_before=NOW
    )
    with pytest.raises(WrongDocumentError, match="another chip's certificate") as caught:
        await desk.kds.get(vcek)
    assert caught.value.reason is Reason.CHIP_MISMATCH


async def test_a_certificate_for_another_processor_line_is_refused(
    desk: Desk,
    service: Service,
    vcek: Subject,
    vcek_target: str,
    amd: dict[str, bytes],
    chip: sev_snp.SevSnpChip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sev_snp, "PRODUCT", "Milan")
    service.answers[vcek_target].body = sev_snp.make_vcek(
        amd, chip.key.public_key(), chip_id=chip.chip_id, tcb=sev_snp.TCB, not_before=NOW
    )
    with pytest.raises(WrongDocumentError, match="processor line"):
        await desk.kds.get(vcek)


async def test_a_certificate_for_another_tcb_is_refused(
    desk: Desk,
    service: Service,
    vcek: Subject,
    vcek_target: str,
    amd: dict[str, bytes],
    chip: sev_snp.SevSnpChip,
) -> None:
    other = bytes.fromhex("04000000000017db")
    service.answers[vcek_target].body = sev_snp.make_vcek(
        amd, chip.key.public_key(), chip_id=chip.chip_id, tcb=other, not_before=NOW
    )
    with pytest.raises(WrongDocumentError) as caught:
        await desk.kds.get(vcek)
    assert caught.value.reason is Reason.TCB_MISMATCH


async def test_a_certificate_that_is_no_longer_valid_is_refused(
    desk: Desk,
    service: Service,
    vcek: Subject,
    vcek_target: str,
    amd: dict[str, bytes],
    chip: sev_snp.SevSnpChip,
) -> None:
    service.answers[vcek_target].body = sev_snp.make_vcek(
        amd,
        chip.key.public_key(),
        chip_id=chip.chip_id,
        tcb=sev_snp.TCB,
        not_before=NOW - timedelta(days=3),
        lifetime=timedelta(days=2),
    )
    with pytest.raises(WrongDocumentError) as caught:
        await desk.kds.get(vcek)
    assert caught.value.reason is Reason.CERTIFICATE_EXPIRED


def cut(body: bytes) -> bytes:
    return body[:-20]


def flip(body: bytes) -> bytes:
    return body[:-20] + bytes((body[-20] ^ 1,)) + body[-19:]


@pytest.mark.parametrize("damage", [cut, flip, lambda _: b"", lambda _: b"<html>busy</html>"])
@pytest.mark.parametrize("what", ["vcek", "crl", "tcb-info", "qe-identity", "pck-crl", "root-ca-crl"])
async def test_what_is_damaged_is_refused(
    damage: Callable[[bytes], bytes],
    what: str,
    desk: Desk,
    service: Service,
    vcek: Subject,
    vcek_target: str,
) -> None:
    subject, target = {
        "vcek": (vcek, vcek_target),
        "crl": (CRL, CRL_TARGET),
        "tcb-info": (TCB_INFO, TCB_INFO_TARGET),
        "qe-identity": (Subject("qe-identity"), "/tdx/certification/v4/qe/identity"),
        "pck-crl": (Subject("pck-crl", ("platform",)), PCK_CRL_TARGET),
        "root-ca-crl": (Subject("root-ca-crl"), "/sgx/certification/v4/rootcacrl"),
    }[what]
    service.answers[target].body = damage(service.answers[target].body)
    with pytest.raises(WrongDocumentError):
        await (desk.kds if what in ("vcek", "crl") else desk.pcs).get(subject)
    assert Cache(desk.cache).load(service.base + target) is None


async def test_a_chain_under_another_root_is_refused(desk: Desk, service: Service, vcek: Subject) -> None:
    service.answers[CHAIN_TARGET].body = pem(Forge().root_der) * 2
    with pytest.raises(WrongDocumentError, match="another root") as caught:
        await desk.kds.get(vcek)
    assert caught.value.reason is Reason.CHAIN_INVALID


@pytest.mark.parametrize("target", [TCB_INFO_TARGET, PCK_CRL_TARGET])
async def test_collateral_of_another_issuer_is_refused(target: str, desk: Desk, service: Service) -> None:
    service.serve_intel(Forge().endorsements(), FMSPC)
    subject = TCB_INFO if target is TCB_INFO_TARGET else Subject("pck-crl", ("platform",))
    with pytest.raises(WrongDocumentError, match="another root"):
        await desk.pcs.get(subject)


async def test_a_pck_crl_with_the_tcb_signers_chain_is_refused(desk: Desk, service: Service) -> None:
    signer = service.answers[TCB_INFO_TARGET].headers["TCB-Info-Issuer-Chain"]
    service.answers[PCK_CRL_TARGET].headers = {"SGX-PCK-CRL-Issuer-Chain": signer}
    with pytest.raises(WrongDocumentError):
        await desk.pcs.get(Subject("pck-crl", ("platform",)))


async def test_the_other_pck_authoritys_crl_is_refused(desk: Desk, service: Service) -> None:
    service.answers["/sgx/certification/v4/pckcrl?ca=processor&encoding=der"] = service.answers[
        PCK_CRL_TARGET
    ]
    with pytest.raises(WrongDocumentError, match="other PCK authority"):
        await desk.pcs.get(Subject("pck-crl", ("processor",)))


async def test_tcb_info_of_another_platform_is_refused(desk: Desk, service: Service) -> None:
    service.answers["/tdx/certification/v4/tcb?fmspc=00806F050000"] = service.answers[TCB_INFO_TARGET]
    with pytest.raises(WrongDocumentError, match="FMSPC") as caught:
        await desk.pcs.get(Subject("tcb-info", ("00806f050000",)))
    assert caught.value.reason is Reason.COLLATERAL_MISMATCH


@pytest.mark.parametrize("chain", [None, "", "%ZZ", quote("-----BEGIN CERTIFICATE-----"), "x" * 9000])
async def test_an_issuer_chain_that_is_absent_or_none_is_refused(
    chain: str | None, desk: Desk, service: Service
) -> None:
    service.answers[TCB_INFO_TARGET].headers = {} if chain is None else {"TCB-Info-Issuer-Chain": chain}
    with pytest.raises(WrongDocumentError):
        await desk.pcs.get(TCB_INFO)


async def test_stale_tcb_info_is_refused_when_it_comes_from_the_service(
    desk: Desk, service: Service, intel: Forge
) -> None:
    old = intel.issuer.sign("tcbInfo", tcb_info(NOW - timedelta(days=60)))
    service.answers[TCB_INFO_TARGET].body = old
    with pytest.raises(WrongDocumentError) as caught:
        await desk.pcs.get(TCB_INFO)
    assert caught.value.reason is Reason.COLLATERAL_EXPIRED


async def test_a_stale_crl_is_refused_when_it_comes_from_the_service(
    desk: Desk, service: Service, amd: dict[str, bytes]
) -> None:
    service.answers[CRL_TARGET].body = amd_crl(amd, days=-30)
    with pytest.raises(WrongDocumentError) as caught:
        await desk.kds.get(CRL)
    assert caught.value.reason is Reason.COLLATERAL_EXPIRED


async def test_a_crl_that_revokes_is_fetched_like_any_other_so_that_verification_sees_it(
    desk: Desk, service: Service, amd: dict[str, bytes], chip: sev_snp.SevSnpChip, time: Time
) -> None:
    service.answers[CRL_TARGET].body = amd_crl(amd, revoked=(sev_snp.ASK_SERIAL,))
    evidence = report(chip)
    fetched = await collect(needs_of(evidence, {}), {}, desk.services)
    with pytest.raises(NotGenuineError) as caught:
        snp.verify(evidence.value, merged(fetched), now=time.now)
    assert caught.value.reason is Reason.CERTIFICATE_REVOKED
