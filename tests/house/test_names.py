"""Names within a subject: no two public classes are called the same, so that a name leads to one class."""

import ast
import os

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SUBJECTS = {
    "mail": ["mail"],
    "tcp": ["tcp"],
    "supervise": ["supervise"],
    "load tools": ["load_tools"],
    "protocol": ["protocol"],
    "system": ["system"],
    "base": ["base"],
    "programs and operations": ["programs", "operations"],
}
# (subject, class) -> why it stands twice.  To be emptied: a new entry needs a reason that will hold for ever
EXCEPTIONS = {}


def public_classes(folder):
    """Yield (class, module) of each public class at the top of a module, those only for the type checker included."""
    for place, _, files in os.walk(os.path.join(ROOT, "pyqmail", folder)):
        for file in sorted(files):
            if not file.endswith(".py"):
                continue
            path = os.path.join(place, file)
            with open(path, encoding="utf-8") as text:
                tree = ast.parse(text.read())
            for node in top_level(tree.body):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    yield node.name, os.path.relpath(path, ROOT)


def top_level(body):
    """Yield the statements of a module, and of its top-level `if` and `try`."""
    for node in body:
        yield node
        for inner in (getattr(node, name, []) for name in ("body", "orelse", "handlers", "finalbody")):
            if isinstance(node, (ast.If, ast.Try, ast.ExceptHandler)):
                yield from top_level(inner)


def twice(subject):
    """Return {class: modules} of the public classes that have one name in several modules of a subject."""
    found = {}
    for folder in SUBJECTS[subject]:
        for name, module in public_classes(folder):
            found.setdefault(name, []).append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_two_public_classes_of_a_subject_share_a_name(subject):
    excepted = {name for place, name in EXCEPTIONS if place == subject}
    found = twice(subject)
    assert {name: modules for name, modules in found.items() if name not in excepted} == {}
    assert excepted <= found.keys(), "an exception that is not needed any more"


def test_every_folder_belongs_to_a_subject():
    folders = {name for name in os.listdir(os.path.join(ROOT, "pyqmail")) if os.path.isdir(f"{ROOT}/pyqmail/{name}")}
    assert {folder for folders in SUBJECTS.values() for folder in folders} == folders - {"__pycache__"}


def test_classes_are_found():
    """Those for the type checker are among them."""
    assert {"ServingMode", "WorkerPool"} <= {name for name, _ in public_classes("tcp")}
