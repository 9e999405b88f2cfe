"""Every way of installing, each in a path with a blank: our programs run, isolated, with the
environment as it was given.

pipx is a virtual environment with links to it from elsewhere.  Nothing is fetched: third-party packages are those of
this interpreter.  Untested: conda, and installers other than pip.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import venv
import zipfile

import click
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGES = os.path.dirname(os.path.dirname(click.__file__))
PIP = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
WAYS = ["checkout", "checkout-venv", "wheel", "pipx", "editable", "user", "prefix"]
SECONDS = 120


def pip(python, *words, **environ):
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP"))} | environ
    words = [sys.executable, "-m", "pip", "--python", str(python), *PIP, *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True, env=environ, timeout=SECONDS)
    assert done.returncode == 0, done.stderr


def copy_of_the_tree(place):
    place.mkdir(parents=True)
    for name in ("bin", "man", "pyqmail", "services"):
        shutil.copytree(f"{ROOT}/{name}", place / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(f"{ROOT}/{name}", place)
    return place


def virtual_environment(place):
    """Make one that sees our third-party packages; return its interpreter."""
    venv.create(place, symlinks=True)
    (library,) = (place / "lib").glob("python*/site-packages")
    (library / "others.pth").write_text(f"{PACKAGES}\n")
    return place / "bin/python3"


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that all workers of a test run share."""
    place = tmp_path_factory.getbasetemp()
    return place.parent if "PYTEST_XDIST_WORKER" in os.environ else place


