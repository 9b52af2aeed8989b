"""However many are revoked: what a party is sent fits a message, and a set with a page too few is none."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime.trust import joined
from coordinator.beacons import revoked_hash
from coordinator.holdings import pages
from schemas import codec
from schemas.errors import Reason
from schemas.limits import MAX_BODY, REVOKED_PAGE
from schemas.messages import Get, Holdings, Revocation, RevokedPage
from sealing.errors import SealingError
from tests.agent_runtime.world import Member, enclave, mesh_up
from tests.coordinator.world import Party, Refusal, World

# What a workload that starts again every second for a day leaves behind.
MANY = 65_536


def entry(value: str, instances: Sequence[int]) -> Revocation:
    return Revocation("workload", value, 1, tuple(number.to_bytes(32, "big") for number in instances))


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 5_000)), max_size=8, unique_by=lambda e: e[0]
    )
)
def test_pages_put_together_are_the_set_and_each_fits(entries: list[tuple[str, int]]) -> None:
    revoked = tuple(entry(value * 256, range(count)) for value, count in sorted(entries))
    cut = pages(revoked)
    assert joined(cut) == revoked
    assert all(len(codec.encode(RevokedPage(page))) <= REVOKED_PAGE + 64 for page in cut)


def test_the_largest_set_is_cut_to_pages_that_fit_a_message() -> None:
    revoked = (entry("workload", range(MANY)),)
    cut = pages(revoked)
    assert revoked_hash(joined(cut)) == revoked_hash(revoked)
    assert max(len(codec.encode(RevokedPage(page))) for page in cut) * 10 < MAX_BODY


@pytest.fixture
def crowd() -> tuple[World, Party, Member]:
    """A mesh whose operators revoked more than fits one page, and an agent that knows of none of it."""
    world, operator = mesh_up()
    agent = enclave(world, "planner")
    gone = Party.enclave(world, "redactor").join()
    world.core.authority.ledger.strike(
        "workload",
        "redactor",
        [],
        now=world.now,
        until=world.now + 10**9,
        grace=0,
    )
    listed = world.core.authority.ledger._listed["workload", "redactor"]
    many = entry("redactor", range(5_000)).instances
    world.core.authority.ledger._listed["workload", "redactor"] = type(listed)(
        Revocation("workload", "redactor", listed.entry.time, many), listed.until
    )
    world.core.authority.ledger._revoked = None
    operator.event(world.revocation("instance", gone.keys.instance.hex()))
    agent.party.pushed()
    return world, operator, agent


def page(party: Party, number: str) -> tuple[Revocation, ...]:
    return codec.convert(party.request("get", Get("revoked", number), "got"), RevokedPage).revoked


def whole(party: Party) -> Holdings:
    first = party.holdings()
    assert first.revoked_pages == 3
    rest = [page(party, str(number)) for number in range(1, first.revoked_pages)]
    return with_pages(first, [first.revoked, *rest])


def with_pages(first: Holdings, parts: Sequence[tuple[Revocation, ...]]) -> Holdings:
    fields = {name: getattr(first, name) for name in Holdings.__struct_fields__}
    return Holdings(**{**fields, "revoked": joined(parts), "revoked_pages": 1})


def test_all_pages_make_the_set_that_the_beacon_names(crowd: tuple[World, Party, Member]) -> None:
    world, _, agent = crowd
    agent.membership.hold(whole(agent.party))
    assert len(agent.membership.held().revoked) == 5_001
    world.tick(1_000)
    assert agent.beacons()[-1] is True


@pytest.mark.parametrize("parts", [[0], [0, 1], [1, 2], [0, 2, 1], [0, 1, 1, 2]])
def test_a_page_too_few_or_twice_or_in_another_order_changes_nothing(
    crowd: tuple[World, Party, Member], parts: list[int]
) -> None:
    world, _, agent = crowd
    first = agent.party.holdings()
    got = [first.revoked, page(agent.party, "1"), page(agent.party, "2")]
    before = agent.membership.held()
    with pytest.raises(SealingError) as refusal:
        agent.membership.hold(with_pages(first, [got[part] for part in parts]))
    assert refusal.value.reason is Reason.NOT_LIVE
    assert agent.membership.held() is before
    # The next beacon names what is not here, so it does not count; after the grace nothing is taken or sent.
    world.tick(1_000)
    assert agent.beacons()[-1] is False
    world.tick(10_000)
    assert not agent.membership.live()


@pytest.mark.parametrize("number", ["", "-1", "x", "3", "1" * 100, "²"])
def test_there_are_no_other_pages(crowd: tuple[World, Party, Member], number: str) -> None:
    _, _, agent = crowd
    with pytest.raises(Refusal):
        page(agent.party, number)
    assert page(agent.party, "0") == agent.party.holdings().revoked
