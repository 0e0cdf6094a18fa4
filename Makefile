# The verbs of this project; `make` alone prints them. Each makes .venv first when it is missing or older than the
# lock: Python 3.11 or later and make are enough, uv is used when it is there.
# More words for a verb go into ARGS: `make test ARGS="-k timer -x"`.

SHELL := /bin/sh
PYTHON := .venv/bin/python
ARGS ?=

# Folders that hold Python; one that is not there yet is left out.
CODE := $(wildcard src tests examples benchmarks scripts)
# What `make check` runs: no I/O, all of it in seconds.
QUICK := $(wildcard $(addprefix tests/unit/,contracts workflows plans engine observe) tests/architecture)
JOBS := 2

.DEFAULT_GOAL := help

# The newest Python that can make an environment: it is 3.11 or later, and has venv with ensurepip, or uv is there.
FIND_PYTHON = for python in python3.13 python3.12 python3.11 python3 python; do \
	  command -v $$python > /dev/null 2>&1 || continue; \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || continue; \
	  command -v uv > /dev/null 2>&1 || $$python -c 'import ensurepip, venv' 2> /dev/null || continue; \
	  found=$$python; break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo 'minuet: no Python 3.11 or later with its module venv was found on PATH.' >&2; \
	  echo 'Install one (on Debian and Ubuntu also the package python3-venv), or install uv, and try again.' >&2; \
	  exit 1; \
	fi

.venv/.stamp: requirements.lock pyproject.toml
	@$(FIND_PYTHON); $$found scripts/bootstrap.py

.venv/.stamp-bench: requirements-bench.lock .venv/.stamp
	@$(PYTHON) scripts/bootstrap.py --bench

.PHONY: help
help:  ## print the verbs
	@echo 'make VERB [ARGS="more words for it"]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv/.stamp  ## the example shop at work: thousands of orders, a kill -9 in the middle, nothing lost
	@$(PYTHON) -m examples.shop.demo $(ARGS)

.PHONY: check
check: .venv/.stamp  ## format, lint, types, import rule, quick tests: before each commit
	$(PYTHON) -m ruff format --check $(CODE)
	$(PYTHON) -m ruff check $(CODE)
	$(PYTHON) -m mypy $(CODE)
	.venv/bin/lint-imports --no-cache
	$(PYTHON) -m pytest $(QUICK) -q -n $(JOBS) $(ARGS)

.PHONY: test
test: .venv/.stamp  ## all tests: before a pull request
	@$(PYTHON) -m pytest -n $(JOBS) $(ARGS)

.PHONY: fix
fix: .venv/.stamp  ## format, and repair what can be repaired
	$(PYTHON) -m ruff check --fix $(CODE) $(ARGS) || true
	$(PYTHON) -m ruff format $(CODE)

.PHONY: bench
bench: .venv/.stamp-bench  ## the benchmarks, beside a peer in the same run
	@$(PYTHON) -m benchmarks W1 W2 W3 W4 W5 W6 W7 W8 W9 W10 W11 --peer dbos $(ARGS)

.PHONY: equality
equality: .venv/.stamp  ## thousands of random workflows, in every style, against the reference interpreter
	@$(PYTHON) -m tests.property.many $(ARGS)

.PHONY: placements
placements: .venv/.stamp  ## thousands of random workflows with their rules in any place: the same trace
	@$(PYTHON) -m tests.property.placements $(ARGS)

.PHONY: kills
kills: .venv/.stamp  ## 500 kill -9 of real processes under load, and pauses: nothing lost, nothing done twice
	@$(PYTHON) -m tests.acceptance.kills $(ARGS)

.PHONY: sim
sim: .venv/.stamp  ## random workflows in simulated worlds where everything goes wrong; SEED=17 KIND=hybrid repeats one
	@$(PYTHON) -m tests.simulation.many $(if $(KIND),--kind $(KIND)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(ONLY),--only '$(ONLY)') $(ARGS)

.PHONY: soak
soak: .venv/.stamp  ## kills, power cuts, equality, all at length: before a release; ARGS=--quick for a tenth
	@$(PYTHON) -m tests.soak $(ARGS)

.PHONY: images
images: .venv/.stamp  ## power cuts at 20,000 points of what the store writes: nothing acknowledged is lost
	@$(PYTHON) -m tests.powercut.many $(ARGS)

.PHONY: shape
shape: .venv/.stamp  ## print sizes, cycles of imports and the longest functions; fails on nothing
	@$(PYTHON) scripts/shape.py $(ARGS)

.PHONY: docs
docs: .venv/.stamp  ## write the parts of the docs that are made from the code
	@$(PYTHON) scripts/docs.py $(ARGS)

.PHONY: lock
lock:  ## new lock files; ARGS=--upgrade for the newest releases of everything
	@$(FIND_PYTHON); $$found scripts/lock.py $(ARGS)

.PHONY: clean
clean:  ## remove .venv and all caches
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
