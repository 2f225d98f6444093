# `make help` lists the targets. Everything is installed into .venv, from lock files with hashes.
PYTHON ?= python3
VENV   ?= .venv
ENV_FILE ?= .env
SIMULATOR_PORT ?= 4010
MINUTES ?= 10
BIN    := $(VENV)/bin
# A lock file names all that is needed: pip shall not look for more, since it trips over an extra of a package
# (`pydantic[email]`) as soon as there is a newer one than is locked.
PIP_INSTALL := -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes

.DEFAULT_GOAL := help
.PHONY: help install run check simulate test test-faults test-clients test-agents test-browser test-swarm bench bench-check bench-peers soak fuzz lint format lock image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/run.stamp ## make the virtual environment with what the server needs

run: $(VENV)/run.stamp ## start the server: configured by .env if there is one, else the demo
	@if [ -e $(ENV_FILE) ]; then \
		exec $(BIN)/python -m sai_proxy serve --env-file $(ENV_FILE); \
	elif [ -n "$$SAI_URL" ]; then \
		exec $(BIN)/python -m sai_proxy serve; \
	else \
		echo "no $(ENV_FILE): starting the demo, which answers from a simulator (see .env.example)"; \
		exec $(BIN)/python -m sai_proxy serve --demo; \
	fi

check: $(VENV)/run.stamp ## print the configuration, and what is wrong with it (ARGS=--ask: ask SAI with each credential)
	@if [ ! -e $(ENV_FILE) ] && [ -z "$$SAI_URL" ]; then echo "no $(ENV_FILE): make run starts the demo; for SAI, this is missing:" >&2; fi
	@$(BIN)/python -m sai_proxy check $(if $(wildcard $(ENV_FILE)),--env-file $(ENV_FILE)) $(ARGS)

simulate: $(VENV)/run.stamp ## run the SAI simulator alone, on port 4010 (SIMULATOR_PORT=... for another)
	@exec $(BIN)/python -m sai_proxy simulate --port $(SIMULATOR_PORT)

test: $(VENV)/dev.stamp ## run the test suite
	$(BIN)/python -m pytest -n 2

test-faults: $(VENV)/dev.stamp ## faults of both sides, attacks, and nearly valid input (some two minutes)
	$(BIN)/python -m pytest -n 2 -p no:cacheprovider tests/faults tests/fuzz

test-clients: $(VENV)-clients/stamp tests/clients/node/node_modules/stamp ## drive real client libraries against the proxy
	$(VENV)-clients/bin/python -m pytest --dist loadfile -n 2 -W default -p no:cacheprovider tests/clients

test-agents: $(VENV)/dev.stamp $(VENV)-agent-mini/stamp $(VENV)-agent-aider/stamp tests/agents/node/node_modules/stamp ## let real coding agents work through the proxy
	$(BIN)/python -m pytest -n 2 -p no:cacheprovider tests/agents

test-browser: $(VENV)/dev.stamp tests/browser/node/node_modules/stamp ## look at the home page with a real Chromium (SCREENSHOTS=folder)
	$(BIN)/python -m pytest -p no:cacheprovider tests/browser

test-swarm: $(VENV)/dev.stamp ## build the image and try the stack on a Docker engine in Swarm mode
	$(BIN)/python -m pytest -v -x -p no:cacheprovider tests/swarm

fuzz: $(VENV)/dev.stamp ## try much more, and other, nearly valid input than `make test` does (some minutes)
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -n 2 tests/fuzz

bench: $(VENV)/dev.stamp ## measure the speed beside a bare aiohttp relay (nginx and wrk needed; some ten minutes)
	$(BIN)/python -m benchmarks.bench

bench-check: $(VENV)/dev.stamp ## fail if a request costs more CPU time, beside the relay's, than it did
	$(BIN)/python -m benchmarks.check

bench-peers: $(VENV)/dev.stamp ## measure other gateways beside it, as far as they can be installed
	@if command -v npm >/dev/null; then cd benchmarks/peers && npm install --no-package-lock --silent --no-audit --no-fund; fi
	$(BIN)/python -m benchmarks.peers

