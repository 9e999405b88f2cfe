"""README.md: it names every program, and no other; its places are there; every paper and target has its place."""

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
    assert set(named) - set(registry.names()) == set()


def test_the_folders_it_names_are_there():
    table = text().partition("## Where everything is")[2].partition("\n\n`pysmtpd` is")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    folders = [place for cell in cells for place in re.findall(r"`([^`]+/)`", cell)]
    assert len(folders) > 10
    places = [[f"{ROOT}/{folder}", f"{ROOT}/pyqmail/{folder}"] for folder in folders]
    assert [one for one in places if not any(map(os.path.isdir, one))] == []


def test_it_names_every_paper():
    papers = [name for name in os.listdir(ROOT) if name == "LICENSE" or name.endswith(".md") and name != "README.md"]
    assert [name for name in papers if f"`{name}`" not in text()] == []


def test_the_targets_it_names_are_there():
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        targets = set(re.findall(r"^([a-z-]+):", file.read(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", text(), re.MULTILINE))
    assert len(named) > 4
    assert named - targets == set()
