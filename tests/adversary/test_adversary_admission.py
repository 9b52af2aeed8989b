"""No network gets anybody admitted as what he is not, or keeps an honest agent out once it is honest."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.adversary.admission import MOVES, ROLES, Admission
from tests.adversary.network import Deed

number = st.integers(0, 2**16)


class AdmissionUnderAttack(RuleBasedStateMachine):
    """Agents and a coordinator; the network, and one genuine enclave of no policy, are hypothesis's."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission()

    @rule(role=st.sampled_from(ROLES), evil=st.booleans())
    def join(self, role: str, evil: bool) -> None:
        """A process says hello: an honest one, or the adversary's own."""
        self.admission.do_join(role, evil=evil)

    @rule(joiner=number)
    def hello_again(self, joiner: int) -> None:
        """A process that heard nothing says hello again."""
        self.admission.do_hello_again(joiner)

    @rule()
    def tick(self) -> None:
        """The coordinator's chip quotes."""
        self.admission.do_tick()

    @rule(deed=st.sampled_from(MOVES), pick=number, other=number, place=number)
    def attack(self, deed: Deed, pick: int, other: int, place: int) -> None:
        """The network does something to what is said, or was."""
        self.admission.do(deed, pick, other, place)

    @rule()
    def all_arrives(self) -> None:
        """The network is honest for a moment."""
        self.admission.settle()

    @rule(milliseconds=st.sampled_from([1, 1_000, 6_000]))
    def wait(self, milliseconds: int) -> None:
        """Time passes."""
        self.admission.do_wait(milliseconds)

    @invariant()
    def nothing_is_wrong(self) -> None:
        """What must hold after every step."""
        self.admission.check()

    def teardown(self) -> None:
        """Let the network turn honest: then who may be admitted is, and the adversary's enclave is not."""
        self.admission.heal()


def test_admission_under_attack() -> None:
    run_state_machine_as_test(
        AdmissionUnderAttack, settings=settings(max_examples=15, stateful_step_count=25, deadline=None)
    )


@pytest.mark.slow
def test_admission_under_long_attack() -> None:
    run_state_machine_as_test(
        AdmissionUnderAttack, settings=settings(max_examples=100, stateful_step_count=80, deadline=None)
    )
