"""Admission as claims: who gets in, and the one reason for everyone who does not."""

import json

import pytest

from coordinator.admission import HASTE_MOST
from schemas import codec
from schemas.documents import Admission
from schemas.errors import MalformedError, PeerError, Reason
from schemas.evidence import SEV_SNP
from schemas.limits import SECOND
from schemas.messages import CLIENT, ENCLAVE, OPERATOR, Admitted, Credential, EvidenceAnswer, Get
from schemas.pinning import Pinned
from schemas.policy import Client, Workload
from sealing.context import sha256
from sealing.documents import open_admission
from sealing.keys import SigningKey
from tests.coordinator.world import CHIP, CLIENT_KEY, START, Party, Refusal, World, evidence, measured


@pytest.fixture
def world() -> World:
    """A mesh with a term and a policy."""
    world = World()
    world.up()
    return world


def admission_of(party: Party) -> Admission:
    world = party.world
    return open_admission(party.admitted.admission, world.keys.signing.public, world.mesh)


def reasons(refusal: "pytest.ExceptionInfo[Refusal]") -> tuple[str, ...]:
    return refusal.value.reasons


def refused(party: Party) -> tuple[str, ...]:
    """Return the reasons for which a party is refused when it shows its Evidence."""
    party.say_init()
    party.take_accept()
    with pytest.raises(Refusal) as refusal:
        party.prove()
    assert party.session.send_subject not in party.world.heard, "a refused session goes on"
    return reasons(refusal)


