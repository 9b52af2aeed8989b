"""The list of acts: what each promises is written down where it says, and its outcome is one of the codes."""

import re
from pathlib import Path

import pytest

from lab.theatre import ACTS, Act, Outcome, Played, Verdict, chosen
from schemas.errors import UsageError

HOME = Path(__file__).parents[2]


def anchors(document: str) -> set[str]:
    """Return the anchors of a document's headings, as those who show it make them."""
    headings = re.findall(r"^#+ (.*)$", document, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_where_to_read_more_is_there(act: Act) -> None:
    file, _, anchor = act.read.partition("#")
    assert anchor in anchors((HOME / file).read_text("utf-8"))


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_the_threat_model_lists_the_act_with_what_refuses_it(act: Act) -> None:
    (line,) = re.findall(rf"^\| `{act.name}` .*$", (HOME / "docs/threat-model.md").read_text(), re.MULTILINE)
    assert f"`{act.reason.value}`" in line


def test_acts_are_chosen_by_name_and_a_wrong_one_is_told_the_right_ones() -> None:
    assert chosen(()) == ACTS
    assert [act.name for act in chosen(("old-policy", "flipped-bit"))] == ["old-policy", "flipped-bit"]
    with pytest.raises(UsageError, match=r"no act 'flip'.*flipped-bit"):
        chosen(("flip",))


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_an_act_is_as_expected_only_by_its_own_outcome_and_reason(act: Act) -> None:
    assert Played(act, Verdict(act.expected, act.reason.value)).as_expected
    assert not Played(act, Verdict(act.expected, "unavailable")).as_expected
    assert not Played(act, Verdict(Outcome.SUCCEEDED, act.reason.value)).as_expected
