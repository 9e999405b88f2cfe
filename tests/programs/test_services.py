"""The ready service directories, started where PATH does not lead to our programs.

What they do is tested in tests/interop (test_supervisors, test_users, test_units).
"""

import os
import shutil
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def installed(tmp_path):
    """installed(folder) -> the services as they stand below it, and beside it a program for each of ours,
    which tells its name.
    """

    def make(folder):
        place = tmp_path / "there" / folder
        shutil.copytree(f"{ROOT}/services", place, ignore=shutil.ignore_patterns("supervise", "main"))
        (tmp_path / "there/bin").mkdir()
        for name in ("pyqueued", "pystart", "pytcpserver", "pymultilog"):
            (tmp_path / "there/bin" / name).write_text('#!/bin/sh\necho "${0##*/}"\n')
            (tmp_path / "there/bin" / name).chmod(0o755)
        return place

    return make


RUNS = {
    "pyqueued": b"pyqueued\n",
    "pysend": b"pystart\n",
    "pysmtpd": b"pytcpserver\n",
    "pyqueued/log": b"pymultilog\n",
    "pysend/log": b"pymultilog\n",
    "pysmtpd/log": b"pymultilog\n",
}


def run(place, home, **environ):
    """Run a run file as a supervisor does: by its name, in its directory."""
    done = subprocess.run(
        ["./run"], cwd=place, env={"PYQMAIL_HOME": home.path, **environ}, capture_output=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["services", "share/pyqmail/services"])
@pytest.mark.parametrize("service", RUNS)
@pytest.mark.parametrize("path", [{"PATH": "/usr/bin:/bin"}, {}], ids=["path", "none"])
def test_ours_are_found_beside_the_services(installed, tmp_path, home, service, folder, path):
    """Also through a link, as in /service."""
    place = installed(folder)
    (tmp_path / "link").symlink_to(place / service)
    assert run(tmp_path / "link", home, **path) == RUNS[service]


@pytest.mark.parametrize("service", RUNS)
def test_path_comes_first_and_a_copy_elsewhere_adds_nothing(installed, tmp_path, home, service):
    shutil.copytree(installed("services") / service, tmp_path / "elsewhere")
    (tmp_path / "elsewhere/bin").mkdir(exist_ok=True)
    name = RUNS[service].decode().strip()
    for folder, text in (("elsewhere/bin", "wrong"), ("bin", "first")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(f"#!/bin/sh\necho {text}\n")
        (tmp_path / folder / name).chmod(0o755)
    assert run(tmp_path / "elsewhere", home, PATH=f"{tmp_path}/bin:/usr/bin:/bin") == b"first\n"
    assert b"wrong" not in run(tmp_path / "elsewhere", home, PATH="/usr/bin:/bin")
