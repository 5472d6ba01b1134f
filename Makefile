# Two commands to start with: make demo, make test.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help venv packages demo test floors types lint notebooks tests bench soak docs lock clean

# Without CI in the environment pytest cuts its summary to one line a failure, here as there.
PYTEST = env -u CI -u BUILD_NUMBER .venv/bin/python -m pytest
SEED := $(shell date +%s)

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 18

demo: venv  ## a home with real sample data, real runs, some failing; then the dashboard
	@.venv/bin/backup-ops demo $(DEMO)

test: venv packages lint floors types notebooks tests  ## everything CI checks

venv:  ## .venv from constraints.txt, with all extras
	@scripts/venv

packages:  ## the Debian packages that tests drive (as root; else says which)
	@scripts/system-packages

lint: venv  ## ruff
	@echo "== lint"
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --check --quiet . || { .venv/bin/ruff format --check . | head -n 20; exit 1; }

floors: venv  ## which room may import which (import-linter)
	@echo "== floors"
	@out=$$(.venv/bin/lint-imports 2>&1) && grep -E '^Contracts:' <<<"$$out" || { echo "$$out"; exit 1; }

types: venv  ## mypy, strict on the package
	@echo "== types"
	@.venv/bin/mypy --no-error-summary

notebooks: venv  ## runs every notebook and compares its outputs
	@echo "== notebooks"
	@$(PYTEST) --nbval notebooks -p no:xdist

tests: venv  ## the tests alone; PYTEST_ARGS="tests/test_x.py -k name" narrows
	@echo "== tests"
	@$(PYTEST) -n 2 --dist loadfile --hypothesis-profile ci $(PYTEST_ARGS)

bench: venv  ## prints tables, writes them to bench/results/, asserts nothing
	@for script in bench/bench_*.py; do .venv/bin/python $$script || exit 1; done

soak: venv packages  ## the same tests, longer: make soak SCALE=10 SEED=1 PYTEST_ARGS=tests/test_kills.py
	@PYTEST_ARGS="$(PYTEST_ARGS)" scripts/soak "$${SCALE:-10}" "$(SEED)"

docs: venv  ## checks that README and docs agree with the program
	@$(PYTEST) tests/test_docs.py

lock:  ## makes constraints.txt anew from pyproject.toml
	@scripts/lock

clean:  ## removes what make made; no home, no backup
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
