"""Functions are short, and rooms have few modules: what is long has parts that have names."""

import ast
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAX_LINES, USUAL_LINES = 40, 20  # of any function; of 95 in 100
MAX_FILE_LINES = 400
MAX_MODULES = 12  # of a room


def python_files(folder):
    for place, _, names in os.walk(os.path.join(ROOT, folder)):
        yield from (os.path.join(place, name) for name in names if name.endswith(".py"))


def lengths(folder="pyqmail"):
    """Return [(lines, place)] of all functions, the longest first."""
    found = []
    for path in python_files(folder):
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                place = f"{os.path.relpath(path, ROOT)}:{node.lineno} {node.name}"
                found.append((node.end_lineno - node.lineno + 1, place))
    return sorted(found, reverse=True)


def test_no_function_is_long():
    assert [one for one in lengths() if one[0] > MAX_LINES] == []


def test_nearly_all_functions_are_short():
    found = lengths()
    assert len(found) > 2000
    longer = [one for one in found if one[0] > USUAL_LINES]
    assert len(longer) <= len(found) // 20, longer[len(found) // 20 - 10 :]


def test_no_module_is_long():
    for path in python_files("pyqmail"):
        with open(path, encoding="utf-8") as file:
            assert len(file.readlines()) <= MAX_FILE_LINES, path


def test_no_room_is_full():
    """programs, operations, supervise, system and base are no rooms."""
    for subject in ("mail", "tcp", "protocol"):
        for place, _, names in os.walk(os.path.join(ROOT, "pyqmail", subject)):
            modules = [name for name in names if name.endswith(".py") and name != "__init__.py"]
            assert len(modules) <= MAX_MODULES, place
