"""README.md: it names every program, and no other."""

import os
import re

from pyqmail.programs import registry

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def text():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        return file.read()


def test_it_names_every_program():
    table = text().partition("## What there is")[2].partition("\n\nMissing")[0]
    named = re.findall(r"\bpy[a-z0-9@-]+", table)
    assert set(registry.names()) - set(named) == set()
    assert set(named) - {name.replace("_at", "@").replace("_", "-") for name in registry.names()} == set()
