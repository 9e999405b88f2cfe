"""The one place that imports by name: which programs there are, and how a parent gets hold of one.

Parents that fork or host a program are handed `load`; nothing else imports dynamically.  What load() returns is a
module with

    PROGRAM     its declaration (base/options.py): the manual page, --help and the parsing of main's words come from it
    main        main(argv) -> exit code

and with what PROGRAM.offers names:

    preload     preload(words): import all that the program may want later on; for a parent that will fork it
    session     session(argv, driver, environ) -> await handler(peer, environ): the program as one of many connections
                of a worker (tcp/serving/worker.py)
    stage       stage(argv) -> (stage, words behind it): what it does before such a program (tcp/serving/stages.py)

A parent asks the declaration, not the module: a house test compares the two.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def names() -> list[str]:
    """Return the names of all executables, sorted."""
    modules = (name[:-3] for name in os.listdir(_HERE) if name.startswith("py") and name.endswith(".py"))
    return sorted(_name(module) for module in modules)


def load(name: str):
    """Return the module of the executable called name.

    Nothing is looked up for one that is loaded.  Raises LookupError if there is no such program.
    """
    module = name.replace("-", "_").replace("@", "_at")
    loaded = sys.modules.get(f"pyqmail.programs.{module}")
    if loaded is not None and hasattr(loaded, "PROGRAM"):
        return loaded
    if not name.startswith("py") or not module.isidentifier() or not os.path.exists(f"{_HERE}/{module}.py"):
        raise LookupError(name)
    # what importlib.import_module() does; importlib brings three modules more, and a chain loader pays for each
    return __import__(f"pyqmail.programs.{module}", fromlist=["PROGRAM"])


def load_ahead(name: str, words=()):
    """Return load(name), with all imported that the program may want later on: before rights are given up, or a fork.

    words: its arguments, as far as they are known.
    """
    module = load(name)
    if "preload" in module.PROGRAM.offers:
        module.preload(words)
    return module


def _name(module):
    """Return the program of a module: `pymconnect-io` of pymconnect_io, `pywho@` of pywho_at."""
    stem = module.removesuffix("_at")
    return stem.replace("_", "-") + ("@" if stem != module else "")
