"""Who seems to be gone is asked last, is never left out, and is forgotten soon."""

from typing import cast

import pytest

from agent_runtime.absences import FORGOTTEN_AFTER, HEEDED_EVERY, Absences, Listed
from tests.agent_runtime.world import enclave, mesh_up

NOW = 1_000_000


@pytest.fixture
def peers() -> tuple[Listed, Listed]:
    world, _ = mesh_up()
    held = [enclave(world, role).membership.held() for role in ("vault", "redactor")]
    return cast("tuple[Listed, Listed]", tuple((each.admission, each.admission_bytes) for each in held))


def test_who_seems_gone_is_asked_only_if_all_others_seem_so_too(peers: tuple[Listed, Listed]) -> None:
    absences, (first, second) = Absences(), peers
    assert list(absences.likely(peers)) == [first, second]
    assert absences.heed(first[0].subject, NOW)
    assert list(absences.likely(peers)) == [second]
    absences.failed(second[0].subject, NOW)
    assert list(absences.likely(peers)) == [first, second]
    absences.there(first[0].subject)
    assert list(absences.likely(peers)) == [first]


def test_a_word_about_one_instance_is_acted_on_once_a_second() -> None:
    absences = Absences()
    assert [absences.heed(b"a", NOW + at) for at in (0, 1, HEEDED_EVERY - 1, HEEDED_EVERY)] == [
        *(True, False, False),
        True,
    ]
    assert absences.heed(b"b", NOW)


def test_all_is_forgotten_after_a_while(peers: tuple[Listed, Listed]) -> None:
    absences, (first, second) = Absences(), peers
    absences.heed(first[0].subject, NOW)
    absences.failed(second[0].subject, NOW)
    assert absences.failures(second[0].subject) == 1
    absences.sweep(NOW + FORGOTTEN_AFTER - 1)
    assert absences.failures(second[0].subject) == 1
    absences.sweep(NOW + FORGOTTEN_AFTER)
    assert absences.failures(second[0].subject) == 0
    assert not any((absences._since, absences._heeded, absences._failures))
