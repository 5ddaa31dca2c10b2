# Understudy: one command each. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Thousands of modules are imported in each of many processes: let the first one keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run test check format ui bench report clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "expected Python 3.11 to 3.13, found $$($(BIN)/python --version): rm -r $(VENV) and set PYTHON=python3.11"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	@echo "installing the locked packages (a few GB the first time) ..."
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

setup: $(STAMP)  ## Make .venv with the locked packages and the project, editable

run: $(STAMP)  ## Run the whole graph on the embedded dataset, through Dagster
	@$(BIN)/python -m pipelines run

test: $(STAMP)  ## Run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: $(STAMP)  ## Lint, types, layers and architecture: what CI runs before the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest tests/test_architecture.py

format: $(STAMP)  ## Format the code
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

ui: $(STAMP)  ## Serve Dagster and MLflow on 127.0.0.1
	@$(BIN)/python -m pipelines ui

bench: $(STAMP)  ## Measure against peers; ratios go to benchmarks/results/
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done; $(BIN)/python benchmarks/_readme.py

lock:  ## Resolve the packages anew into requirements.lock
	@rm -f requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --extra dev --python-version 3.11 pyproject.toml -o requirements.lock

clean:  ## Remove what runs wrote (not .venv)
	@rm -rf data models reports leaderboard release state dvc.lock dvc_plots
