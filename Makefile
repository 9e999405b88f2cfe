# Every target uses .venv; `make venv` makes it.  PYTHON chooses the interpreter it is made with.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: run test test-long bench man venv clean

venv: .venv/made

.venv/made: pyproject.toml setup.py $(wildcard bin/*)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "pyqmail: fatal: Python 3.11 or later is needed, this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@$(BIN)/python -m compileall -q pyqmail || true
	@touch .venv/made

run: venv
	@$(BIN)/pyqmail run $(if $(ONCE),--once)

test: venv
	@$(BIN)/python -m pytest -n auto

test-long: venv
	@$(BIN)/python -m pytest -n auto -m long

bench: venv
	@$(BIN)/python -m bench

man: venv
	@$(BIN)/python -m pyqmail.programs.pyqmail man

clean:
	rm -rf .venv build *.egg-info
