"""pyqmail-internals(7): its tables of layers, rooms, processes and serving modes are what the code has."""

import os
import re
import types

from pyqmail.mail.destinations.limits import windows
from pyqmail.programs import pystart, registry
from pyqmail.protocol.wires import handover_wire
from pyqmail.system import home, loop
from tests.house.test_layers import BELOW, ROOMS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PARTS = {"worker", "copier", "stranger process", "lookup worker", "starter"}  # forked, and no program of their own


def page():
    with open(f"{ROOT}/man/pyqmail-internals.7", encoding="utf-8") as file:
        return re.sub(r"\\f[BIR]", "", file.read()).replace("\\-", "-")


def table(heading):
    """Return the lines of a section that are shown as they stand, without their indentation."""
    section = page().partition(f"\n.SH {heading}\n")[2].partition("\n.SH ")[0]
    block = re.search(r"^\.nf\n(.*?)^\.fi$", section, re.MULTILINE | re.DOTALL)
    return [line[4:] for line in block[1].splitlines()]


def named(words):
    return set(words) - {"none"}


def test_the_layers():
    rows = [line.split() for line in table("LAYERS")]
    assert {layer: named(known) for layer, *known in rows} == BELOW


def test_the_rooms():
    rows = [line.split() for line in table("ROOMS") if not line.startswith(" ")]
    shown = {room: named(known) for room, *known in rows}
    assert shown == {f"{subject}/{room}": known for subject, rooms in ROOMS.items() for room, known in rooms.items()}


def processes():
    """Return (process, user, parent) of each row."""
    return [tuple(re.split(r"  +", line.strip())[:3]) for line in table("PROCESSES AND USERS")[1:]]


def test_the_processes_are_programs_or_parts_of_one():
    names = {name for name, _, _ in processes()}
    assert names - PARTS <= set(registry.names())
    assert names >= PARTS
    assert {parent for _, _, parent in processes()} - names == {"init"}


def test_their_users_are_those_of_qmail():
    users = {user for _, user, _ in processes()} - {"root", "the user"}
    assert users == set(home.USERS) - {"alias"}  # which owns files, and runs nothing but its own deliveries


def test_pystarts_parts_run_as_it_starts_them():
    parts = pystart.native_parts(types.SimpleNamespace(sessions=1, delivery="./Maildir/"))
    wanted = {(words[0], user.partition(":")[0]) for words, user in parts}
    assert wanted == {
        (name, user) for name, user, parent in processes() if parent == "starter" and name in registry.names()
    }


def test_the_serving_modes():
    shown = [line.split()[0] for line in table("SERVING MODES")]
    folder = os.listdir(f"{ROOT}/pyqmail/tcp/serving")
    assert [name for name in shown if f"{name}.py" not in folder] == []
    assert {name.removesuffix(".py") for name in folder if name.endswith(("_each.py", "_pool.py"))} == set(shown)


def test_the_figures():
    text = " ".join(page().split())
    assert f"at most {handover_wire.IN_FLIGHT} connections" in text
    assert f"{1000 * loop.QUANTUM_SECONDS:.0f} ms at most (QUANTUM_SECONDS)" in text
    assert f"After {1000 * loop.SLICE_SECONDS:.0f} ms of turns (SLICE_SECONDS)" in text
    assert windows.DAY == 86400 and "proven for a day" in text
