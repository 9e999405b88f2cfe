"""The manual pages in man/: one for each program, and that of the control files, rendered from the declarations."""

import os

from pyqmail.base import control_page
from pyqmail.base.manual import page
from pyqmail.operations import LABEL
from pyqmail.system.descriptors import log
from pyqmail.system.processes import installed_prefix

HERE = os.path.join(installed_prefix(), "man")  # of a checkout
PROGRAM_SECTIONS = (".1", ".8")  # pages of other sections are written by hand, but for those that pages() has
INSTALLED = os.path.join(installed_prefix(), "share/man")


def render(modules, check: bool) -> int:
    """Write each page that differs, remove pages of no program; with check only name them and return 1.

    modules: those of all programs.  Installed pages are only checked.
    """
    texts = pages(modules)
    if not os.path.isdir(HERE):
        return _check_installed(texts, check)
    stale = [path for path, text in texts.items() if _read(path) != text]
    orphans = _find_orphans(texts)
    for path in stale + orphans:
        log(f"{LABEL}: {'not up to date' if check else 'written'}: man/{os.path.basename(path)}")
    if check:
        return 1 if stale + orphans else 0
    for path in orphans:
        os.unlink(path)
    for path in stale:
        with open(path, "w", encoding="utf-8") as file:
            file.write(texts[path])
    return 0


def _find_orphans(texts):
    """Return the paths in man/ that have the name of a program's page, but no program."""
    names = [name for name in os.listdir(HERE) if name.startswith("py") and name.endswith(PROGRAM_SECTIONS)]
    return [path for path in (os.path.join(HERE, name) for name in names) if path not in texts]


def _check_installed(texts, check):
    if not check:
        log(f"{LABEL}: fatal: the pages are rendered in a checkout; installed ones can be checked")
        return 100
    stale = []
    for path, text in texts.items():
        name = os.path.basename(path)
        place = os.path.join(INSTALLED, f"man{name.rpartition('.')[2]}", name)
        if _read(place) != text:
            stale.append(place)
    for place in stale:
        log(f"{LABEL}: not up to date: {place}")
    return 1 if stale else 0


def pages(modules) -> dict[str, str]:
    """Return path -> text of the page of each program, and of that of the control files."""
    programs = [module.PROGRAM for module in modules]
    texts = {
        f"{module.PROGRAM.name}.{module.PROGRAM.section}": page(module.PROGRAM, module.__doc__) for module in modules
    }
    texts[control_page.NAME] = control_page.page(programs)
    return {os.path.join(HERE, name): text for name, text in texts.items()}


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
