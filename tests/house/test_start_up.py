"""What a program imports when it is started alone: no more than the run needs."""

import functools
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
# program -> modules that its start loads at most: all, with Python 3.11; and of these ours.  A cold start
# pays for each.  Before you raise a number: can the module be imported where the one path is that needs it?
# Write a smaller number here when a start has become smaller.
BUDGETS = {
    "pyaddcr": (19, 16),
    "pyargv0": (12, 11),
    "pyclean": (17, 15),
    "pydate@": (25, 21),
    "pydelcr": (19, 16),
    "pydestcheck": (63, 38),
    "pydesthold": (53, 31),
    "pydestrules": (59, 36),
    "pyenvdir": (17, 15),
    "pyenvuidgid": (17, 15),
    "pyfghack": (13, 11),
    "pyfinger@": (25, 21),
    "pyfixcrio": (20, 17),
    "pygetpw": (14, 13),
    "pyhttp@": (25, 21),
    "pylocal": (31, 28),
    "pylspawn": (78, 66),
    "pymconnect": (27, 23),
    "pymconnect-io": (15, 13),
    "pymultilog": (31, 27),
    "pynewu": (22, 18),
    "pypgrphack": (12, 11),
    "pyqmail": (71, 7),
    "pyqmqpsource": (31, 12),
    "pyqmqpsink": (32, 13),
    "pyqshape": (51, 19),
    "pyqueue": (37, 29),
    "pyqueued": (79, 53),
    "pyqwhy": (51, 19),
    "pyrblsmtpd": (23, 21),
    "pyreadproctitle": (12, 11),
    "pyrecordio": (18, 15),
    "pyremote": (54, 46),
    "pyresolve": (36, 28),
    "pyrspawn": (72, 62),
    "pysend": (244, 197),
    "pysendtop": (51, 19),
    "pysetlock": (13, 11),
    "pysetuidgid": (12, 11),
    "pysmtpd": (52, 44),
    "pysmtpsource": (30, 11),
    "pysmtpsink": (31, 12),
    "pysoftlimit": (17, 14),
    "pystart": (53, 28),
    "pysupervise": (36, 30),
    "pysvc": (13, 11),
    "pysvok": (11, 10),
    "pysvscan": (37, 28),
    "pysvscanboot": (12, 11),
    "pysvstat": (17, 15),
    "pysvtop": (33, 19),
    "pysvwait": (26, 22),
    "pytai64n": (16, 14),
    "pytai64nlocal": (15, 13),
    "pytcpcat": (24, 20),
    "pytcpclient": (26, 22),
    "pytcprules": (19, 15),
    "pytcprulescheck": (19, 15),
    "pytcpserver": (101, 75),
    "pytcptop": (39, 14),
    "pywho@": (25, 21),
}
COUNTED = (3, 11)  # another version has other modules of its own behind the same imports
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@functools.cache
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


def test_every_program_has_a_budget():
    assert sorted(BUDGETS) == registry.names()


@pytest.mark.parametrize("name", BUDGETS)
def test_start_up_keeps_to_its_budget(name):
    loaded, (total, ours) = loaded_by(name), BUDGETS[name]
    assert len([module for module in loaded if module.split(".")[0] == "pyqmail"]) <= ours, sorted(loaded)
    if sys.version_info[:2] == COUNTED and name != "pyqmail":  # that has click, of any version
        assert len(loaded) <= total, sorted(loaded)


@pytest.mark.parametrize("name", [name for name in registry.names() if name in LEAN])
def test_chain_tools_do_without_sockets(name):
    assert loaded_by(name) & {"socket", "selectors", "re", "tempfile", "random", "threading"} == set()


def test_a_cold_pysmtpd_does_without_the_heavy_ones_of_the_standard_library():
    """Each connection behind a C tcpserver pays for them: together they cost as much as the interpreter itself."""
    assert loaded_by("pysmtpd") & {"socket", "signal", "enum", "selectors", "collections", "functools", "re"} == set()


@pytest.mark.parametrize("name", ["pysmtpd", "pyremote", "pyqueue", "pylocal", "pytcpclient"])
def test_what_serves_one_alone_does_without_the_loop(name):
    assert loaded_by(name) & {"pyqmail.system.loop", "pyqmail.system.timers"} == set()
