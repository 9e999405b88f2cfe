"""base, protocol and mail/destinations are pure: bytes and words in, values out; the system and the time are others'.

Of the standard library they import what computes.  Of modules that also reach the system they use the functions that
do not, by name.
"""

import ast
import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PURE = {
    "array",
    "_bisect",
    "_collections",
    "errno",
    "hashlib",
    "struct",
    "textwrap",
    "json",
    "collections",
    "collections.abc",
    "typing",
    "heapq",
    "itertools",
    "math",
    "operator",
}
# of modules that reach the system: what does not
PURE_NAMES = {
    "os": {"fsencode", "fsdecode"},  # str and bytes of one name, as the interpreter has them
    "socket": {"inet_ntop", "inet_pton", "AF_INET", "AF_INET6"},  # an address and its text
    "_socket": {"inet_ntop", "inet_pton", "AF_INET", "AF_INET6"},
    "time": {"gmtime"},  # a moment that is given, as a date
    "random": {"Random"},  # a generator that is given, with its seed
}
IMPURE_CALLS = {"open", "input", "print", "breakpoint", "exec", "eval", "__import__"}


ENGINES = ["pyqmail/mail/smtpd/client_limits.py"]  # in rooms that are not pure


def pure_modules(*layers):
    for layer in layers or ("base", "protocol", "mail/destinations"):
        for folder, _, files in os.walk(os.path.join(ROOT, "pyqmail", layer)):
            yield from (os.path.relpath(os.path.join(folder, name), ROOT) for name in files if name.endswith(".py"))


def impurities(text):
    """Yield a text for each use of the system in a module's source."""
    tree = ast.parse(text)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (
                    _is_foreign(alias.name)
                    and alias.name not in PURE
                    and (alias.name not in PURE_NAMES or alias.asname)
                ):
                    yield f"line {node.lineno} imports {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            if _is_foreign(node.module) and node.module not in PURE:
                names = {alias.name for alias in node.names} - PURE_NAMES.get(node.module, set())
                yield from (f"line {node.lineno} imports {node.module}.{name}" for name in names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PURE_NAMES:
            if node.value.id in imported and node.attr not in PURE_NAMES[node.value.id]:
                yield f"line {node.lineno} uses {node.value.id}.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield f"line {node.lineno} calls {node.func.id}"


def _is_foreign(module):
    return module.split(".")[0] != "pyqmail"


@pytest.mark.parametrize("path", sorted([*pure_modules(), *ENGINES]))
def test_what_is_pure_does_not_reach_the_system(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        assert list(impurities(file.read())) == []


@pytest.mark.parametrize("path", sorted(pure_modules("mail/destinations")))
def test_an_engine_of_mail_knows_no_room_that_does(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        nodes = [node for node in ast.walk(ast.parse(file.read())) if isinstance(node, ast.ImportFrom)]
    ours = {node.module for node in nodes if not _is_foreign(node.module)}
    assert [name for name in ours if not name.startswith(("pyqmail.base.", "pyqmail.mail.destinations"))] == []


SOURCES = [
    ("import os\nos.fsencode('a')", []),
    ("import os\nos.getpid()", ["line 2 uses os.getpid"]),
    ("import os as system", ["line 1 imports os"]),
    ("def f(random):\n    random.random()", []),
    ("import random\nrandom.random()", ["line 2 uses random.random"]),
    ("import io", ["line 1 imports io"]),
    ("from time import gmtime, time", ["line 1 imports time.time"]),
    ("def f():\n    import select", ["line 2 imports select"]),
    ("import pyqmail.base.tai\nopen('a')", ["line 2 calls open"]),
]


@pytest.mark.parametrize("source, found", SOURCES)
def test_the_test_sees_what_is_not_pure(source, found):
    assert list(impurities(source)) == found


def test_only_modules_of_the_standard_library_are_named():
    assert {name.split(".")[0] for name in (*PURE, *PURE_NAMES)} <= sys.stdlib_module_names
