# Cadenza's verbs. `make help` lists them; each makes .venv first if it is not there.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check bench sim lock wheel clean

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

help: ## list the verbs
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  PYTHON=python3.12 picks the Python that .venv is made with (3.11 or newer).'

demo: $(READY) ## review the licences of a Python environment; ARGS="--path /some/venv"
	@$(BIN)/python -m examples.licence_review $(ARGS) || [ $$? -eq 3 ]  # 3: packages wait for a person, as they should

test: $(READY) ## run all tests; ARGS="tests/unit -k path"
	@$(BIN)/python -m pytest -n 2 $(ARGS)

check: $(READY) ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

bench: $(READY) ## measure against the peers and the limit of the disk
	@$(BIN)/python -m benchmarks $(ARGS)

sim: $(READY) ## simulate workers, clocks, disks and faults; SEED=17 or SEEDS=5000
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS))

wheel: $(READY) ## build the wheel and the source distribution into dist/
	$(BIN)/python -m hatchling build

lock: $(READY) ## pin the requirements again; UPGRADE=1 takes the newest versions
	@$(BIN)/python -m pip install --quiet uv
	$(call compile,core,pyproject.toml)
	$(call compile,dev,pyproject.toml --extra anthropic --extra encryption --extra examples --extra google --extra groq --extra llamacpp --extra routing --group dev)
	$(call compile,bench,requirements/bench.in)

clean: ## remove what was built and cached (.venv stays)
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# One file for every supported Python and platform; only names and versions, so that any index can serve it.
define compile
$(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --no-annotate --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) $(2) -o requirements/$(1).txt
endef

$(READY): requirements/dev.txt pyproject.toml
	@if ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  version=$$($(PYTHON) -V 2>&1) || { \
	    echo 'Cadenza needs Python 3.11 or newer, and $(PYTHON) does not run: install it, or name yours: make $(MAKECMDGOALS) PYTHON=python3.12' >&2; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Cadenza needs Python 3.11 or newer, and $(PYTHON) is $$version: install a newer one, or name yours: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo '$(PYTHON) cannot make virtual environments: install its venv module (on Debian and Ubuntu: apt install python3-venv) and try again' >&2; exit 1; }; \
	  echo "Making .venv with $$version ..."; \
	  $(PYTHON) -m venv --clear .venv; \
	fi
	@echo 'Installing the packages of requirements/dev.txt into .venv (about half a minute) ...'
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r requirements/dev.txt | sed -u -n -e 's/^Collecting \([^ ]*\).*/  \1/p' -e 's/^Installing collected.*/  ... unpacking/p' || { \
	  echo 'pip could not install requirements/dev.txt (its words are above): is a package index reachable? Then try again.' >&2; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@
