"""Linter, formatter and type checker find nothing, by the rules in pyproject.toml.  `make lint` runs them alone."""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CODE = ["pyqmail", "tests", "bench", "setup.py"]


def run(*words):
    """Return (exit code, what was printed) of a module of the venv's Python, started in the tree."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


def test_the_linter_finds_nothing():
    assert run("ruff", "check", "--quiet", "--no-cache", *CODE) == (0, "")


def test_the_formatter_would_change_nothing():
    assert run("ruff", "format", "--quiet", "--no-cache", "--check", *CODE) == (0, "")


def test_the_type_checker_finds_nothing():
    code, text = run("mypy", "--no-error-summary")
    assert (code, text) == (0, "")
