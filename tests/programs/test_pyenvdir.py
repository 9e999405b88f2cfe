"""pyenvdir beside the original, and how little a chain loader imports."""

import os
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pyenvdir"]
needs_original = pytest.mark.skipif(not shutil.which("envdir"), reason="daemontools is not installed")

FILES = {
    "GONE": b"",
    "EMPTY": b"\n",
    "BLANKS": b"  a b \t \nrest",
    "NUL": b"a\0b  \0",
    "X=Y": b"v",
    "Q=R": b"",
    "CR": b"cr\r\n",
    ".hidden": b"hidden",
    "PATH": b"/nowhere",
    "HOME": b"home \n",
    "BYTES": b"\xff\xfe\n",
    "LC_CTYPE": b"C.UTF-8",
}
CHAIN = ["pyenvdir", "pysetuidgid", "pyenvuidgid", "pysetlock", "pysoftlimit", "pyfghack", "pypgrphack"]
CASES = [
    [],
    ["-x"],
    ["env"],
    ["none", "true"],
    ["-x", "true"],
    ["env/HOME", "true"],
    ["bad", "true"],
    ["", "true"],
    ["env", "no-such-program"],
    ["env", "./not-executable"],
    ["env", "env"],
    ["plain", "env"],
    ["./env/", "sh", "-c", "pwd; exit 3"],
]


@pytest.fixture
def place(tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "plain").mkdir()
    for name, content in FILES.items():
        (tmp_path / "env" / name).write_bytes(content)
    os.mkfifo(tmp_path / "env/FIFO")
    (tmp_path / "bad/sub").mkdir(parents=True)
    (tmp_path / "not-executable").touch()
    return tmp_path


@needs_original
@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_as_the_original(place, words):
    environ = {"GONE": "1", "Z": "2", "PATH": os.environ["PATH"], "HOME": "/", "FIFO": "3", "E": "", "PWD": str(place)}
    ours, theirs = [
        subprocess.run([*command, *words], capture_output=True, cwd=place, env=environ, timeout=60)
        for command in (OURS, [shutil.which("envdir")])
    ]
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_a_name_that_leads_nowhere_does_not_count(place):
    (place / "env/DANGLING").symlink_to("nowhere")
    words = [*OURS, "env", "env"]
    done = subprocess.run(words, capture_output=True, cwd=place, env={**os.environ, "DANGLING": "kept"}, timeout=60)
    assert b"DANGLING=kept\n" in done.stdout


def test_the_variables_reach_programs_of_ours(place):
    """Two of ours in one process: the second sees the first one's changes, and its PATH."""
    (place / "second").mkdir()
    (place / "second/SECOND").write_text("2")
    (place / "env/PATH").write_text(os.environ["PATH"])
    environ = {**os.environ, "PATH": f"{ROOT}/bin:{os.environ['PATH']}", "GONE": "1"}
    words = [*OURS, "env", "pyenvdir", "second", "sh", "-c", "echo $SECOND ${GONE-gone} $HOME $PATH"]
    done = subprocess.run(words, capture_output=True, cwd=place, env=environ, timeout=60)
    assert done.stdout.decode() == f"2 gone home {os.environ['PATH']}\n"


@pytest.mark.parametrize("program", CHAIN)
def test_a_chain_loader_imports_almost_nothing(program):
    code = f"import sys; old = set(sys.modules); import pyqmail.programs.{program}; print(*(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=60)
    imported = {name for name in done.stdout.decode().split() if not name.startswith(("pyqmail", "importlib._boot"))}
    assert imported <= {"errno", "importlib", "warnings", "fcntl", "pwd", "resource"}