soak: $(VENV)/dev.stamp ## let mixed traffic run for 10 minutes (MINUTES=...), and account for all of it
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

lint: $(VENV)/dev.stamp ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	@if docker stack config --help >/dev/null 2>&1; then \
		export SAI_URL=http://sai SAI_TEMPLATE_ID=t; \
		docker stack config -c docker-stack.yml >/dev/null \
		&& for extra in log-files kept-answers own-store; do \
			docker stack config -c docker-stack.yml -c deploy/swarm/$$extra.yml >/dev/null || exit 1; done \
		&& docker stack config -c deploy/swarm/monitoring.yml >/dev/null && echo "stack files: valid"; \
	else echo "no docker that knows 'stack config': the stack files are not validated"; fi

format: $(VENV)/dev.stamp ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/dev.stamp ## write the lock files anew from the ranges in setup.cfg
	$(BIN)/uv pip compile setup.cfg --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements/run.lock
	$(BIN)/uv pip compile setup.cfg --extra otel --universal --python-version 3.11 --generate-hashes \
		--constraint requirements/run.lock \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements/otel.lock
	$(BIN)/uv pip compile setup.cfg --extra dev --universal --python-version 3.11 --generate-hashes \
		--constraint requirements/run.lock \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements/dev.lock
	$(BIN)/uv pip compile setup.cfg requirements/clients.in --universal --python-version 3.11 --generate-hashes \
		--constraint requirements/run.lock \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements/clients.lock
	for agent in mini aider; do \
		$(BIN)/uv pip compile requirements/agent-$$agent.in --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-annotate --no-header --quiet -o requirements/agent-$$agent.lock || exit 1; \
	done

image: ## build the container image
	docker build -t sai-proxy .

clean: ## remove the virtual environment and all caches
	rm -rf $(VENV) $(VENV)-clients $(VENV)-agent-* tests/*/node/node_modules benchmarks/peers/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@if command -v uv >/dev/null; then uv venv --quiet --seed --python $(PYTHON) $(VENV); \
	else $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; fi

$(VENV)/run.stamp: requirements/run.lock | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) -r requirements/run.lock
	@touch $@

$(VENV)/dev.stamp: requirements/dev.lock $(VENV)/run.stamp
	$(BIN)/python $(PIP_INSTALL) -r requirements/dev.lock
	@touch $@

$(VENV)-clients/stamp: requirements/clients.lock | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(VENV)-clients
	$(VENV)-clients/bin/python $(PIP_INSTALL) -r requirements/clients.lock
	@touch $@

$(VENV)-agent-%/stamp: requirements/agent-%.lock | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(VENV)-agent-$*
	@$(VENV)-agent-$*/bin/python $(PIP_INSTALL) -r $< \
		|| { echo "agent $* cannot be installed here: its tests are skipped"; rm -rf $(VENV)-agent-$*; mkdir $(VENV)-agent-$*; }
	@touch $@

tests/clients/node/node_modules/stamp: tests/clients/node/package-lock.json
	@if command -v npm >/dev/null; then \
		cd tests/clients/node && npm ci --silent --no-audit --no-fund; \
	else \
		echo "no npm: the Node clients are skipped"; mkdir -p tests/clients/node/node_modules; \
	fi
	@touch $@

tests/browser/node/node_modules/stamp: tests/browser/node/package-lock.json
	@if command -v npm >/dev/null; then \
		cd tests/browser/node && npm ci --silent --no-audit --no-fund; \
	else \
		echo "no npm: the browser is skipped"; mkdir -p tests/browser/node/node_modules; \
	fi
	@touch $@

# Without a lock file: one of the agents is a package a platform, of which a registry need not have all.
tests/agents/node/node_modules/stamp: tests/agents/node/package.json
	@mkdir -p tests/agents/node/node_modules
	@if command -v npm >/dev/null; then \
		cd tests/agents/node && npm install --no-package-lock --silent --no-audit --no-fund \
			|| echo "the agents on Node cannot be installed here: their tests are skipped"; \
	else \
		echo "no npm: the agents on Node are skipped"; \
	fi
	@touch $@
