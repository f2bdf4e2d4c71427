# `make demo` and `make test` do all the set-up on a machine with Python 3.11 or 3.12 and make.

PYTHON := $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Ray's authentication token is for clusters; on this machine alone it would only write to HOME.
export RAY_AUTH_MODE ?= disabled

.PHONY: help install demo test check docs results format clean

help:
	@echo "make demo     simulate a small survey, catalog it, score it (installs what it needs)"
	@echo "make test     the whole test suite"
	@echo "make check    format, lint, types and import rules"
	@echo "make docs     the documentation, into site/; a warning is an error"
	@echo "make results  make the result tables of README and docs/results.md afresh (an hour; needs ../shared/data)"
	@echo "make format   format the code"
	@echo "make clean    remove the demo's output and caches"

install: $(READY)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "raydeblend needs Python 3.11 or 3.12 on the PATH"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/raydeblend demo demo

# Tests with Ray wait most of their time, for processes to start and to die: those that share one and
# those that start their own.  Beside them the others compute, in two parts of about the same length.
TESTS := test-ray-shared test-ray-own test-others-1 test-others-2
.PHONY: $(TESTS)
PART_2 := tests/evaluate tests/networks tests/simulate tests/stellar_psf tests/train \
	$(wildcard tests/test_*.py)

test: $(READY)
	@echo "tests run in four processes, which write $(TESTS:=.log)"
	@$(MAKE) --no-print-directory --keep-going --jobs=4 $(TESTS)

test-ray-shared: MARKED = ray and ray_local
test-ray-own: MARKED = ray and not ray_local
test-others-1 test-others-2: MARKED = not ray
test-others-1: PATHS = $(PART_2:%=--ignore=%)
test-others-2: PATHS = $(PART_2)
# Whatever would start Ray here after all finds no cluster, and fails.
test-others-1 test-others-2: export RAY_ADDRESS = 127.0.0.1:9

$(TESTS): $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m '$(MARKED) and not cluster_long' $(PATHS) \
		> $@.log 2>&1; code=$$?; cat $@.log; exit $$code

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/python -m pytest tests/test_imports.py

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

results: $(READY)
	$(BIN)/python -m benchmarks.results

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf demo site $(TESTS:=.log) .pytest_cache .mypy_cache .ruff_cache
