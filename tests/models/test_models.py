"""The models of the protocol still run: the smallest claim and one mutation of each (docs/model.md)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

HOME = Path(__file__).parents[2]
MODELS = HOME / "models"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("models_run", MODELS / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


run = _load()
ROWS = run.rows()
NAMES = sorted({row.model for row in ROWS})

needs_spin = pytest.mark.skipif(not run.available(), reason=run.MISSING)


def _first(model: str, kind: str) -> object:
    """Return the first row of a kind; rows.toml has a model's smallest first."""
    return next(row for row in ROWS if row.model == model and row.kind == kind)


@pytest.mark.slow
@needs_spin
@pytest.mark.parametrize("kind", ["shows", "claim", "breaks"])
@pytest.mark.parametrize("model", NAMES)
def test_a_model_finds_what_it_found(model: str, kind: str) -> None:
    row = _first(model, kind)
    finding = run.search(row)
    assert finding.as_expected(row), run.outcome(row, finding)
    assert finding.states > 1


def test_every_model_has_rows_and_every_row_a_model() -> None:
    assert set(NAMES) == {path.stem for path in MODELS.glob("*.pml")} - {"intruder"}


def test_every_defence_that_a_model_can_lack_is_lacking_in_some_row() -> None:
    for model in NAMES:
        text = (MODELS / f"{model}.pml").read_text("utf-8")
        switches = {line.split()[1] for line in text.splitlines() if line.startswith("#ifndef NO_")}
        used = {define.partition("=")[0] for row in ROWS if row.model == model for define in row.defines}
        assert switches <= used, model


def test_every_mutation_is_told_in_the_document() -> None:
    text = (HOME / "docs" / "model.md").read_text("utf-8")
    for row in ROWS:
        for define in row.defines:
            if define.startswith("NO_"):
                assert f"`{define.partition('=')[0]}`" in text, row.name


def test_a_limit_that_was_reached_is_no_proof() -> None:
    claim = next(row for row in ROWS if row.kind == "claim")
    assert run.Finding(None, True, 10, 10, 0.1).as_expected(claim)
    assert not run.Finding(None, False, 10, 10, 0.1).as_expected(claim)


def test_another_assertion_than_the_expected_is_no_success() -> None:
    breaks = next(row for row in ROWS if row.kind == "breaks")
    assert run.Finding(breaks.violates, False, 10, 10, 0.1).as_expected(breaks)
    assert not run.Finding("something else", False, 10, 10, 0.1).as_expected(breaks)
    assert not run.Finding(None, True, 10, 10, 0.1).as_expected(breaks)
