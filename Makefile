# `make demo` and `make test` are all a new checkout needs: they make .venv and install into it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip

# Spinning OpenMP barriers make small steps crawl when another process is busy.
export GOMP_SPINCOUNT := 0
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test stress lint format coverage docs notebook clean
.DEFAULT_GOAL := test

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp an extra: installing again is skipped until what is asked for changes.
$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt torch
	$(PIP) install --quiet -c constraints.txt -e '.[$*]'
	@touch $@

demo: $(VENV)/demo.stamp
	$(BIN)/python examples/quickstart.py

# A process a core, and a file's tests in one process.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile

test: $(VENV)/test.stamp
	$(PYTEST) $(ARGS)

# Readers and a writer for 30 seconds, and a process killed at every line of a save.
stress: $(VENV)/test.stamp
	PALATE_STRESS_SECONDS=30 $(BIN)/python -m pytest -s tests/stress tests/persistence $(ARGS)

coverage: $(VENV)/test.stamp
	$(PYTEST) --cov --cov-report=term-missing:skip-covered $(ARGS)

lint: $(VENV)/lint.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/lint.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/docs.stamp
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

notebook: $(VENV)/notebook.stamp
	$(BIN)/python examples/run_notebooks.py

clean:
	rm -rf $(VENV) build dist docs/_build .pytest_cache .mypy_cache .ruff_cache
