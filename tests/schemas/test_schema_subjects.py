"""The subject table: every kind once, and names that say nothing but what they are given."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.subjects import TABLE, Kind, Party, Row, Sealing, every, mesh_token, stream_name, subject

MESH = bytes(range(32))


def test_the_table_has_every_kind_exactly_once() -> None:
    assert sorted(row.kind for row in TABLE) == sorted(Kind)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.kind.value)
def test_every_row_has_somebody_who_speaks_and_somebody_who_listens(row: Row) -> None:
    for parties in (row.publishers, row.subscribers):
        assert parties
        assert len(set(parties)) == len(parties)
    # Everything but an HPKE ciphertext shows something, and the table has words for it.
    assert bool(row.clear) == (row.sealing is not Sealing.HPKE)


def test_the_scheduler_hears_of_tasks_and_loads_and_speaks_of_assignments_alone() -> None:
    hears = {row.kind for row in TABLE if Party.SCHEDULER in row.subscribers}
    speaks = {row.kind for row in TABLE if Party.SCHEDULER in row.publishers}
    assert hears == {Kind.TASK, Kind.LOAD}
    assert speaks == {Kind.ASSIGN}


def test_nothing_is_bare_but_bootstrap_and_the_schedulers_hints() -> None:
    assert {row.kind for row in TABLE if row.sealing is Sealing.NONE} == {Kind.HELLO, Kind.OFFER, Kind.LOAD}


def test_only_tasks_and_results_are_kept_in_streams_of_their_own() -> None:
    assert {row.kind: row.stream for row in TABLE if row.stream} == {
        Kind.TASK: "tasks",
        Kind.RESULT: "results",
    }


def test_a_subject_is_prefix_mesh_kind_and_token() -> None:
    assert subject(MESH, Kind.HELLO) == f"sb.{'000102030405060708090a0b0c0d0e0f'}.hello.00"
    assert subject(MESH, Kind.TASK, b"\xab\xcd") == f"sb.{mesh_token(MESH)}.task.abcd"
    assert every(MESH, Kind.TASK) == f"sb.{mesh_token(MESH)}.task.*"
    assert stream_name(MESH, "tasks") == f"sealbus-{mesh_token(MESH)}-tasks"


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=32, max_size=32), st.sampled_from(Kind), st.binary(min_size=1, max_size=16)
        ),
        min_size=2,
        max_size=2,
        unique_by=lambda each: (each[0][:16], each[1], each[2]),
    )
)
def test_no_two_subjects_are_the_same_and_none_has_a_wildcard(pair: list[tuple[bytes, Kind, bytes]]) -> None:
    names = {subject(*each) for each in pair}
    assert len(names) == 2
    for name in names:
        assert re.fullmatch(r"sb\.[0-9a-f]{32}\.[a-z]+\.([0-9a-f]{2})+", name)
