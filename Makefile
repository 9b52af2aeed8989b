# Two commands do everything on a machine with Python 3.11+ and make: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FUZZ_TARGETS ?=
FUZZ_SECONDS ?= 60
FUZZ_FLAGS ?=
SOAK_EVENTS ?= 1000000
SOAK_SEED ?= 1
SOAK_FLAGS ?=
ALL := -m "slow or not slow" --hypothesis-profile thorough
# Files side by side, one for each processor; the tests of one file stay together and in order.
PARALLEL := -n auto --dist loadfile
# Half of their time tests wait for processes: twice as many at once take two thirds as long. Slow ones do not wait.
# What waits is spread among the others (tests/conftest.py), where the order is not by the number of tests.
SPREAD := --dist loadfile --no-loadscope-reorder
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(8, 2 * (os.cpu_count() or 1)))')

.PHONY: demo test check ci fuzz soak model lab format clean

demo: $(STAMP)
	$(BIN)/sealbus demo --out redacted-out --replace

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) $(SPREAD)

lab: $(STAMP)
	$(BIN)/sealbus lab up

# Exhaustive searches of the protocol's models (docs/model.md): some minutes on two cores, needs spin and gcc.
model: $(STAMP)
	$(BIN)/python models/run.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(PARALLEL)

ci: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(PARALLEL) $(ALL) || { echo "make ci: once more, only what failed" >&2; \
		$(BIN)/python -m pytest $(ALL) --last-failed --last-failed-no-failures none; }

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.run $(FUZZ_TARGETS) --seconds $(FUZZ_SECONDS) $(FUZZ_FLAGS)

# A million adverse events, a tenth of them and more between real processes, and a flood (docs/adversary.md): an hour.
soak: $(STAMP)
	$(BIN)/python -m tests.soak.run --events $(SOAK_EVENTS) --seed $(SOAK_SEED) $(SOAK_FLAGS)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"sealbus needs Python 3.11 or newer, but $(PYTHON) is {v[0]}.{v[1]}: run make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .sealbus redacted-out
