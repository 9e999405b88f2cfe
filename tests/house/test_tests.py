"""The tests themselves: each can fail, none of them holds a stopwatch, and there is one way to wait."""

import ast
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PLACE = f"{ROOT}/tests"
FAILS = {"raises", "fail", "until", "read_until", "turn_until"}  # these fail by themselves
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "time"}


def modules():
    """Return path -> tree of every module of the tests."""
    found = {}
    for folder, _, names in os.walk(PLACE):
        for name in names:
            if name.endswith(".py"):
                with open(f"{folder}/{name}", encoding="utf-8") as file:
                    found[os.path.relpath(f"{folder}/{name}", PLACE)] = ast.parse(file.read())
    return found


MODULES = modules()


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


class Body:
    """What one function of the tests does, as far as its words tell."""

    def __init__(self, path, node):
        self.path, self.node, self.called, self.asserts = path, node, set(), False
        for child in ast.walk(node):
            if isinstance(child, ast.Assert):
                self.asserts = True
            elif isinstance(child, ast.Call):
                func = child.func
                self.called.add(func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", ""))
        self.asserts = self.asserts or bool(self.called & FAILS)

    def sees(self, other):
        """Return whether the other may be what it calls: in its module, a conftest above it, or a helper module."""
        name = os.path.basename(other.path)
        return (
            other.path == self.path
            or not name.startswith("test_")
            and (name != "conftest.py" or self.path.startswith(other.path.removesuffix("conftest.py")))
        )


BODIES = [Body(path, node) for path, tree in MODULES.items() for node in functions(tree)]


def find_what_asserts():
    """Mark every function that calls one that asserts: of several with that name, all of them."""
    by_name = {}
    for body in BODIES:
        by_name.setdefault(body.node.name, []).append(body)
    is_news = True
    while is_news:
        is_news = False
        for body in [body for body in BODIES if not body.asserts]:
            for name in body.called & by_name.keys():
                others = [other for other in by_name[name] if body.sees(other)]
                if others and all(other.asserts for other in others):
                    body.asserts = is_news = True


def test_every_test_asserts_something():
    find_what_asserts()
    tests = [body for body in BODIES if body.node.name.startswith("test_")]
    assert len(tests) > 1000
    assert [f"{body.path}:{body.node.lineno} {body.node.name}" for body in tests if not body.asserts] == []


def constant(node):
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Tuple) and node.elts)


def test_no_assertion_holds_whatever_happens():
    idle = [
        f"{path}:{node.lineno}"
        for path, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert) and constant(node.test)
    ]
    assert idle == []


def is_clock(node):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS


def stopwatches(tree):
    """Return the lines where the time since a moment is compared with a number.

    That a program's own figure is within what has passed is no stopwatch: then something else is compared.
    """
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            passed = [part for part in parts if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub)]
            if any(is_clock(part.left) for part in passed) and any(isinstance(part, ast.Constant) for part in parts):
                lines.append(node.lineno)
    return lines


def test_no_test_holds_a_stopwatch():
    assert [f"{path}:{line}" for path, tree in MODULES.items() for line in stopwatches(tree)] == []


@pytest.mark.parametrize(
    "line, count",
    [
        ("assert time.monotonic() - began < 5", 1),
        ("assert 1 < time.time() - began", 1),
        ("assert shown <= time.time() - began", 0),
    ],
)
def test_a_stopwatch_is_known_when_it_is_seen(line, count):
    assert len(stopwatches(ast.parse(line))) == count


def test_there_is_one_way_to_wait():
    names = {"until", "wait_until", "eventually", "read_until", "turn_until"}
    ways = [
        f"{path} {function.name}"
        for path, tree in MODULES.items()
        for function in functions(tree)
        if function.name.strip("_") in names and path != "waiting.py"
    ]
    assert ways == []


def test_no_test_sleeps():
    asleep = [
        f"{path}:{node.lineno}"
        for path, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "sleep" and getattr(node.value, "id", "") == "time"
    ]
    assert asleep == []


# what is left out is said


MADE_UP = """
import pytest
def test_done():
    assert 1 + 1 == 2
@pytest.mark.skipif(True, reason="daemontools is not installed")
@pytest.mark.parametrize("number", range(3))
def test_original(number):
    assert number
@pytest.mark.skipif(True, reason="only root can change ids")
def test_as_root():
    assert 1 + 1 == 2
def test_odd():
    pytest.skip("no moon tonight")
"""
SAID = "skipped: daemontools not installed: 3, no moon tonight: 1, not root: 1"


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("only, said", [([], [SAID]), (["-k", "done"], [])])
def test_the_last_lines_of_a_run_say_what_was_left_out(tmp_path, workers, only, said):
    """In a folder of its own, with the hooks of these tests."""
    (tmp_path / "test_made_up.py").write_text(MADE_UP)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_terminal_summary\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", workers, *only, str(tmp_path)]
    command.append(f"--basetemp={tmp_path}/base")  # its own: what ours are in stays as it is
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("skipped: ")] == said, done.stdout + done.stderr
    assert done.returncode == 0
