"""Subjects cannot carry commands, and match as NATS matches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from transport.subjects import check_filter, check_subject, matches, overlap

TOKENS = st.sampled_from(["a", "b", "c"])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=4).map(".".join)
FILTERS = st.builds(
    lambda tokens, tail: ".".join(tokens + tail),
    st.lists(TOKENS | st.just("*"), min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
)


def by_definition(pattern: str, subject: str) -> bool:
    """Match as NATS's documents define it, token by token from the front."""
    if not pattern or not subject:
        return not pattern and not subject
    first, _, rest = pattern.partition(".")
    token, _, left = subject.partition(".")
    return first == ">" or (first in ("*", token) and by_definition(rest, left))


@given(FILTERS, SUBJECTS)
def test_a_filter_matches_as_defined(pattern: str, subject: str) -> None:
    assert matches(pattern, subject) is by_definition(pattern, subject)


@given(FILTERS, FILTERS, SUBJECTS)
def test_filters_that_share_a_subject_overlap(one: str, other: str, subject: str) -> None:
    assert overlap(one, other) is overlap(other, one)
    if matches(one, subject) and matches(other, subject):
        assert overlap(one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("a", "b"), ("a.b", "a"), ("*.a", "*.b"), ("a.>", "a"), ("a.*", "a")]
)
def test_filters_that_share_none_do_not(one: str, other: str) -> None:
    assert not overlap(one, other)
    assert not overlap(other, one)


@given(st.text(max_size=20))
def test_what_passes_is_one_word_of_printable_ascii(subject: str) -> None:
    for check in (check_subject, check_filter):
        try:
            check(subject)
        except UsageError:
            continue
        assert subject.isascii()
        assert subject.isprintable()
        assert " " not in subject
        assert all(subject.split("."))


@given(SUBJECTS)
def test_plain_subjects_pass(subject: str) -> None:
    check_subject(subject)
    check_filter(subject)
