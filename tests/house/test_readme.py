"""README.md names what is in the tree and nothing else: programs, places, files, targets; `make help` every target."""

import os
import re
import subprocess

import pytest

from pyqmail.programs import registry

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def text(paper="README.md"):
    with open(os.path.join(ROOT, paper), encoding="utf-8") as file:
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


def folders_in(place):
    """Return the folders that are part of the tree; build/ and var/ are made by setup.py and `make run`."""
    names = [name for name in os.listdir(f"{ROOT}/{place}") if re.fullmatch("[a-z]+", name)]
    return {name for name in names if os.path.isdir(f"{ROOT}/{place}/{name}")} - {"build", "var"}


def test_it_names_every_folder():
    table = text().partition("## Where everything is")[2].partition("\n\n`pysmtpd` is")[0]
    named = set(re.findall(r"`(?:pyqmail/)?([^`]+)/`", table))
    assert (folders_in("") | folders_in("pyqmail")) - {"pyqmail"} - named == set()


def test_it_names_every_file_of_the_top():
    files = [name for name in os.listdir(ROOT) if os.path.isfile(f"{ROOT}/{name}") and name[0] != "."]
    assert len(files) > 5
    assert [name for name in files if f"`{name}`" not in text() and name != "README.md"] == []


def makefile():
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        return file.read()


def targets():
    return set(re.findall(r"^([a-z][a-z-]*):", makefile(), re.MULTILINE))


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md"])
def test_the_targets_it_names_are_there(paper):
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", text(paper), re.MULTILINE))
    assert len(named) > 4
    assert named - targets() == set()


def test_help_names_every_target_once():
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    named = re.findall(r"^make ([a-z-]+)  +\S", shown.stdout, re.MULTILINE)
    assert sorted(named) == sorted(targets() - {"help"})
    assert len(named) == len(shown.stdout.splitlines())


def test_no_file_can_stand_for_a_target():
    """A file or a folder with a target's name, for example bench/, would count as made."""
    assert set(re.search(r"^\.PHONY: (.*)$", makefile(), re.MULTILINE)[1].split()) == targets()
