"""What a program imports when it is started alone: no more than the run needs."""

import os
import subprocess
import sys

import pytest

from pyqmail.programs import registry

HEAVY = {
    "asyncio",
    "click",
    "dns",
    "psutil",
    "dataclasses",
    "cdblib",
    "subprocess",
    "typing",
    "logging",
    "argparse",
    "inspect",
}
LEAN = {
    *("pysetuidgid", "pyenvdir", "pysoftlimit", "pysetlock", "pytai64n", "pyclean"),
    *("pyenvuidgid", "pyfghack", "pypgrphack", "pyreadproctitle", "pysvscanboot"),
    *("pyaddcr", "pydelcr", "pyfixcrio", "pyrecordio", "pyargv0", "pyrblsmtpd"),
}
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def loaded_by(name):
    module = name.replace("-", "_").replace("@", "_at")
    code = (
        f"import sys; before = set(sys.modules); import pyqmail.programs.{module}; print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ROOT}
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", [name for name in registry.names() if name != "pyqmail"])
def test_start_up_imports_nothing_heavy(name):
    assert loaded_by(name) & HEAVY == set()


@pytest.mark.parametrize("name", [name for name in registry.names() if name in LEAN])
def test_chain_tools_do_without_sockets(name):
    assert loaded_by(name) & {"socket", "selectors", "re", "tempfile", "random", "threading"} == set()


def test_a_cold_pysmtpd_does_without_the_heavy_ones_of_the_standard_library():
    """Each connection behind a C tcpserver pays for them: together they cost as much as the interpreter itself."""
    assert loaded_by("pysmtpd") & {"socket", "signal", "enum", "selectors", "collections", "functools", "re"} == set()


@pytest.mark.parametrize("name", ["pysmtpd", "pyremote", "pyqueue", "pylocal", "pytcpclient"])
def test_what_serves_one_alone_does_without_the_loop(name):
    assert loaded_by(name) & {"pyqmail.system.loop", "pyqmail.system.timers"} == set()
