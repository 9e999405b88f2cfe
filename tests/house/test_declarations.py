"""What is declared counts, and stands once: options, operands, defaults, offers, controls, variables.

A new option or control is red here until its declaration, its manual page (test_layers.py) and its use are there.
"""

import ast
import os
import re

import pytest

from pyqmail.base.controls import CONTROLS, INTEGER
from pyqmail.base.environment import DEFAULTS, VARIABLES
from pyqmail.base.options import Argument, Flag, Value
from pyqmail.programs import registry

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMES = registry.names()
OFFERS = ("preload", "session", "stage")
# operands that are there to be taken, and no more: the originals ignore them
IGNORED = {"ignored", "more"}


def modules():
    for folder, _, files in os.walk(os.path.join(ROOT, "pyqmail")):
        yield from (os.path.join(folder, name) for name in files if name.endswith(".py"))


TREES = {}
for path in sorted(modules()):
    with open(path, encoding="utf-8") as file:
        TREES[os.path.relpath(path, ROOT)] = ast.parse(file.read())


def module_path(name):
    return f"pyqmail/programs/{name.replace('-', '_').replace('@', '_at')}.py"


def fields_of(program):
    """Return the fields that a declaration gives to a Call."""
    options = {option.field for option in program.options if option.field}
    return options | {argument.field for argument in program.arguments}


def near(name):
    """Return the trees of a program's own modules: its own, and those of pyqmail that it imports, some steps down."""
    seen, todo = set(), [module_path(name)]
    while todo:
        path = todo.pop()
        if path in seen or path not in TREES:
            continue
        seen.add(path)
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pyqmail"):
                places = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                todo += [place.replace(".", "/") + ".py" for place in places]
    return [TREES[path] for path in sorted(seen) if "/programs/" not in path or path == module_path(name)]


def used_fields(trees):
    """Return which NAME of `call.NAME` and getattr(call, "NAME") there are.

    Where a field's name is not written out, as in getattr(call, field), the names are taken from the module's texts.
    """
    used = set()
    for tree in trees:
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                if ast.unparse(node.value).rpartition(".")[2] in ("call", "_call", "child"):
                    used.add(node.attr)
            elif isinstance(node, ast.Call) and ast.unparse(node).startswith("getattr(call, "):
                used |= texts
        if any(isinstance(n, ast.Attribute) and ast.unparse(n).startswith("PROGRAM.parse(") for n in ast.walk(tree)):
            used |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    return used


@pytest.mark.parametrize("name", NAMES)
def test_every_option_and_operand_is_used(name):
    declared = fields_of(registry.load(name).PROGRAM) - IGNORED
    assert declared - used_fields(near(name)) == set(), "declared, and used by nobody"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_call_is_asked_for_is_declared(name):
    program = registry.load(name).PROGRAM
    known = fields_of(program) | set(program.fields) | {"argv0", "environ", "oddities"}
    tree = TREES[module_path(name)]
    set_here = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    asked = {
        n.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load) and ast.unparse(n.value) == "call"
    }
    assert asked - known - set_here == set()


