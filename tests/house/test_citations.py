"""Whatever a docstring, a comment or a page of ours cites is in the tree: documents, modules, folders, manual pages.

The original programs, their manuals and RFCs are outside it, and the right thing to cite for what an engine or a format
does: each module of protocol/ cites one, or the page of our own wires.
"""

import ast
import io
import os
import re
import tokenize

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PLACES = ["", "pyqmail/", "tests/"]  # a path in a text begins at one of these
DOCUMENT = re.compile(r"(?<![\w/.-])[A-Za-z][\w-]*\.md\b")
MODULE = re.compile(r"(?<![\w/.{}*-])(?:[a-z_]+/)*[a-z][a-z_]*\.py\b")
DOTTED = re.compile(r"\bpyqmail(?:\.[a-z_]+)+")
PAGE = re.compile(r"(?<![\w@.-])(py[a-z0-9-]+@?)\((\d)\)")
MADE_UP = "pyhello"  # the example of CONTRIBUTING.md


def files():
    """Yield the path of every text of the tree."""
    for folder in ("", "bench", "man", "pyqmail", "services", "tests"):
        for place, folders, names in os.walk(os.path.join(ROOT, folder)):
            folders[:] = [one for one in folders if one != "__pycache__" and folder]
            yield from (os.path.relpath(os.path.join(place, name), ROOT) for name in names)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def texts_of(source):
    """Yield (line, text) of each docstring and each comment of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node, clean=False)
            if text is not None:
                yield node.body[0].lineno, text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def texts(path):
    """Yield (line, text) of what a file of the tree says to its readers."""
    if path.endswith(".py"):
        yield from texts_of(read(path))
    elif path.startswith("man/"):
        yield 1, re.sub(r"\\f[BIR]", "", read(path)).replace("\\-", "-").replace("\\&", "")
    elif path.endswith((".md", "Makefile")):
        yield 1, read(path)


NAMES = sorted(set(files()))
MODULES = {os.path.basename(path) for path in NAMES if path.endswith(".py")}
CITING = [path for path in NAMES if path.endswith((".py", ".md", "Makefile")) or path.startswith("man/")]


def is_there(path):
    """Return whether a module is there: by its path from one of PLACES, or by its name alone."""
    if "/" not in path:
        return path in MODULES
    return any(os.path.exists(os.path.join(ROOT, place, path)) for place in PLACES)


def is_module(name):
    """Return whether a dotted name is a module, or a name in one."""
    path = name.replace(".", "/")
    above = os.path.dirname(path)
    return any(os.path.exists(os.path.join(ROOT, one)) for one in (path, path + ".py", above + ".py"))


def missing(text):
    """Yield each citation of something that is not in the tree."""
    yield from (name for name in DOCUMENT.findall(text) if not os.path.exists(os.path.join(ROOT, name)))
    yield from (path for path in MODULE.findall(text) if not is_there(path) and MADE_UP not in path)
    yield from (name for name in DOTTED.findall(text) if not is_module(name))
    for page, section in PAGE.findall(text):
        if not os.path.exists(os.path.join(ROOT, "man", f"{page}.{section}")):
            yield f"{page}({section})"


def test_what_is_cited_is_in_the_tree():
    wrong = [f"{path}:{line} {one}" for path in CITING for line, text in texts(path) for one in missing(text)]
    assert wrong == []


TEXTS = [
    # text                                                  not in the tree
    ("README.md and CHANGELOG.md", []),
    ("as in qmail-core.md section 4.11", ["qmail-core.md"]),
    ("mail/queue/files.py, tests/waiting.py, files.py", []),
    ("mail/queue/nothing.py, nothing.py", ["mail/queue/nothing.py", "nothing.py"]),
    ("pyqmail.mail.queue.files, pyqmail.system.home.find_home", []),
    ("pyqmail.mail.nothing.files", ["pyqmail.mail.nothing.files"]),
    ("pysmtpd(8), qmail-local(8), pywho@(1)", []),
    ("pysmtpd(1), pynothing(8)", ["pysmtpd(1)", "pynothing(8)"]),
]


@pytest.mark.parametrize("text, found", TEXTS)
def test_the_test_sees_what_is_not_there(text, found):
    assert list(missing(text)) == found


TEST = re.compile(r"\btest_\w+(?:\.\.\.)?|(?<=\.\.\.)_\w+")


def test_the_tests_that_contributing_names_are_there():
    """An ellipsis stands for the beginning or the end of a name."""
    parts = TEST.findall(read("CONTRIBUTING.md").replace(f"test_{MADE_UP}", ""))
    assert len(parts) > 20
    names = {path.rpartition("/")[2].removesuffix(".py") for path in NAMES if path.startswith("tests/")}
    for path in NAMES:
        if path.startswith("tests/") and path.endswith(".py"):
            names |= {node.name for node in ast.walk(ast.parse(read(path))) if isinstance(node, ast.FunctionDef)}
    is_there = {part: part in names for part in parts}
    is_there |= {part: any(name.startswith(part[:-3]) for name in names) for part in parts if part.endswith("...")}
    is_there |= {part: any(name.endswith(part) for name in names) for part in parts if part.startswith("_")}
    assert [part for part, found in is_there.items() if not found] == []


SOURCE = re.compile(r"\bRFC \d+|\bSource: \w|\bpyqmail-wires\(5\)")
PROTOCOL = [path for path in NAMES if path.startswith("pyqmail/protocol/") and path.endswith(".py")]


@pytest.mark.parametrize("path", [path for path in PROTOCOL if not path.endswith("__init__.py")])
def test_an_engine_names_its_source(path):
    said = "\n".join(text for _, text in texts_of(read(path)))
    assert SOURCE.search(said), "an RFC, an original program, or a wire of ours?"


@pytest.mark.parametrize("path", PROTOCOL)
def test_an_rfc_is_cited_with_its_section(path):
    """At least once in each module: the reader finds the place."""
    said = "\n".join(text for _, text in texts_of(read(path)))
    assert set(re.findall(r"RFC \d+", said)) - set(re.findall(r"(RFC \d+) section", said)) == set()
