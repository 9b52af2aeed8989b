"""The keyring: which epochs are held, which is sealed under, and that no handle ever begins again."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent_runtime.errors import RefusedError
from agent_runtime.keyring import CLOSED_KEPT, Keyring
from agent_runtime.trust import MESH_GROUP
from schemas.documents import OpenEpoch
from schemas.messages import Holdings, MemberPackage, SenderPackage
from sealing.context import Mesh
from sealing.errors import NotAuthenticError
from sealing.groups import Sender, epoch_token, frame_token, sender_package
from tests.coordinator.world import seeded

MESH = Mesh(b"m" * 32, 1)
OWN = Sender(b"i" * 32, b"r" * 16)
OPENS, LAST_SEAL, CLOSES = 1_000, 5_000, 9_000
NOW = 2_000


def package(group: str = "worker", epoch: int = 1, *, secret: int = 1, opens: int = OPENS) -> MemberPackage:
    return MemberPackage(group, epoch, bytes([secret]) * 32, opens, LAST_SEAL, CLOSES)


def sender(group: str = "worker", epoch: int = 1, *, secret: int = 1, nonce: int = 1) -> SenderPackage:
    return sender_package(MESH, package(group, epoch, secret=secret), OWN, bytes([nonce]) * 12)


def holdings(*packages: MemberPackage | SenderPackage) -> Holdings:
    return Holdings(
        tuple(each for each in packages if isinstance(each, MemberPackage)),
        tuple(each for each in packages if isinstance(each, SenderPackage)),
        (),
        (),
        b"",
        1,
        (),
    )


def listed(package: MemberPackage | SenderPackage) -> OpenEpoch:
    token = package.token if isinstance(package, SenderPackage) else epoch_token(MESH, package)
    return OpenEpoch(package.group, package.epoch, token, package.last_seal, package.closes)


def keyring(*packages: MemberPackage | SenderPackage) -> Keyring:
    made = Keyring(MESH, OWN, seeded(3))
    made.add(holdings(*packages))
    return made


# Handles.


def handle_and_counter(frame: bytes) -> tuple[bytes, int]:
    """Return what must never come twice under one key."""
    return frame[22:98], int.from_bytes(frame[98:106], "big")


def test_package_that_comes_again_does_not_begin_again() -> None:
    for each in (package(), sender()):
        ring = keyring(each)
        first = ring.sealer("worker", NOW).seal_task(b"one", b"t" * 16)
        ring.add(holdings(each))
        second = ring.sealer("worker", NOW).seal_task(b"two", b"t" * 16)
        assert handle_and_counter(second) == (handle_and_counter(first)[0], 1)


def test_handle_that_was_dropped_never_begins_again() -> None:
    ring = keyring(sender())
    ring.sealer("worker", NOW).seal_task(b"one", b"t" * 16)
    ring.keep_only(())
    ring.add(holdings(sender()))
    with pytest.raises(RefusedError, match="epoch-unknown"):
        ring.sealer("worker", NOW)
    # Another handle under the same epoch has a key of its own.
    ring.add(holdings(sender(nonce=2)))
    assert ring.sealer("worker", NOW).epoch == 1


def test_epoch_that_comes_back_to_a_member_gets_a_handle_of_its_own() -> None:
    ring = keyring(package())
    first = ring.sealer("worker", NOW).seal_task(b"one", b"t" * 16)
    ring.keep_only(())
    ring.add(holdings(package()))
    second = ring.sealer("worker", NOW).seal_task(b"two", b"t" * 16)
    assert handle_and_counter(first)[0] != handle_and_counter(second)[0]


class Handles(RuleBasedStateMachine):
    """Whatever the coordinator sends, again and in any order: no handle has one counter twice."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = keyring()
        self.used: set[tuple[bytes, int]] = set()

    @rule(epoch=st.integers(1, 3), secret=st.integers(1, 2), nonce=st.integers(1, 2))
    def send_sender(self, epoch: int, secret: int, nonce: int) -> None:
        """A sender package, perhaps one that was here."""
        self.ring.add(holdings(sender(epoch=epoch, secret=secret, nonce=nonce)))

    @rule(epoch=st.integers(1, 3), secret=st.integers(1, 2))
    def send_member(self, epoch: int, secret: int) -> None:
        """A member package, perhaps one that was here."""
        self.ring.add(holdings(package(epoch=epoch, secret=secret)))

    @rule(epochs=st.sets(st.integers(1, 3)))
    def close(self, epochs: set[int]) -> None:
        """Epochs close, perhaps to come again."""
        self.ring.keep_only([("worker", epoch) for epoch in epochs])

    @rule()
    def seal(self) -> None:
        """Seal under whatever is newest."""
        try:
            frame = self.ring.sealer("worker", NOW).seal_task(b"body", b"t" * 16)
        except RefusedError:
            return
        # Handles are drawn at random, so each has one key: two frames of one counter would share a nonce.
        assert handle_and_counter(frame) not in self.used
        self.used.add(handle_and_counter(frame))

    @invariant()
    def finds_its_openers_by_token(self) -> None:
        """Both tables of openers say the same."""
        openers = list(self.ring._openers.values())
        assert {opener.token: opener for opener in openers} == self.ring._by_token


