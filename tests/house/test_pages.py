"""The manual pages as a whole: what mandoc has to say, where they lead, and that the README names the general ones."""

import os
import re
import shutil
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAN = f"{ROOT}/man"
PAGES = sorted(os.listdir(MAN))
GENERAL = [name for name in PAGES if name.endswith((".5", ".7"))]
# of these every line is written by hand, 80 columns wide
FORMATS = [
    "pydot-qmail.5",
    "pyqmail-internals.7",
    "pyqmail-queue.5",
    "pyqmail-rules.5",
    "pyqmail-users.5",
    "pyqmail-wires.5",
]
# a page has no date, so that rendering it twice gives the same, and our names are in lower case
HARMLESS = ("missing date", "lower case character in document title", "skipping paragraph macro: PP after SH")
REFERENCE = re.compile(r"\b([a-z][\w@.-]*)\((\d)\)")


def source(name):
    with open(f"{MAN}/{name}", encoding="utf-8") as file:
        return file.read()


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
@pytest.mark.parametrize("name", PAGES)
def test_mandoc_has_nothing_to_complain_of(name):
    level = "style" if name in FORMATS else "warning"
    shown = subprocess.run(
        ["mandoc", "-Tlint", f"-W{level}", f"{MAN}/{name}"], capture_output=True, text=True, timeout=30, check=False
    )
    lines = shown.stdout.splitlines() + shown.stderr.splitlines()
    assert [line for line in lines if not any(text in line for text in HARMLESS)] == []


@pytest.mark.parametrize("name", PAGES)
def test_it_leads_to_pages_that_are_there(name):
    ours = {page for page, _ in (one.rsplit(".", 1) for one in PAGES)}
    text = re.sub(r"\\f[BIR]", "", source(name)).replace("\\-", "-")
    named = {f"{page}.{section}" for page, section in REFERENCE.findall(text) if page in ours or page.startswith("py")}
    assert named <= set(PAGES)


@pytest.mark.parametrize("name", FORMATS)
def test_it_ends_with_the_pages_beside_it(name):
    *_, last = re.findall(r"^\.SH (.*)$", source(name), re.MULTILINE)
    assert last == "SEE ALSO"


@pytest.mark.parametrize("name", GENERAL)
def test_the_readme_names_it(name):
    with open(f"{ROOT}/README.md", encoding="utf-8") as file:
        page, _, section = name.rpartition(".")
        assert f"{page}({section})" in file.read()
