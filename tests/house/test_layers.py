"""The layers of the house: imports point down, strangers stay strangers, one importer for each package."""

import ast
import os
import sys

import pytest

from pyqmail.programs import registry

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BELOW = {
    "base": set(),
    "system": {"base"},
    "protocol": {"base"},
    "mail": {"protocol", "system", "base"},
    "tcp": {"protocol", "system", "base"},
    "supervise": {"protocol", "system", "base"},
    "load_tools": {"protocol", "system", "base"},
    "operations": {"mail", "tcp", "supervise", "protocol", "system", "base"},
    "programs": {"operations", "mail", "tcp", "supervise", "load_tools", "protocol", "system", "base"},
}

# What elsewhere the system itself would say to others, and ours says in its stead: it knows that one protocol's engine,
# which is pure as the others are, and whoever uses it knows neither.  A resolver is part of the C library, of which we
# use none, since it waits and asks no servers of our choice
SPOKEN_BELOW = {"pyqmail/system/resolver.py": ("pyqmail.protocol", "pyqmail.protocol.dns_answer")}

# The rooms of a subject: which others they know.  The modules that stand beside them know none
ROOMS = {
    "mail": {
        "destinations": set(),
        "queue": set(),
        "routing": set(),
        "spawners": {"destinations"},
        "manager_log": {"destinations"},
        "local": {"queue", "spawners"},
        "policy_files": {"destinations"},
        "manager": {"policy_files", "destinations", "manager_log", "queue", "routing"},
        "queue_server": {"queue"},
        "remote": {"destinations", "routing", "spawners"},
        "smtpd": {"queue"},
    },
    "tcp": {
        "access": set(),
        "client": set(),
        "filters": set(),
        "rules": set(),
        "listener": {"access", "client", "rules"},
        "serving": {"access", "filters", "listener"},
    },
    "supervise": {
        "logs": set(),
    },
    "protocol": {
        "smtp": set(),
        "wires": set(),
    },
}


def modules():
    for folder, _, files in os.walk(os.path.join(ROOT, "pyqmail")):
        for file in files:
            if file.endswith(".py"):
                yield os.path.relpath(os.path.join(folder, file), ROOT)


def imports(path):
    """Return (module imported, line) of every import, wherever it stands, and calls of __import__ and import_module."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield "*dynamic*", node.lineno


ALL = sorted(modules())


@pytest.mark.parametrize("path", [path for path in ALL if path.count("/") > 1])
def test_imports_point_down(path):
    layer = path.split("/")[1]
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] == "pyqmail" and len(parts) > 1 and name not in SPOKEN_BELOW.get(path, ()):
            assert parts[1] == layer or parts[1] in BELOW[layer], f"{path}:{line} imports {name}"


def test_what_stands_for_a_part_of_the_system_speaks_its_own_protocol_alone():
    for path, engine in SPOKEN_BELOW.items():
        module = engine[-1].replace(".", "/") + ".py"
        users = {each for each in ALL if any(name == engine[-1] for name, _ in imports(each))}
        assert users == {path}  # who knows the one has no need of the other
        assert {name for name, _ in imports(module) if name.startswith("pyqmail")} == set()


@pytest.mark.parametrize("path", [path for path in ALL if path.split("/")[1] in ROOMS])
def test_rooms(path):
    subject, place, *inner = path.split("/")[1:]
    rooms = ROOMS[subject]
    known = rooms[place] | {place} if inner else set()
    for name, line in imports(path):
        parts = name.split(".")
        if parts[:2] == ["pyqmail", subject] and len(parts) > 2 and parts[2] in rooms:
            assert parts[2] in known, f"{path}:{line} imports {name}"


def test_a_name_is_imported_from_where_it_stands():
    """Not from a module that uses it, too: that one would be loaded with all it needs, for nothing."""
    trees = {}
    for path in ALL:
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            trees[path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")] = ast.parse(file.read())
    given_on = {
        (module, alias.asname or alias.name)
        for module, tree in trees.items()
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    asked = [
        (module, node.module, alias.name)
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}.{alias.name}" not in trees
    ]
    assert [one for one in asked if one[1:] in given_on] == []


def test_only_the_registry_imports_by_name():
    dynamic = {path for path in ALL for name, _ in imports(path) if name == "*dynamic*"}
    assert dynamic == {"pyqmail/programs/registry.py"}


def test_each_package_has_one_importer():
    importers = {}
    for path in ALL:
        for name, _ in imports(path):
            package = name.split(".")[0]
            if package not in sys.stdlib_module_names and package not in ("pyqmail", "*dynamic*"):
                importers.setdefault(package, set()).add(path)
    assert {package: len(paths) for package, paths in importers.items() if len(paths) > 1} == {}


def test_no_asyncio_but_in_the_resolver():
    users = {path for path in ALL for name, _ in imports(path) if name.split(".")[0] == "asyncio"}
    assert users <= {"pyqmail/system/async_resolver.py", "pyqmail/system/async_server.py"}


def test_names_say_something():
    vague = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert [path for path in ALL if os.path.basename(path) in vague] == []


@pytest.mark.parametrize("name", registry.names())
def test_every_program_has_its_four_places(name):
    program = registry.load(name).PROGRAM
    module = name.replace("-", "_").replace("@", "_at")
    assert program.name == name
    assert os.access(os.path.join(ROOT, "bin", name), os.X_OK)
    assert os.path.exists(os.path.join(ROOT, "man", f"{name}.{program.section}"))
    assert os.path.exists(os.path.join(ROOT, "tests/programs", f"test_{module}.py"))


def test_every_starter_only_starts():
    """They differ in one word, the module."""
    with open(os.path.join(ROOT, "bin/pysmtpd"), encoding="utf-8") as file:
        starter = file.read()
    assert starter.count("pyqmail.programs.pysmtpd") == 1
    for name in os.listdir(os.path.join(ROOT, "bin")):
        module = name.replace("-", "_").replace("@", "_at")
        with open(os.path.join(ROOT, "bin", name), encoding="utf-8") as file:
            assert file.read() == starter.replace("pyqmail.programs.pysmtpd", f"pyqmail.programs.{module}")
        assert name in registry.names()


def test_every_service_is_a_program_of_ours():
    for name in os.listdir(os.path.join(ROOT, "services")):
        assert name in registry.names()
        assert os.access(os.path.join(ROOT, "services", name, "run"), os.X_OK)


def test_manual_pages_are_up_to_date():
    from pyqmail.operations import manuals

    assert manuals.render([registry.load(name) for name in registry.names()], check=True) == 0, "run `make man`"


def test_every_program_reads_only_the_controls_that_it_declares():
    """Controls() refuses others at run time, if it is told which those are; nothing else reads control/."""
    wrong, writers = [], ("operations/private_home.py", "operations/quickstart.py", "operations/real_home.py")
    for module in modules():
        with open(os.path.join(ROOT, module), encoding="utf-8") as file:
            nodes = list(ast.walk(ast.parse(file.read())))
        calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "Controls"]
        told = [
            call for call in calls if len(call.args) == 2 and ast.unparse(call.args[1]).upper().endswith("CONTROLS")
        ]
        places = [
            node for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node).endswith("home.control")
        ]
        inside = {node for call in told for node in ast.walk(call)}
        if not module.endswith(writers):
            wrong += [f"{module}:{node.lineno}" for node in (*calls, *places) if node not in inside]
    assert wrong == []
