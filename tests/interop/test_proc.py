"""Where /proc has nothing but processes (systemd's ProcSubset=pid), or nothing at all: everything is served
all the same.

Only root may make such a namespace.  What stays untested: a kernel without /proc.
"""

import os
import shutil
import socket
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VIEWS = {"none": "mount -t tmpfs none /proc", "processes only": "mount -t proc -o subset=pid proc /proc"}
PATH = f"{os.path.dirname(sys.executable)}:{ROOT}/bin:{os.environ['PATH']}"


@pytest.fixture(params=VIEWS)
def inside(request):
    """inside(program, *arguments) -> the command that runs one of our programs, or any, with such a /proc."""
    prefix = ["unshare", "-mpf", "sh", "-c", f'{VIEWS[request.param]} && exec "$@"', "sh"]
    if os.getuid() or not shutil.which("unshare") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace of its own")

    def command(name, *arguments):
        start = [sys.executable, f"{ROOT}/bin/{name}"] if os.path.exists(f"{ROOT}/bin/{name}") else [name]
        return [*prefix, *start, *map(str, arguments)]

    return command


def run(command, seconds=60, **environ):
    environ = {"PATH": PATH, **environ}
    done = subprocess.run(command, capture_output=True, env=environ, timeout=seconds, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done
    return done.stdout.decode()


@pytest.mark.parametrize("given", ["C", "POSIX", "C.UTF-8", "", None])
@pytest.mark.parametrize("chain", [["pysoftlimit"], ["pyenvuidgid", "nobody", "pypgrphack"], ["pysetlock", "lock"]])
def test_a_locale_that_nobody_set_reaches_no_program(inside, chain, given, tmp_path):
    shown = ["sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", tmp_path]
    words = [sys.executable, f"{ROOT}/bin/{chain[0]}", *chain[1:], "sh", "-c", "echo ${LC_CTYPE-none}"]
    environ = {} if given is None else {"LC_CTYPE": given}
    assert run([*inside(*shown), *words], **environ) == f"{'none' if given is None else given}\n"


def test_a_message_is_delivered(inside, tmp_path):
    """pysvscan, pysupervise, pymultilog, pyqueued, pystart with all of its parts, pytcpserver and pysmtpd."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    home = tmp_path / "home"
    said = run(inside("pyqmail", "run", "--once"), PYQMAIL_HOME=str(home), SMTP_PORT=port)
    assert f"Queue     {home}/queue" in said
    assert len(list(home.glob("home/*/Maildir/new/*"))) == 1


def test_services_are_shown(inside, stage):
    stage.service("a")
    script = f"{' '.join(stage.command('pysvscan'))} & until {' '.join(stage.command('pysvwait'))} -u a; do :; done"
    show = f"{' '.join(stage.command('pysvtop'))} --once; {' '.join(stage.command('pysvstat'))} --long a"
    said = run(inside("sh", "-c", f"cd {stage.place}; exec 2>&1; {script}; {show}; pysvc -dx a"))
    assert "\na        up" in said and "1 of 1 up" in said and "Traceback" not in said
    assert "\na: up (pid " in said


def test_the_process_table_shows_what_is_said(inside):
    """Seen from here, where /proc is whole."""
    words = [*inside("pyreadproctitle"), "service", "errors:", "." * 20]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PATH": PATH}) as process:
        process.stdin.write(b"hello")
        process.stdin.flush()
        while not (title := _title(process.pid)).endswith("hello"):
            assert process.poll() is None, process
        assert title == f"service errors: {'.' * 15}hello"
        process.stdin.close()
        assert process.wait(60) == 0


def _title(pid):
    """Return the last three arguments of the last descendant of a process."""
    while children := subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True).stdout.split():
        pid = children[0].decode()
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            return " ".join(file.read().split("\0")[-4:-1])
    except OSError:
        return ""


def test_own_addresses_are_the_same(inside):
    code = "from pyqmail.system.interfaces import own_addresses; print(*sorted(own_addresses()))"
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout
    assert run([*inside("env"), "-C", ROOT, sys.executable, "-c", code]) == plain != "\n"


def test_a_survivor_is_taken_over(inside, stage):
    """With neither the boot's id nor, where nothing is shown, any sign of when it began: a second one is started."""
    stage.service("a")
    supervise, wait = " ".join(stage.command("pysupervise")), " ".join(stage.command("pysvwait"))
    script = (
        f"{supervise} a & {wait} -u a; kill -9 $!; wait; {supervise} a & {wait} -u a; {wait} -d a & pysvc -dx a; wait"
    )
    said = run(inside("sh", "-c", f"cd {stage.place}; exec 2>&1; {script}"))
    assert ("its supervisor was killed: taking it over" in said) == ("tmpfs" not in " ".join(inside("true")))