def test_enclave_is_admitted_with_its_own_keys_workload_and_roles(world: World) -> None:
    party = Party.enclave(world, "planner").join()
    admission = admission_of(party)
    assert admission.subject == party.keys.instance
    assert (admission.signing_key, admission.kem_key) == (party.keys.signing.public, party.keys.kem.public)
    assert (admission.kind, admission.workload, admission.platform) == (ENCLAVE, "planner", SEV_SNP)
    assert (admission.roles, admission.term, admission.policy_version) == (("planner",), 1, 1)
    assert (admission.issued, admission.expires) == (START // 1000, START // 1000 + 600)


def test_client_is_admitted_by_its_key_and_never_called_attested(world: World) -> None:
    admission = admission_of(Party.client(world).join())
    assert (admission.kind, admission.workload, admission.platform) == (CLIENT, "", "")


def test_operator_is_admitted_before_there_is_a_term() -> None:
    world = World()
    party = Party(world, OPERATOR, ("operator",), signing=world.operators[2]).join()
    assert party.state.term == admission_of(party).term == 0
    assert party.admitted.holdings.members == ()
    assert party.admitted.holdings.beacon == b""


@pytest.mark.parametrize("suite", [1, 2])
def test_admission_works_under_either_suite(suite: int) -> None:
    world = World(suite=suite)
    world.up()
    assert Party.enclave(world, "vault").join().admitted


def test_only_operators_are_admitted_before_the_order() -> None:
    world = World()
    assert refused(Party.enclave(world, "planner")) == ("term-not-accepted",)
    assert refused(Party.client(world)) == ("term-not-accepted",)


def test_nobody_else_is_admitted_before_the_policy() -> None:
    world = World()
    Party(world, OPERATOR, ("operator",), signing=world.operators[0]).join().event(world.order())
    assert refused(Party.enclave(world, "planner")) == ("platform-not-in-policy",)
    assert refused(Party.client(world)) == ("client-not-in-policy",)


def test_invariant_02_no_evidence_no_keys(world: World) -> None:
    party = Party.enclave(world, "planner")
    party.say_init()
    party.take_accept()
    world.frame(party.session, "evidence", EvidenceAnswer(None, {}, ()))
    with pytest.raises(Refusal) as refusal:
        party.answer("admitted")
    assert reasons(refusal) == ("malformed",)


@pytest.mark.parametrize("changed", ["challenge", "transcript", "signing_key", "kem_key"])
def test_evidence_that_binds_anything_else_is_refused(world: World, changed: str) -> None:
    party, other = Party.enclave(world, "planner"), Party.enclave(world, "planner").join()
    party.say_init()
    party.take_accept()
    theirs = {
        "challenge": other.state.challenge,
        "transcript": other.session.transcript,
        "signing_key": other.keys.signing.public,
        "kem_key": other.keys.kem.public,
    }
    bound = party.binding(**{changed: theirs[changed]})
    with pytest.raises(Refusal) as refusal:
        party.prove(evidence("planner", bound))
    assert reasons(refusal) == ("key-binding-mismatch",)


def test_evidence_of_one_session_is_worthless_in_another(world: World) -> None:
    honest = Party.enclave(world, "planner").join()
    thief = Party.enclave(world, "planner")
    thief.keys = honest.keys
    thief.say_init()
    thief.take_accept()
    with pytest.raises(Refusal) as refusal:
        thief.prove(evidence("planner", honest.binding()))
    assert reasons(refusal) == ("key-binding-mismatch",)


def test_challenge_is_burnt_by_a_failed_appraisal(world: World) -> None:
    party = Party.enclave(world, "planner")
    party.say_init()
    party.take_accept()
    with pytest.raises(Refusal):
        party.prove(evidence("stranger", party.binding()))
    wire = party.session.seal(codec.encode(["evidence", bytes(16), [None, {}]]))
    with pytest.raises(PeerError) as error:
        world.core.handle_frame(wire, now=world.now)
    assert error.value.reason is Reason.SESSION_UNKNOWN


def test_challenge_is_good_once_after_an_admission(world: World) -> None:
    party = Party.enclave(world, "planner").join()
    party.send_evidence(request=b"f" * 16)
    with pytest.raises(Refusal) as refusal:
        party.answer("admitted")
    assert reasons(refusal) == ("challenge-unknown",)


def test_challenge_is_burnt_while_its_evidence_is_being_appraised(world: World) -> None:
    party = Party.enclave(world, "planner")
    party.say_init()
    party.take_accept()
    world.hold_appraisals = True
    party.send_evidence()
    party.send_evidence(request=b"f" * 16)
    assert len(world.waiting) == 1
    with pytest.raises(Refusal) as refusal:
        party.answer("admitted")
    assert reasons(refusal) == ("challenge-unknown",)


def test_evidence_that_is_sent_again_is_judged_once_and_what_came_of_it_told_again(world: World) -> None:
    party = Party.enclave(world, "planner")
    party.say_init()
    party.take_accept()
    world.hold_appraisals = True
    party.send_evidence()
    party.send_evidence()
    assert len(world.waiting) == 1
    assert party.bodies() == []
    world.appraise_next()
    first = codec.convert(party.answer("admitted"), Admitted)
    logged = len(world.log)
    # Whatever is shown with it: it is not looked at.
    party.send_evidence(evidence("stranger", party.binding()))
    again = codec.convert(party.answer("admitted"), Admitted)
    assert again.admission == first.admission
    assert len(world.log) == logged
    with pytest.raises(Refusal, match="challenge-unknown"):
        party.request("evidence", EvidenceAnswer(None, {}, ()), "admitted")


def test_stale_challenge_is_refused(world: World) -> None:
    fresh, stale = Party.enclave(world, "planner"), Party.enclave(world, "planner")
    for party in (fresh, stale):
        party.say_init()
        party.take_accept()
    world.now += 29_999
    fresh.prove()
    world.now += 1
    with pytest.raises(Refusal) as refusal:
        stale.prove()
    assert reasons(refusal) == ("expired",)


def test_unknown_measurement_is_refused(world: World) -> None:
    assert refused(Party.enclave(world, "planner", workload="stranger")) == ("measurement-not-in-policy",)


@pytest.mark.parametrize("roles", [("planner", "vault"), ("vault",), ("submitter",), ("operator",), ()])
def test_roles_beyond_the_workload_are_refused(world: World, roles: tuple[str, ...]) -> None:
    assert refused(Party.enclave(world, *roles, workload="planner")) == ("role-not-permitted",)


def test_role_asked_for_twice_is_refused(world: World) -> None:
    assert refused(Party.enclave(world, "planner", "planner")) == ("role-not-permitted",)


def test_workload_may_hold_fewer_roles_than_it_is_permitted() -> None:
    world = World()
    both = Workload(roles=("planner", "vault"), on={SEV_SNP: Pinned(measurements=measured("planner"))})
    world.up(world.policy(workloads={**world.policy().workloads, "planner": both}))
    assert admission_of(Party.enclave(world, "planner").join()).roles == ("planner",)
    assert admission_of(Party.enclave(world, "vault", "planner", workload="planner").join()).roles == (
        "vault",
        "planner",
    )


def test_unknown_client_key_is_refused(world: World) -> None:
    stranger = Party(world, CLIENT, ("submitter",), signing=SigningKey(b"\x66" * 32))
    assert refused(stranger) == ("client-not-in-policy",)


@pytest.mark.parametrize("roles", [("planner",), ("submitter", "planner"), ("operator",)])
def test_roles_beyond_the_client_are_refused(world: World, roles: tuple[str, ...]) -> None:
    assert refused(Party.client(world, *roles)) == ("role-not-permitted",)


def test_roles_of_two_clients_do_not_add_up_for_another_key(world: World) -> None:
    other = Client(key=SigningKey(b"\x08" * 32).public.hex(), roles=("auditor",))
    policy = world.next_policy(world.policy(), clients={**world.policy().clients, "other": other})
    Party(world, OPERATOR, ("operator",), signing=world.operators[0]).join().event(world.policy_event(policy))
    assert refused(Party.client(world, "auditor")) == ("role-not-permitted",)


def test_operators_key_is_the_anchors_not_the_policys(world: World) -> None:
    assert refused(Party(world, OPERATOR, ("operator",), signing=CLIENT_KEY)) == ("client-not-in-policy",)


def test_operator_holds_no_other_role(world: World) -> None:
    operator = Party(world, OPERATOR, ("operator", "submitter"), signing=world.operators[0])
    assert refused(operator) == ("role-not-permitted",)


def test_client_with_evidence_is_refused(world: World) -> None:
    party = Party.client(world)
    party.say_init()
    party.take_accept()
    with pytest.raises(Refusal) as refusal:
        party.prove(evidence("planner", party.binding()))
    assert reasons(refusal) == ("malformed",)


def test_replayed_init_is_refused(world: World) -> None:
    party = Party.enclave(world, "planner")
    wire = party.say_init()
    with pytest.raises(PeerError) as error:
        world.core.handle_boot(wire, now=world.now)
    assert error.value.reason is Reason.REPLAYED


def test_init_replayed_after_a_minute_answers_no_offer_of_ours(world: World) -> None:
    party = Party.enclave(world, "planner").join()
    wire = party.pending.wire
    world.tick(60_000)
    with pytest.raises(PeerError) as error:
        world.core.handle_boot(wire, now=world.now)
    assert error.value.reason is Reason.CHALLENGE_UNKNOWN


def test_init_that_answers_no_offer_is_refused(world: World) -> None:
    with pytest.raises(PeerError) as error:
        Party.enclave(world, "planner").say_init(context=sha256(b"not an offer"))
    assert error.value.reason is Reason.CHALLENGE_UNKNOWN


def test_session_of_another_instance_is_no_context_for_a_renewal(world: World) -> None:
    other = Party.enclave(world, "planner").join()
    with pytest.raises(PeerError) as error:
        Party.enclave(world, "planner").say_init(context=other.session.transcript)
    assert error.value.reason is Reason.CHALLENGE_UNKNOWN


def test_credential_of_another_kind_is_malformed(world: World) -> None:
    party = Party.enclave(world, "planner")
    with pytest.raises(MalformedError):
        party.say_init(
            credential=Credential(
                "coordinator", party.keys.signing.public, party.keys.kem.public, ("planner",), None
            )
        )


@pytest.mark.parametrize("named", ["role", "responder_role", "beacon"])
def test_init_that_names_roles_or_a_beacon_is_malformed(world: World, named: str) -> None:
    party = Party.enclave(world, "planner")
    context = sha256(world.offer()[0])
    names: dict[str, bytes] = {named: bytes(16)}
    pending = party.pend(party.credential(), context, **names)
    with pytest.raises(MalformedError):
        world.core.handle_boot(pending.wire, now=world.now)


def test_init_under_a_credential_of_somebody_else_is_refused(world: World) -> None:
    victim, thief = Party.enclave(world, "planner").join(), Party.enclave(world, "planner")
    with pytest.raises(PeerError) as error:
        thief.say_init(credential=victim.credential())
    assert error.value.reason is Reason.SIGNATURE_INVALID


def test_junk_and_oversized_inits_are_refused(world: World) -> None:
    for wire, reason in ((b"junk" * 500, Reason.NOT_AUTHENTIC), (bytes(70_000), Reason.TOO_LARGE)):
        with pytest.raises(PeerError) as error:
            world.core.handle_boot(wire, now=world.now)
        assert error.value.reason is reason


def test_fifth_half_open_session_of_an_instance_is_refused_until_one_ends(world: World) -> None:
    party = Party.enclave(world, "planner")
    for _ in range(4):
        party.say_init()
    with pytest.raises(PeerError) as error:
        party.say_init()
    assert error.value.reason is Reason.TOO_MANY_HALF_OPEN
    assert Party.enclave(world, "planner").join(), "the limit of one is not a limit of all"
    world.tick(5_000)
    assert party.join()


def test_half_open_session_is_over_after_five_seconds(world: World) -> None:
    party = Party.enclave(world, "planner")
    party.say_init()
    world.now += 5_000
    with pytest.raises(PeerError) as error:
        party.take_accept()
    assert error.value.reason is Reason.SESSION_UNKNOWN
    world.carry_out(world.core.sweep(now=world.now))
    assert party.session.send_subject not in world.heard


def test_session_that_owes_its_evidence_is_swept(world: World) -> None:
    party = Party.enclave(world, "planner")
    party.say_init()
    party.take_accept()
    world.tick(30_000)
    assert party.session.send_subject not in world.heard


def test_request_before_admission_is_refused(world: World) -> None:
    party = Party.enclave(world, "planner")
    party.say_init()
    party.take_accept()
    with pytest.raises(Refusal) as refusal:
        party.request("get", Get("holdings", ""), "got")
    assert reasons(refusal) == ("instance-unknown",)


@pytest.mark.parametrize("purpose", ["time", "event", "push"])
def test_no_request_is_heard_before_admission(world: World, purpose: str) -> None:
    party = Party(world, OPERATOR, ("operator",), signing=world.operators[1])
    party.say_init()
    party.take_accept()
    with pytest.raises(Refusal) as refusal:
        party.request(purpose, None, "nothing")
    assert reasons(refusal) == ("instance-unknown",)


def test_session_that_was_replaced_gets_no_pushes_and_answers_for_a_while(world: World) -> None:
    party = Party.enclave(world, "planner").join()
    old = party.session
    party.renew()
    new, party.session = party.session, old
    world.up_again().event(world.revocation("instance", "ab" * 32))
    assert party.pushed() == []
    assert party.holdings().revoked
    party.session = new
    assert len(party.pushed()) == 1


def test_exhausted_session_is_dropped_instead_of_sealed_to(world: World) -> None:
    party = Party.enclave(world, "planner").join()
    link = world.core._links.get(_peer_id(world, party))
    assert link is not None
    link.session.exhausted = True
    world.frame(party.session, "time", None)
    assert party.bodies() == []
    assert party.session.send_subject not in world.heard


def _peer_id(world: World, party: Party) -> bytes:
    entered = world.core.authority.ledger.admitted(party.keys.instance)
    assert entered is not None
    return entered.session_id


def test_full_registry_admits_nobody_new_and_renews_who_is_in_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    party = Party.enclave(world, "planner").join()
    monkeypatch.setattr("coordinator.ledger.PARTIES_REMEMBERED", 2)
    assert refused(Party.enclave(world, "planner")) == ("unavailable",)
    party.renew()


def test_renewal_replaces_the_session_and_extends_the_admission(world: World) -> None:
    party = Party.enclave(world, "planner").join()
    first, old = admission_of(party), party.session
    world.tick(300_000)
    party.renew()
    assert admission_of(party).expires == first.expires + 300
    assert Party.enclave(world, "redactor").join().directory("vault") == []
    world.tick(5_000)
    assert old.send_subject not in world.heard
    assert party.session.send_subject in world.heard


def test_renewal_needs_evidence_of_its_own(world: World) -> None:
    party = Party.enclave(world, "planner").join()
    bound = party.binding()
    party.say_init(context=party.session.transcript)
    party.take_accept()
    with pytest.raises(Refusal) as refusal:
        party.prove(evidence("planner", bound))
    assert reasons(refusal) == ("key-binding-mismatch",)


def test_admission_ends_with_its_session(world: World) -> None:
    party = Party.enclave(world, "planner").join()
    world.tick(600_000)
    assert party.session.send_subject not in world.heard
    assert '"decision":"expired"' in world.log[-1]


def test_appraisal_that_ends_after_a_new_policy_is_made_again_by_it(world: World) -> None:
    party = Party.enclave(world, "planner")
    party.say_init()
    party.take_accept()
    world.hold_appraisals = True
    party.send_evidence()
    changed = Workload(roles=("planner",), on={SEV_SNP: Pinned(measurements=measured("planner-2"))})
    policy = world.policy()
    policy = world.next_policy(policy, workloads={**policy.workloads, "planner": changed})
    operator = Party(world, OPERATOR, ("operator",), signing=world.operators[0]).join()
    operator.event(world.policy_event(policy))
    world.hold_appraisals = False
    world.appraise_next()
    with pytest.raises(Refusal) as refusal:
        party.answer("admitted")
    assert reasons(refusal) == ("measurement-not-in-policy",)


def test_appraisal_of_a_session_that_is_gone_admits_nobody(world: World) -> None:
    party = Party.enclave(world, "planner", chip=CHIP)
    party.say_init()
    party.take_accept()
    party2 = Party.enclave(world, "vault").join()
    world.hold_appraisals = True
    party.send_evidence()
    operator = Party(world, OPERATOR, ("operator",), signing=world.operators[0]).join()
    operator.event(world.revocation("chip", CHIP))
    world.hold_appraisals = False
    world.appraise_next()
    with pytest.raises(Refusal) as refusal:
        party.answer("admitted")
    assert reasons(refusal) == ("instance-revoked",)
    assert party2.session.send_subject not in world.heard


def test_too_many_appraisals_at_once_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.core.APPRAISALS_PENDING", 1)
    world.hold_appraisals = True
    first, second = Party.enclave(world, "planner"), Party.enclave(world, "planner")
    for party in (first, second):
        party.say_init()
        party.take_accept()
        party.send_evidence()
    with pytest.raises(Refusal) as refusal:
        second.answer("admitted")
    assert reasons(refusal) == ("unavailable",)
    world.hold_appraisals = False
    world.appraise_next()
    first.answer("admitted")
    assert Party.enclave(world, "planner").join(), "an appraisal that ended still counts"


def test_confirmed_sessions_are_bounded_and_the_eldest_goes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.links.HALF_OPEN_TOTAL_COORDINATOR", 2)
    parties = [Party.enclave(world, "planner") for _ in range(3)]
    for party in parties:
        party.say_init()
        party.take_accept()
    assert [party.session.send_subject in world.heard for party in parties] == [False, True, True]


def test_half_open_sessions_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.links.HALF_OPEN_TOTAL_COORDINATOR", 2)
    for _ in range(2):
        Party.enclave(world, "planner").say_init()
    with pytest.raises(PeerError) as error:
        Party.enclave(world, "planner").say_init()
    assert error.value.reason is Reason.TOO_MANY_HALF_OPEN


def test_frames_that_are_not_the_sessions_change_nothing(world: World) -> None:
    party = Party.enclave(world, "planner").join()
    frame = party.session.seal(codec.encode(["time", bytes(16), None]))
    for wire, reason in (
        (b"", Reason.SESSION_UNKNOWN),
        (frame[:-1] + bytes([frame[-1] ^ 1]), Reason.NOT_AUTHENTIC),
    ):
        with pytest.raises(PeerError) as error:
            world.core.handle_frame(wire, now=world.now)
        assert error.value.reason is reason
    world.carry_out(world.core.handle_frame(frame, now=world.now))
    with pytest.raises(PeerError) as error:
        world.core.handle_frame(frame, now=world.now)
    assert error.value.reason is Reason.REPLAYED


def test_the_registry_knows_the_evidence_that_an_instance_was_admitted_by(world: World) -> None:
    party = Party.enclave(world, "vault")
    party.say_init()
    party.take_accept()
    given = evidence(party.workload, party.binding(), party.chip)
    party.prove(given)
    entered = world.core.authority.ledger.admitted(party.keys.instance)
    assert entered is not None
    assert entered.evidence == sha256(given.value)


def admissions(world: World, party: Party) -> int:
    entries = [json.loads(line) for line in world.log]
    instance = party.keys.instance.hex()
    return sum(entry["decision"] == "admitted" and entry["instance"] == instance for entry in entries)


def test_nobody_pushes_entries_out_of_the_log_by_renewing_without_pause(world: World) -> None:
    world.up()
    client = Party.client(world).join()
    first, size = admission_of(client), world.core.authority.audit.size
    for _ in range(100):
        world.now += 100
        client.renew()
    assert world.core.authority.audit.size == size
    # What it got says no more than the entry does.
    again = admission_of(client)
    assert (again.issued, again.expires) == (first.issued, first.expires)
    # A tenth of its life later it is due to nobody, and is entered.
    world.now = first.issued * SECOND + 60_000
    client.renew()
    assert admission_of(client).expires == first.expires + 60
    assert admissions(world, client) == 2


def test_an_admission_by_another_policy_is_entered_however_soon(world: World) -> None:
    operator = world.up()
    client = Party.client(world).join()
    operator.event(world.policy_event(world.next_policy(world.policy())))
    client.renew()
    assert admission_of(client).policy_version == 2
    assert admissions(world, client) == 2


def test_nobody_pushes_entries_out_of_the_log_by_taking_turns_of_roles() -> None:
    world = World()
    clients = {"cli": Client(key=CLIENT_KEY.public.hex(), roles=("submitter", "auditor"))}
    world.up(world.policy(clients=clients))
    party = Party.client(world, "submitter").join()
    for turn in range(HASTE_MOST):
        party.roles = ("auditor", "submitter")[turn % 2 :][:1]
        party.renew()
    party.roles = ("auditor",)
    with pytest.raises(Refusal, match="unavailable"):
        party.renew()
    world.now += 60_000
    Party.client(world, "auditor").join()
