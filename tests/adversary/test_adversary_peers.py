"""No network makes agents believe what nobody said, run a call twice, or stay apart once it is honest."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.adversary.network import Deed
from tests.adversary.peers import MOVES, ROLES, Peers

role = st.sampled_from(ROLES)
number = st.integers(0, 2**16)


class PeersUnderAttack(RuleBasedStateMachine):
    """Two agents; the network is hypothesis's."""

    def __init__(self) -> None:
        super().__init__()
        self.peers = Peers()

    @rule(role=role, size=st.sampled_from([0, 10, 3000]))
    def call(self, role: str, size: int) -> None:
        """An agent calls a tool of the other's; if both do, both open sessions at once."""
        self.peers.do_call(role, size)

    @rule(deed=st.sampled_from(MOVES), pick=number, other=number, place=number)
    def attack(self, deed: Deed, pick: int, other: int, place: int) -> None:
        """The network does something to what is said, or was."""
        self.peers.do(deed, pick, other, place)

    @rule()
    def all_arrives(self) -> None:
        """The network is honest for a moment."""
        self.peers.settle()

    @rule(role=role)
    def silence(self, role: str) -> None:
        """An agent has waited for long enough, and asks again."""
        self.peers.do_give_up(role)

    @rule(role=role)
    def renew(self, role: str) -> None:
        """An agent opens another session although it has one."""
        self.peers.do_renew(role)

    @rule(role=role)
    def restart(self, role: str) -> None:
        """An agent's process ends and begins again."""
        self.peers.do_restart(role)

    @rule(milliseconds=st.sampled_from([1, 200, 1_000, 4_000]))
    def wait(self, milliseconds: int) -> None:
        """Time passes."""
        self.peers.do_wait(milliseconds)

    @invariant()
    def nothing_is_wrong(self) -> None:
        """What must hold after every step."""
        self.peers.check()

    def teardown(self) -> None:
        """Let the network turn honest: then both can call each other."""
        self.peers.heal()


def test_agents_under_attack() -> None:
    run_state_machine_as_test(
        PeersUnderAttack, settings=settings(max_examples=20, stateful_step_count=30, deadline=None)
    )


@pytest.mark.slow
def test_agents_under_long_attack() -> None:
    run_state_machine_as_test(
        PeersUnderAttack, settings=settings(max_examples=150, stateful_step_count=120, deadline=None)
    )
