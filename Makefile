# Every target uses .venv; `make venv` makes it.  PYTHON chooses the interpreter it is made with.
PYTHON ?= python3
BIN = .venv/bin
# Most tests wait rather than work: three for each processor.
WORKERS ?= $(shell n=$$(( 3 * $$(nproc) )); echo $$(( n > 16 ? 16 : n )))

.PHONY: help run tour test test-long lint coverage bench man venv clean

venv: .venv/made

.venv/made: pyproject.toml setup.py $(wildcard bin/*)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "pyqmail: fatal: Python 3.11 or later is needed, this is " + sys.version.split()[0])'
	@test -w . && { test -w .venv || test ! -e .venv; } || \
	 { echo "pyqmail: fatal: unable to write into $$PWD: make a clone of your own" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv >/dev/null || { echo "pyqmail: fatal: unable to make .venv: is python3-venv installed?" >&2; exit 1; }
	@$(BIN)/pip install -qq --disable-pip-version-check --editable '.[test]' >.venv/pip.log 2>&1 || \
	 { echo "pyqmail: fatal: unable to install into .venv: $$(grep -m1 ERROR: .venv/pip.log | sed 's/^.*ERROR: //') (no network? see .venv/pip.log)" >&2; exit 1; }
	@$(BIN)/python -m compileall -q pyqmail || true
	@touch .venv/made

help:
	@echo 'make run        run everything in a private home, in the foreground (ONCE=1: until the first message has arrived)'
	@echo 'make tour       how destinations are limited: staged peers, some seconds'
	@echo 'make test       all tests but the long ones'
	@echo 'make test-long  the tests that take minutes'
	@echo 'make lint       the linter, the formatter and the type checker'
	@echo 'make coverage   which lines the tests run, also in the programs that they start'
	@echo 'make bench      the benchmarks, with peers beside ours'
	@echo 'make man        render man/ from the declarations'
	@echo 'make venv       make .venv, which all of these use (PYTHON=... chooses the interpreter)'
	@echo 'make clean      remove .venv and what was built'

run: venv
	@$(BIN)/pyqmail run $(if $(ONCE),--once)

tour: venv
	@$(BIN)/python -m bench.tour

test: venv
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-long: venv
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m long

lint: venv
	@$(BIN)/python -m pytest tests/house/test_lint.py

coverage: venv
	@$(BIN)/python -c 'import coverage' 2>/dev/null || $(BIN)/pip install -qq --disable-pip-version-check 'coverage>=7.10'
	@rm -rf .venv/coverage
	@$(BIN)/python -m coverage run -m pytest -n $(WORKERS) $(TESTS) || true
	@$(BIN)/python -m coverage combine -q && $(BIN)/python -m coverage report --skip-covered

bench: venv
	@$(BIN)/python -m bench

man: venv
	@$(BIN)/python -m pyqmail.programs.pyqmail man

clean:
	rm -rf .venv build *.egg-info
