"""Control files: what is read is declared, what is declared is read, and all of it stands in pyqmail-control(5)."""

import ast
import os

import pytest

from pyqmail.base import control_page
from pyqmail.base.controls import (
    CONTROLS,
    INTEGER,
    LIMIT,
    LINE,
    LINES,
    MAP,
    ME,
    RATE,
    SCRIPT_FILES,
    odd_integer,
    odd_limit,
    odd_rate,
    read_integer,
    read_limit,
    read_line,
    read_lines,
    read_map,
    read_rate,
)
from pyqmail.programs import registry

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
READ = {LINE: read_line, LINES: read_lines, MAP: read_map, INTEGER: read_integer, LIMIT: read_limit, RATE: read_rate}
PROGRAMS = [registry.load(name).PROGRAM for name in registry.names()]


def trees():
    """Return (path, tree) of each module in which control files are read."""
    for folder, _, files in os.walk(os.path.join(ROOT, "pyqmail")):
        for file in files:
            if not file.endswith(".py") or (os.path.basename(folder), file) == ("system", "controls.py"):
                continue
            with open(os.path.join(folder, file), encoding="utf-8") as source:
                tree = ast.parse(source.read())
            if any(is_reader(node) for node in ast.walk(tree)):
                yield os.path.relpath(os.path.join(folder, file), ROOT), tree


def is_reader(node):
    """Return whether node is controls.get or controls.path, whatever the Controls are an attribute of."""
    if not isinstance(node, ast.Attribute) or node.attr not in ("get", "path"):
        return False
    return ast.unparse(node.value).split(".")[-1].lstrip("_") == "controls"


def names_asked_for(tree):
    """Return the literal names in calls of controls.get, of controls.path, and of a get that is one of these."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not (is_reader(node.func) or getattr(node.func, "id", "") == "get"):
            continue
        yield from (one.value for one in node.args[:1] if isinstance(one, ast.Constant))


def names_declared_in(tree):
    """Return the string constants that belong to a declaration: CONTROLS = ..., controls=..., controls_count=..."""
    declared = [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and "controls" in str(node.arg)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and "CONTROLS" in [getattr(target, "id", "") for target in node.targets]:
            declared.append(node.value)
    return {id(one) for value in declared for one in ast.walk(value)}


def names_read():
    """Return every control file that some module reads; me is read as the default of others."""
    read = {ME}
    for _, tree in trees():
        declared = names_declared_in(tree)
        constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in declared]
        read |= {node.value for node in constants if isinstance(node.value, str) and node.value in CONTROLS}
    return read


def test_what_is_read_is_declared():
    asked = {(path, name) for path, tree in trees() for name in names_asked_for(tree)}
    assert len(asked) > 15, "the search finds nothing any more"
    assert {one for one in asked if one[1] not in CONTROLS} == set(), (
        "add a row to CONTROLS in pyqmail/base/controls.py"
    )


def test_what_is_declared_is_read():
    assert set(CONTROLS) - names_read() == set()


def test_a_declaration_is_no_reading():
    tree = ast.parse("CONTROLS = ('a', 'b')\nProgram(controls=['c'])\ncontrols.get('d')")
    declared = names_declared_in(tree)
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert [node.value for node in texts if id(node) not in declared] == ["d"]


def test_each_stands_in_a_program():
    missing = set(CONTROLS) - {name for program in PROGRAMS for name in program.controls}
    assert missing == set(), "add it to CONTROLS of the module that reads it, or to controls= of its PROGRAM"


def test_a_module_may_read_what_it_asks_for():
    """A module that has a list of its own asks for nothing else: at run time that would be a LookupError."""
    for path, tree in trees():
        lists = [node.value for node in tree.body if isinstance(node, ast.Assign) and is_list_of_controls(node)]
        for one in lists:
            told = {node.value for node in ast.walk(one) if isinstance(node, ast.Constant)}
            assert set(names_asked_for(tree)) - told == set(), f"add it to CONTROLS of {path}"


def is_list_of_controls(node):
    return getattr(node.targets[0], "id", "") == "CONTROLS" and isinstance(node.value, (ast.Tuple, ast.List))


@pytest.mark.parametrize("program", [one for one in PROGRAMS if one.controls], ids=lambda one: one.name)
def test_a_program_has_from_when_on_a_change_counts(program):
    assert "others" in program.controls_count or set(program.controls_count) >= set(program.controls)
    assert set(program.controls_count) <= {"others", *program.controls}


def test_each_stands_on_the_page():
    with open(os.path.join(ROOT, "man", control_page.NAME), encoding="utf-8") as file:
        page = file.read()
    assert page == control_page.page(PROGRAMS), "run `make man`"
    entries = [line.removeprefix(".B ") for line in page.split("\n") if line.startswith(".B ")]
    assert [entry.replace("\\-", "-") for entry in entries] == [*CONTROLS, *SCRIPT_FILES]


@pytest.mark.parametrize("control", [one for one in CONTROLS.values() if one.mode in READ], ids=lambda one: one.name)
def test_an_example_means_something(control):
    data = control.example.encode() + b"\n"
    value = READ[control.mode](data)
    assert value or value == 0
    if control.mode in (LINES, MAP):
        assert len(value) == data.count(b"\n")
    if control.mode == INTEGER:
        assert odd_integer(data, value) is None
    if control.mode == LIMIT:
        assert odd_limit(data, value) is None
    if control.mode == RATE:
        assert odd_rate(data, value) is None
    assert (control.mode in (INTEGER, LIMIT, RATE)) == (control.unit is not None)


@pytest.mark.parametrize("name", SCRIPT_FILES)
def test_a_services_script_names_what_the_page_says(name):
    with open(os.path.join(ROOT, "services", SCRIPT_FILES[name][1], "run"), encoding="utf-8") as file:
        assert f"control/{name}" in file.read()