@pytest.fixture(scope="session")
def wheel(shared):
    """The path of a wheel of this tree, made once for all."""
    place = shared / "for a wheel"
    place.mkdir(exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "tree").exists():
            tree = copy_of_the_tree(place / "tree")
            words = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", str(place / "made")]
            subprocess.run(words, cwd=tree, check=True, capture_output=True, timeout=SECONDS)
        (path,) = (place / "made").glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(shared, request):
    """installed(way) -> the folder that has our programs.  Each way is made once for all workers."""

    def install(way):
        place = shared / f"installed {way}"
        with open(f"{place}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.exists():
                place.mkdir()
                globals()[f"make_{way.replace('-', '_')}"](place, request)
        return place / "bin"

    return install


def make_checkout(place, request):
    copy_of_the_tree(place / "tree")
    virtual_environment(place / "python")
    (place / "bin").symlink_to("tree/bin")


def make_checkout_venv(place, request):
    """As `make venv` leaves it: the interpreter of .venv is used for the starters in bin, too."""
    tree = copy_of_the_tree(place / "tree")
    pip(virtual_environment(tree / ".venv"), "--editable", tree)
    (place / "bin").symlink_to("tree/.venv/bin")


def make_wheel(place, request):
    pip(virtual_environment(place), request.getfixturevalue("wheel"))


def make_pipx(place, request):
    pip(virtual_environment(place / "venvs/py qmail"), request.getfixturevalue("wheel"))
    (place / "bin").mkdir()
    for name in os.listdir(f"{ROOT}/bin"):
        (place / "bin" / name).symlink_to(f"../venvs/py qmail/bin/{name}")


def make_editable(place, request):
    copy_of_the_tree(place / "tree")
    pip(virtual_environment(place / "v env"), "--editable", place / "tree")
    (place / "bin").symlink_to("v env/bin")


def make_user(place, request):
    base = os.path.realpath(sys.executable)
    pip(base, "--user", "--break-system-packages", "--no-warn-script-location", request.getfixturevalue("wheel"),
        PYTHONUSERBASE=str(place))  # fmt: skip
    link_packages(place)


def make_prefix(place, request):
    base = os.path.realpath(sys.executable)
    pip(base, "--prefix", place, "--no-warn-script-location", request.getfixturevalue("wheel"))
    if not (place / "bin").exists():  # Debian's own idea of a prefix
        (place / "bin").symlink_to("local/bin")
    link_packages(place)


def link_packages(place):
    """Give an installation without a virtual environment our third-party packages, beside ours."""
    (ours,) = place.glob("**/*-packages/pyqmail")
    for name in ("click", "dns", "cdblib", "psutil"):
        if not (ours.parent / name).exists():
            (ours.parent / name).symlink_to(f"{PACKAGES}/{name}")


@pytest.fixture(params=WAYS)
def programs(request, installed):
    """The folder of our programs, of each way in turn."""
    return installed(request.param)


def call(program, *words, **how):
    how = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": SECONDS, "cwd": "/", **how}
    return subprocess.run([str(program), *map(str, words)], **how)


PATH = "/usr/bin:/bin"


def path_with_an_interpreter(programs):
    """A checkout without .venv asks PATH for its interpreter, and nobody else does."""
    return f"{programs.parent}/python/bin:{PATH}" if programs.parent.name == "installed checkout" else PATH


# what no program ever sees, unless it is started from that environment: it must come through all the same
HOSTILE = {
    "PYTHONSTARTUP": "{trap}/trap.py",
    "PYTHONINSPECT": "1",
    "PYTHONHOME": "/nowhere",
    "PYTHONWARNINGS": "error",
    "PYTHONVERBOSE": "1",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONUSERBASE": "{trap}",
    "PYTHONPLATLIBDIR": "nowhere",
    "PYTHONDEVMODE": "1",
    "PYTHONPATH": "{trap}",
    "BASH_FUNC_read%%": "() {{ touch {trap}/sprung; }}",
    "BASH_FUNC_od%%": "() {{ touch {trap}/sprung; }}",
    "BASH_FUNC_command%%": "() {{ touch {trap}/sprung; }}",
    "ENV": "{trap}/trap.sh",
    "BASH_ENV": "{trap}/trap.sh",
    "PWD": "/somewhere/else",
    "OLDPWD": "/elsewhere",
    "SHLVL": "7",
    "_": "/bin/under",
    "IFS": "/",
    "a.name-of dots": "no name for sh",
    "NEWLINES": "one\ntwo\n",
    "EMPTY": "",
    "PYQMAIL_ENVIRON": "1 41",
}


@pytest.fixture
def trap(tmp_path):
    """A folder that leaves a file `sprung` if anything in it is run by an interpreter."""
    code = f"open({str(tmp_path / 'sprung')!r}, 'a').close()\n"
    library = tmp_path / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    library.mkdir(parents=True)
    for name in ("sitecustomize", "usercustomize", "trap", "click", "pyqmail", "encodings", "os", "site", "pwd"):
        (tmp_path / f"{name}.py").write_text(code)
        (library / f"{name}.py").write_text(code)
    (library / "trap.pth").write_text(f"import sys; {code}")
    (tmp_path / "trap.sh").write_text(f"touch {tmp_path}/sprung\n")
    return tmp_path


def test_no_variable_steers_it_and_every_one_comes_through(programs, trap):
    environ = {"PATH": path_with_an_interpreter(programs), "B": "\udcff"}
    environ |= {name: value.format(trap=trap) for name, value in HOSTILE.items()}
    done = call(programs / "pyargv0", "cat", "cat", "/proc/self/environ", env=environ, cwd=trap)
    assert (done.returncode, done.stderr) == (0, b"")
    given = [os.fsencode(f"{name}={value}") for name, value in environ.items()]
    assert done.stdout.rstrip(b"\0").split(b"\0") == given
    assert not (trap / "sprung").exists()


def test_without_any_variable(programs):
    done = call(programs / "pyargv0", "/usr/bin/env", "env", env={"PATH": path_with_an_interpreter(programs)})
    assert done.stdout == f"PATH={path_with_an_interpreter(programs)}\n".encode()


def shown(pid):
    with open(f"/proc/{pid}/comm", "rb") as name, open(f"/proc/{pid}/cmdline", "rb") as words:
        return name.read(), words.read().rstrip(b"\0").split(b"\0")


@pytest.mark.parametrize("chain", [[], ["pyargv0", "pytai64n", "pytai64n"]], ids=["alone", "chain"])
def test_ps_shows_the_program_that_runs(programs, chain):
    """In a chain of ours, too, which goes on without exec: the programs know one another as ours."""
    environ = {"PATH": f"{programs}:{path_with_an_interpreter(programs)}"}
    words = [programs / (chain or ["pytai64n"])[0], *chain[1:], "an", "argument"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as process:
        process.stdin.write(b"x\n")
        process.stdin.flush()
        assert process.stdout.read(1) == b"@"
        with open(f"/proc/{process.pid}/maps") as maps:
            assert "python" in maps.read()
        assert shown(process.pid) == (b"pytai64n\n", [b"pytai64n", b"an", b"argument"])
        if shutil.which("pidof"):
            pids = subprocess.run(["pidof", "pytai64n"], capture_output=True).stdout.split()
            assert b"%d" % process.pid in pids
        process.stdin.close()


def test_the_command_for_people_finds_what_came_with_it(programs, tmp_path):
    """click, the services and the pages."""
    environ = {"PATH": path_with_an_interpreter(programs), "HOME": str(tmp_path)}
    done = call(programs / "pyqmail", "units", "--to", tmp_path, env=environ)
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(os.listdir(tmp_path)) == ["pyqueued.service", "pysend.service", "pysmtpd.service"]
    done = call(programs / "pyqmail", "man", "--check", env=environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert call(programs / "pyqmail", "--version", env=environ).stdout.startswith(b"pyqmail ")


@pytest.mark.parametrize("how", ["absolute", "relative", "cwd", "link", "PATH", "sh", "interpreter"])
def test_however_it_is_called(installed, tmp_path, how):
    programs = installed("wheel")
    (tmp_path / "link to it").symlink_to(programs / "pyargv0")
    (tmp_path / "second").symlink_to("link to it")
    words, environ, cwd = {
        "absolute": ([programs / "pyargv0"], {}, "/"),
        "relative": (["bin/pyargv0"], {}, programs.parent),
        "cwd": (["./pyargv0"], {}, programs),
        "link": ([tmp_path / "second"], {}, "/"),
        "PATH": (["env", "pyargv0"], {"PATH": f"{programs}:{PATH}"}, "/"),
        "sh": (["/bin/sh", "pyargv0"], {}, programs),
        "interpreter": ([sys.executable, programs / "pyargv0"], {}, "/"),
    }[how]
    done = call(*words, "/bin/echo", "echo", "one", "two words", env={"PATH": PATH, **environ}, cwd=cwd)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"one two words\n", b"")


def test_what_else_a_wheel_has(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    pages = {name.rpartition("/")[2] for name in names if "/share/man/" in name}
    assert pages == set(os.listdir(f"{ROOT}/man"))
    assert "pyqmail/py.typed" in names  # the annotations are for type checkers, too
    assert any(name.endswith("/LICENSE") for name in names)


def test_an_interpreter_that_is_gone_is_one_line(tmp_path):
    shutil.copy(f"{ROOT}/bin/pyargv0", tmp_path)
    (tmp_path / "pyqmail-python").write_text("#!/nowhere/python3\n")
    done = call(tmp_path / "pyargv0", "echo", "x", env={"PATH": PATH})
    assert done.returncode == 111
    assert done.stderr == b"pyargv0: fatal: unable to run /nowhere/python3: file does not exist\n"


def test_the_systems_packages_are_seen_if_the_environment_asks_for_them(installed, tmp_path):
    """Starters do without site in a virtual environment, unless it needs that."""
    programs = installed("wheel")
    venv.create(tmp_path / "v", symlinks=True, system_site_packages=True)
    (library,) = (tmp_path / "v/lib").glob("python*/site-packages")
    (library / "pyqmail").symlink_to(next(programs.parent.glob("lib/python*/site-packages/pyqmail")))
    (library / "elsewhere.pth").write_text(f"{PACKAGES}\n")
    shutil.copy(programs / "pyqmail", tmp_path / "v/bin")
    assert call(tmp_path / "v/bin/pyqmail", "--help", env={"PATH": PATH}).returncode == 0


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_where_sh_is_bash(installed, trap):
    programs = installed("wheel")
    (trap / "sh").symlink_to(shutil.which("bash"))
    environ = {"PATH": PATH} | {name: value.format(trap=trap) for name, value in HOSTILE.items()}
    done = call(trap / "sh", programs / "pyargv0", "cat", "cat", "/proc/self/environ", env=environ, cwd=trap)
    given = [os.fsencode(f"{name}={value}") for name, value in environ.items()]
    assert done.stdout.rstrip(b"\0").split(b"\0") == given
    assert not (trap / "sprung").exists()