def loads_of(tree, name):
    """Return the X of each name.X that is read, and is not put there by the module itself."""
    found = {ast.Load: set(), ast.Store: set(), ast.Del: set()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == name:
            found[type(node.ctx)].add(node.attr)
    return found[ast.Load] - found[ast.Store]


def test_what_other_modules_ask_a_call_for_is_declared_by_a_program():
    """Modules that a program hands its call to, for example tcp/listener/configure.py."""
    known = {"argv", "argv0", "environ", "oddities"}
    for program in (registry.load(name).PROGRAM for name in NAMES):
        known |= fields_of(program) | set(program.fields)
    asked = {
        f"{path} {field}"
        for path, tree in TREES.items()
        if not path.startswith(("pyqmail/programs/", "pyqmail/base/"))
        for field in loads_of(tree, "call") - known
    }
    assert asked == set()


@pytest.mark.parametrize("name", NAMES)
def test_the_default_of_a_field_is_declared_by_one_option(name):
    program = registry.load(name).PROGRAM
    declared = [option.field for option in program.options if option.field and option.default is not None]
    assert len(declared) == len(set(declared))
    assert set(program.fields) & fields_of(program) == set(), "an option declares its default itself"


def _texts(program, module):
    yield from (option.meaning for option in program.options)
    yield from (argument.meaning for argument in program.arguments)
    yield module.__doc__ or ""
    for _, content in program.notes:
        yield from [content] if isinstance(content, str) else [meaning for _, meaning in content]


@pytest.mark.parametrize("name", NAMES)
def test_no_text_repeats_a_default(name):
    """--help and the manual say it from the declaration."""
    module = registry.load(name)
    defaults = {
        shown
        for option in [*module.PROGRAM.options, *module.PROGRAM.arguments]
        if isinstance(option, (Value, Argument)) and (shown := option.explanation.rpartition("; default ")[2])
        if option.default
    }
    for text in _texts(module.PROGRAM, module):
        assert "(default)" not in text
        for default in defaults:
            assert not re.search(rf"\bdefaults?( is| to)? {re.escape(default)}(?!\w)", text), default
            assert not re.search(rf"(?<!\w){re.escape(default)} if (it|none) is (missing|not given)", text), default
    for option in module.PROGRAM.options:
        if isinstance(option, Value) and option.default:
            assert "default" not in option.meaning
        if isinstance(option, Flag):
            assert "default" not in option.meaning or not option.is_default


def numbers_of(node):
    """Return the numbers that an expression is, several for a tuple."""
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return [
        part.value
        for part in parts
        if isinstance(part, ast.Constant) and isinstance(part.value, (int, float)) and not isinstance(part.value, bool)
    ]


def given_numbers(tree):
    """Yield (name, number, line) where code gives a number to a name: by =, as a keyword, as a parameter's default."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg:
            yield from ((node.arg, number, node.value.lineno) for number in numbers_of(node.value))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                for one, value in zip(names, values, strict=False):
                    name = getattr(one, "attr", getattr(one, "id", ""))
                    yield from ((name, number, node.lineno) for number in numbers_of(value))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = node.args.posonlyargs + node.args.args
            pairs = [*zip(reversed(arguments), reversed(node.args.defaults), strict=False)]
            pairs += [pair for pair in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if pair[1]]
            for one, value in pairs:
                yield from ((one.arg, number, node.lineno) for number in numbers_of(value))
        elif isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            name = getattr(node.values[0], "attr", getattr(node.values[0], "id", ""))
            yield from ((name, number, node.lineno) for number in numbers_of(node.values[-1]))


def test_no_code_gives_an_option_the_default_that_it_declares():
    declared = {}
    for name in NAMES:
        for option in registry.load(name).PROGRAM.options:
            if isinstance(option, Value) and option.default:
                text = str(option.default)
                declared.setdefault(option.field, set()).add(int(text) if text.isdigit() else text)
    assert {26, 20, 40} <= set().union(*declared.values())
    doubles = [
        f"{path}:{line} {name} = {number}"
        for path, tree in TREES.items()
        for name, number, line in given_numbers(tree)
        if number in declared.get(name, ())
    ]
    assert doubles == []


# numbers that are a control's default and, elsewhere, another thing: number -> in how many modules
OTHERS = {
    1200: 1,  # system/peer.py: seconds of a peer, before its session says what counts
    50000: 1,  # recipients in memory
}


def test_no_code_has_the_default_of_a_control():
    """Those above 100 that are not just 1000 are found by their value."""
    defaults = {c.default for c in CONTROLS.values() if c.mode == INTEGER and c.default > 100} - {1000}
    assert {1200, 604800} <= defaults
    found = {number: set() for number in defaults}
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and node.value in defaults:
                found[node.value].add(path)
    for number, paths in found.items():
        assert len(paths - {"pyqmail/base/controls.py"}) <= OTHERS.get(number, 0), paths


@pytest.mark.parametrize("name", NAMES)
def test_a_module_has_what_its_declaration_offers(name):
    tree = TREES[module_path(name)]
    has = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert sorted(registry.load(name).PROGRAM.offers) == sorted(has.intersection(OFFERS))


def test_nobody_asks_a_module_what_it_has():
    found = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr"
    ]
    assert found == ["pyqmail/programs/registry.py:" + found[0].rpartition(":")[2]]  # a module half imported


def test_every_variable_is_declared_by_a_program():
    declared = {variable for name in NAMES for variable in registry.load(name).PROGRAM.environment}
    assert declared <= set(VARIABLES)
    assert set(VARIABLES) - declared == set(), "no program declares it"
    assert set(DEFAULTS) <= set(VARIABLES)


def test_defaults_of_variables_are_those_of_the_code():
    """Modules that a cold start cannot pay more imports for have them once more."""
    from pyqmail.mail.queue.client import TEMPORARY_FOLDER
    from pyqmail.system.home import DEFAULT

    assert DEFAULTS["PYQMAIL_HOME"] == DEFAULT
    assert DEFAULTS["TMPDIR"].encode() == TEMPORARY_FOLDER


def test_the_tests_would_see_it():
    tree = ast.parse("def f(a, limit=40): g(limit=41); x.limit, y = 42, 1; z = call.limit or 43")
    assert {(name, number) for name, number, _ in given_numbers(tree)} >= {
        ("limit", 40), ("limit", 41), ("limit", 42), ("limit", 43),
    }  # fmt: skip
    assert used_fields([ast.parse("f(call.a); call.b = 1; getattr(call, 'c')")]) == {"a", "c"}


def test_a_label_is_typed_once():
    """Lines begin with a program's label; whoever writes one is given it, or has it from its subject's LABEL."""
    labels = {registry.load(name).PROGRAM.label for name in NAMES}
    typed = []
    for path, tree in TREES.items():
        documents = {
            node.body[0].value
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) and node not in documents:
                text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
                if text.partition(": ")[0] in labels and ": " in text:
                    typed.append(f"{path}:{node.lineno} {text}")
    assert typed == []
