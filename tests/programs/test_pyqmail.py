"""`pyqmail run` as a new user sees it: from nothing to a delivered message, again, and what goes wrong.

Untested here: `make run` itself, an old Python (the Makefile asks), and Ctrl-C on a real terminal.
"""

import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def place(tmp_path_factory):
    """A short path for a home: a UNIX socket must fit into it."""
    import tempfile

    folder = tempfile.mkdtemp(prefix="pyq", dir="/tmp")
    yield f"{folder}/home"
    shutil.rmtree(folder)


def start(home, *options, **more):
    environ = {
        **more,
        "PATH": f"{ROOT}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "PYQMAIL_HOME": home,
    }
    argv = [sys.executable, f"{ROOT}/bin/pyqmail", "run", *options]
    return subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def processes_of(home):
    """Return the pids of all processes that have this home in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if f"PYQMAIL_HOME={home}\0".encode() in file.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def test_once_and_once_again(place):
    for count in (1, 2):
        process = start(place, "--once", "--port", "0")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, ""), out
        assert "Subject: it works" in out and "delivery 1: success" in out
        assert len(os.listdir(f"{place}/home/demo/Maildir/new")) == count
        assert processes_of(place) == []
        names = re.findall("^Log of (.*):$", out, re.MULTILINE)
        assert names == ["pyqueued", "pysend", "pysmtpd"]
        open(f"{place}/service/.svscan-lock", "w").close()  # as pysvscan does where it is not root's: no service
    assert sum(len(files) for _, _, files in os.walk(f"{place}/queue/mess")) == 0


def test_a_signal_stops_everything(place):
    process = start(place, "--port", "0")
    for line in process.stdout:
        if line.startswith("Running."):
            break
    assert len(processes_of(place)) > 10
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert processes_of(place) == [] and process.stderr.read() == ""
    process.stdout.close()
    process.stderr.close()


def refused(home, *options):
    process = start(home, "--once", *options)
    out, err = process.communicate(timeout=60)
    assert out == "" and err.count("\n") == 1
    return process.returncode, err


def test_a_port_in_use(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused(place, "--port", str(port)) == (
            111,
            f"pyqmail: fatal: unable to listen on 127.0.0.1 port {port}: "
            "address already used (Address already in use); "
            "SMTP_PORT=N names another one\n",
        )


def test_a_port_that_is_none_names_the_variable(place):
    process = start(place, "--once", SMTP_PORT="smtp")
    assert "SMTP_PORT" in process.communicate(timeout=60)[1] and process.returncode == 2


def test_a_folder_that_is_a_file(place):
    os.makedirs(place)
    open(f"{place}/private", "w").close()
    open(f"{place}/queue", "w").close()
    said = f"pyqmail: fatal: unable to create {place}/queue/pid: not a directory (Not a directory)\n"
    assert refused(place) == (111, said)


def test_a_home_whose_path_is_too_long(place):
    home = f"{place}/{'x' * 100}"
    assert refused(home) == (
        100,
        f"pyqmail: fatal: the path of the home is too long for a UNIX socket: {home}/run/pyqueued\n",
    )


def test_a_folder_that_is_no_private_home(place):
    os.makedirs(f"{place}/control")
    assert refused(place) == (
        100,
        f"pyqmail: fatal: {place} is not empty and has no file `private`: it is not a private home\n",
    )
    assert os.listdir(place) == ["control"]


def test_two_at_once(place):
    process = start(place, "--port", "0")
    for line in process.stdout:
        if line.startswith("Running."):
            break
    code, said = refused(place, "--port", "0")
    assert code == 100 and re.fullmatch(f"pyqmail: fatal: {place} is already running: `kill [0-9]+` stops it\n", said)
    process.terminate()
    assert process.wait(10) == 0
    process.stdout.close()
    process.stderr.close()


def test_manual_pages_render(tmp_path):
    from pyqmail.operations import manuals
    from pyqmail.programs import registry

    pages = manuals.pages([registry.load(name) for name in registry.names()])
    assert len(pages) == len(registry.names()) + 1
    assert all(text.startswith(".TH ") and "\n.SH DESCRIPTION\n.PP\n" in text for text in pages.values())


def running(place, *options, **environ):
    """Start it; return the process and what it says once everything runs."""
    process, text = start(place, "--port", "0", *options, **environ), ""
    for line in process.stdout:
        text += line
        if line.startswith("Running."):
            return process, text
    raise AssertionError(text + process.stderr.read())


def end(process):
    process.terminate()
    assert process.wait(10) == 0
    process.stdout.close()
    process.stderr.close()


def in_a_shell(line):
    return subprocess.run(
        line, shell=True, capture_output=True, text=True, cwd="/", env={"PATH": "/usr/bin:/bin"}, timeout=60
    )


def test_its_hints_can_be_copied(place):
    """Whole paths; a second user who gets mail; from any directory, with nothing in PATH."""
    process, text = running(place)
    try:
        lines = [line.strip() for line in text.splitlines()]
        (send,) = [line for line in lines if line.startswith("printf ")]
        done = in_a_shell(send)
        assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("ok ")
        user = lines.index("Another user, ann, with a Maildir:")
        for line in lines[user + 1 : user + 3]:
            assert in_a_shell(line).stderr == ""
        assert in_a_shell(send.replace("demo@", "ann@")).returncode == 0
        until(lambda: os.listdir(f"{place}/home/ann/Maildir/new"))
        for line in lines:
            if "/pysvc " in line or "/pysvstat " in line:
                done = in_a_shell(line.removeprefix("Services").strip())
                assert (done.returncode, done.stderr) == (0, "")
    finally:
        end(process)


def test_a_message_that_lacks_fields_gets_them(place):
    process, text = running(place)
    try:
        (port,) = set(re.findall(r"--port (\d+)", text))
        known = set(os.listdir(f"{place}/home/demo/Maildir/new"))
        me = socket.gethostname()
        words = [sys.executable, f"{ROOT}/bin/pyqmail", "send", "--port", port, f"demo@{me}"]
        environ = {"PATH": os.environ["PATH"], "PYQMAIL_HOME": place}
        done = subprocess.run(words, input=b"Subject: x\n\nhello\n", capture_output=True, env=environ, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        (name,) = until(lambda: set(os.listdir(f"{place}/home/demo/Maildir/new")) - known)
        with open(f"{place}/home/demo/Maildir/new/{name}") as file:
            text = file.read()
        assert text.startswith(f"Return-Path: <demo@{me}>\n")
        for field in ("Date: [0-9]", "Message-ID: <[^<> ]+@", f"From: <demo@{me}>", f"To: <demo@{me}>", "Subject: x"):
            assert len(re.findall(f"^{field}", text, re.M)) == 1
    finally:
        end(process)


@pytest.mark.parametrize(
    "message, lacking",
    [
        (b"", "Date Message-ID From To"),
        (b"no header\n", "Date Message-ID From To"),
        (b"\nbody\nDate: x\n", "Date Message-ID From To"),
        (b"Subject: x\n\nDate: x\n", "Date Message-ID From To"),
        (b"DATE: x\nmessage-id : y\nTo: a\n\n", "From"),
        (b"Subject: a\n Date: folded\r\nFrom: z\r\n\r\nbody\r\n", "Date Message-ID To"),
        (b"Date: x\nMessage-ID: y\nFrom: z\nTo: w\n\nbody\n", ""),
        (b"Date: x\nMessage-ID: y\nFrom: z\nTo: w\n", ""),
    ],
)
def test_only_what_lacks_is_added(message, lacking):
    from pyqmail.operations.quickstart import completed

    text = completed(message, "a@b", ["c@d", "e@f"])
    rest = message.replace(b"\r\n", b"\n")
    added = text[: len(text) - len(rest)]
    assert text.endswith(rest)
    assert " ".join(re.findall(r"^([A-Za-z-]+):", added.decode(), re.M)) == lacking
    header = text.partition(b"\n\n")[0]
    assert all(re.match(rb"[!-9;-~]+[ \t]*:|[ \t]", line) for line in header.split(b"\n") if line)


def test_the_sender_is_who_we_are(place):
    from pyqmail.operations import quickstart

    os.makedirs(f"{place}/control")
    with open(f"{place}/control/me", "w") as file:
        file.write("here.example\n")
    before = os.environ.get("PYQMAIL_HOME")
    os.environ["PYQMAIL_HOME"] = place
    try:
        assert quickstart.own_address() == f"{pwd.getpwuid(os.getuid()).pw_name}@here.example"
        open(f"{place}/private", "w").close()
        assert quickstart.own_address() == "demo@here.example"
    finally:
        os.environ.pop("PYQMAIL_HOME")
        if before is not None:
            os.environ["PYQMAIL_HOME"] = before


@pytest.mark.parametrize(
    "address, client", [("127.0.0.8", "127.0.0.8"), (":0", "127.0.0.1"), ("127.0.0.9,127.0.0.1", "127.0.0.9")]
)
def test_it_listens_where_it_is_told(place, address, client):
    process, text = running(place, SMTP_ADDRESS=address)
    try:
        (port,) = set(re.findall(r"--port (\d+)", text))
        with socket.create_connection((client, int(port)), timeout=30) as sock:
            assert sock.recv(3) == b"220"
        assert f" --address {shlex.quote(address)} " in text
    finally:
        end(process)


def test_what_is_left_of_one_whose_runner_was_killed(place):
    """The line of the next one says how to stop it, and that does."""
    process, _ = running(place)
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()
    code, said = refused(place, "--port", "0")
    assert code == 100
    (line,) = re.findall(r"`(kill [0-9]+)`", said)
    assert in_a_shell(line).returncode == 0
    until(lambda: not processes_of(place))
    end(running(place)[0])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_a_home_that_is_somebody_elses(place):
    os.makedirs(place)
    os.chmod(os.path.dirname(place), 0o755)
    words = ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, f"{ROOT}/bin/pyqmail", "run"]
    environ = {"PATH": os.environ["PATH"], "PYQMAIL_HOME": place}
    done = subprocess.run(words, capture_output=True, text=True, env=environ, timeout=60)
    assert (done.returncode, done.stdout) == (111, "")
    assert done.stderr.endswith(" access denied (Permission denied); PYQMAIL_HOME=DIR names another place\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("has_venv", [False, True])
def test_a_checkout_that_is_somebody_elses(place, has_venv):
    os.makedirs(place)
    os.chmod(os.path.dirname(place), 0o755)
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(f"{ROOT}/{name}", place)
    if has_venv:
        os.mkdir(f"{place}/.venv")
    words = ["setpriv", "--reuid", "65534", "--clear-groups", "make", "-C", place, "run", "PYTHON=true"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    wanted = f"pyqmail: fatal: unable to write into {place}: make a clone of your own"
    assert wanted in done.stderr.splitlines()


def test_the_version(run):
    from pyqmail import __version__

    assert run("pyqmail", "--version") == (0, f"pyqmail {__version__}\n".encode(), b"")