TestHandles = Handles.TestCase


# Which epochs are held.


def test_member_packages_of_own_groups_and_the_mesh_are_taken_and_no_others() -> None:
    ring = keyring()
    ring.check(holdings(package(), package(MESH_GROUP)), ("worker",))
    with pytest.raises(NotAuthenticError):
        ring.check(holdings(package("vault")), ("worker",))
    with pytest.raises(NotAuthenticError):
        ring.check(holdings(package("worker")), ())


def test_package_of_one_epoch_and_another_secret_takes_its_place() -> None:
    ring = keyring(package())
    ring.add(holdings(package(secret=2)))
    assert ring.opener(epoch_token(MESH, package())) is None
    assert ring.was_closed(epoch_token(MESH, package()))
    assert ring.opener(epoch_token(MESH, package(secret=2))) is not None


def test_closed_epoch_is_erased_and_known_to_be_closed() -> None:
    ring = keyring(package(epoch=1), package(epoch=2), sender("vault"))
    token = epoch_token(MESH, package(epoch=1))
    opener, sealer = ring.opener(token), ring.sealer("vault", NOW)
    assert opener is not None
    ring.keep_only([("worker", 2)])
    assert ring.opener(token) is None
    assert ring.was_closed(token)
    assert not ring.was_closed(epoch_token(MESH, package(epoch=2)))
    with pytest.raises(NotAuthenticError):
        opener.reply_secret()
    with pytest.raises(NotAuthenticError):
        sealer.seal_task(b"body", b"t" * 16)


def test_so_many_closed_epochs_are_known() -> None:
    ring = keyring()
    for epoch in range(CLOSED_KEPT + 1):
        ring.add(holdings(package(epoch=epoch)))
    ring.keep_only(())
    assert not ring.was_closed(epoch_token(MESH, package(epoch=0)))
    assert ring.was_closed(epoch_token(MESH, package(epoch=1)))


def test_holds_all_epochs_by_their_tokens() -> None:
    ring = keyring(package(), sender("vault"))
    both = [listed(package()), listed(sender("vault"))]
    assert ring.holds(both)
    assert not ring.holds([*both, listed(package(epoch=2))])
    assert not ring.holds([listed(package(secret=2))])
    assert not ring.holds([listed(sender("vault", secret=2))])


# Which is sealed under.


def test_newest_epoch_that_is_open_is_sealed_under() -> None:
    ring = keyring(package(epoch=1), package(epoch=2), package(epoch=3, opens=NOW + 1))
    assert ring.sealer("worker", NOW).epoch == 2
    assert ring.sealer("worker", NOW + 1).epoch == 3
    assert ring.current("worker", NOW).epoch == 2
    senders = keyring(sender(epoch=1), sender(epoch=2))
    assert senders.sealer("worker", NOW).epoch == 2
    frame = ring.sealer("worker", NOW).seal_task(b"body", b"t" * 16)
    assert frame_token(frame) == epoch_token(MESH, package(epoch=2))


@pytest.mark.parametrize(
    ("now", "open_"), [(OPENS - 1, False), (OPENS, True), (LAST_SEAL, True), (LAST_SEAL + 1, False)]
)
def test_nothing_is_sealed_outside_of_an_epochs_time(now: int, open_: bool) -> None:
    for ring in (keyring(package()), keyring(sender())):
        if open_:
            assert ring.sealer("worker", now).epoch == 1
        else:
            with pytest.raises(RefusedError, match="epoch-unknown"):
                ring.sealer("worker", now)


def test_group_without_keys_is_not_sealed_to() -> None:
    ring = keyring(package())
    for ask in (ring.sealer, ring.current):
        with pytest.raises(RefusedError, match="epoch-unknown"):
            ask("vault", NOW)
