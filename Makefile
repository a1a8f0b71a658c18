# Millrace. `make help` lists what there is; `make demo` and `make test` need nothing installed first but
# Linux x86-64, CPython 3.11 or 3.12 (with venv and its shared library) and make.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# The first interpreter that is CPython 3.11 or 3.12; `make PYTHON=/path/to/python3.12 …` names another.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})' >/dev/null 2>&1 && { command -v $$p; break; }; done)

TOOLS := .tools
UV := $(TOOLS)/bin/uv
BIN := .venv/bin
READY := .venv/.ready
export UV_PYTHON_DOWNLOADS := never

.PHONY: help
help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- environment ---------------------------------------------------------------------------------------------------

.PHONY: preflight
preflight: ## check that this machine can run Millrace, and name what is missing
	@test -n "$(PYTHON)" || { echo "make: no CPython 3.11 or 3.12 found on PATH (Debian: apt install python3 python3-venv; or set PYTHON=…)" >&2; exit 1; }
	@$(PYTHON) libs/stack/src/millrace_stack/preflight.py

$(UV): tools/uv-requirements.txt
	@$(MAKE) --no-print-directory preflight
	@$(PYTHON) -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tools/uv-requirements.txt
	@touch $(UV)

$(READY): $(UV) uv.lock pyproject.toml $(wildcard libs/*/pyproject.toml services/*/pyproject.toml)
	@$(UV) sync --quiet --frozen --python $(PYTHON)
	@touch $(READY)

.PHONY: setup
setup: $(READY) ## create the environment (.venv) from the lock

# ---- use -----------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(READY) ## the main job on real data (KEEP=1 leaves it running; CHAOS=1 [SEED=n] kills everything once; WIPE=1 wipes the broker)
	@$(BIN)/python -m millrace_stack.demo $(if $(KEEP),--keep) $(if $(CHAOS),--chaos) $(if $(SEED),--seed $(SEED)) $(if $(WIPE),--wipe)

.PHONY: up
up: $(READY) ## start the embedded stack (DIR=… names its folder)
	@$(BIN)/millrace up $(if $(DIR),--dir $(DIR))

.PHONY: status
status: $(READY) ## show what runs, and what it waits for
	@$(BIN)/millrace status $(if $(DIR),--dir $(DIR))

.PHONY: logs
logs: $(READY) ## show the embedded stack's logs
	@$(BIN)/millrace logs $(if $(DIR),--dir $(DIR))

.PHONY: down
down: $(READY) ## stop the embedded stack
	@$(BIN)/millrace down $(if $(DIR),--dir $(DIR))

# ---- checks --------------------------------------------------------------------------------------------------------

.PHONY: check
check: $(READY) ## lint, format, types, import laws, AST rules, schema goldens
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/python tools/ast_rules.py
	@$(BIN)/python tools/schemas.py --check
	@$(BIN)/python tools/dashboard.py --check
	@$(BIN)/python tools/check_types.py

.PHONY: test
test: $(READY) ## every test but the slower tiers, against real servers
	@$(BIN)/pytest -n 2 $(ARGS)

.PHONY: unit
unit: $(READY) ## the tests that start no server (under a minute)
	@$(BIN)/pytest -n 2 -m "not servers and not slow" $(ARGS)

.PHONY: bench-data
bench-data: $(READY) ## pushes and pulls beside rclone, aws and the machine's own limits (ARGS="--rounds 1 --large --peers rclone,aws")
	@$(BIN)/python -m benchmarks.data $(ARGS)

.PHONY: bench
bench: bench-data $(READY) ## benchmarks beside their peers, in interleaved runs (minutes)
	@$(BIN)/python benchmarks/bus.py
	@$(BIN)/python benchmarks/loop.py

.PHONY: faults
faults: $(READY) ## the demo under chaos, then with the broker wiped; then five minutes of cache faults
	@$(MAKE) --no-print-directory demo CHAOS=1
	@$(MAKE) --no-print-directory demo WIPE=1
	@MILLRACE_FUZZ_SECONDS=$${MILLRACE_FUZZ_SECONDS:-300} $(BIN)/pytest -s services/cache-manager/tests/integration/test_fuzz.py

.PHONY: test-nfs
test-nfs: $(READY) ## the cache on a real NFS mount, in a user-mode guest (names the Debian packages it needs; NFS=optional)
	@$(BIN)/python tools/nfs/run.py $(ARGS)

.PHONY: e2e-browser
e2e-browser: $(READY) ## the console in headless Chromium (needs Debian's chromium)
	@$(UV) sync --quiet --frozen --inexact --group browser
	@$(BIN)/pytest -p no:randomly tests/e2e/test_browser.py --browser $(ARGS)

.PHONY: integrations
integrations: $(READY) ## Kedro and Spark with the SDK's extras (downloads 0.5 GB once; Spark needs Java 17)
	@$(UV) sync --quiet --frozen --inexact --group integrations
	@$(BIN)/pytest tests/integrations $(ARGS)

.PHONY: schemas
schemas: $(READY) ## write the golden files again: JSON Schemas, AsyncAPI, Grafana dashboard
	@$(BIN)/python tools/schemas.py
	@$(BIN)/python tools/dashboard.py

.PHONY: fmt
fmt: $(READY) ## format the code
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format .

.PHONY: clean
clean: ## remove the environment and caches (not the embedded stack's data)
	@rm -rf .venv $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
