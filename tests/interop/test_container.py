"""pysvscan as process 1 of a container: orphans, signals, services on a file system that cannot be written to.

A container is a PID namespace with a /proc of its own, made by unshare; only root may.  What stays untested: a
container without /proc, and one that is killed because the time was up.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from tests.waiting import until

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]


def _may_unshare():
    return shutil.which("unshare") and not subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode


needs_namespace = pytest.mark.skipif(not _may_unshare(), reason="PID namespaces are not for this user")

TO_FILE = "#!/bin/sh\nexec cat >> lines\n"
LAST_WORDS = f"""#!{sys.executable}
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.write(1, b"begun\\n")
signal.sigwait([signal.SIGTERM])
os.write(1, b"last words\\n")
"""
# each grandchild loses its parent at once
ORPHANS = f"""#!{sys.executable}
import os, signal
for _ in range(COUNT):
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            signal.sigtimedwait([signal.SIGUSR1], 0.001)
        os._exit(0)
    os.waitpid(pid, 0)
os.write(1, b"done\\n")
signal.sigwait([signal.SIGTERM])
"""


class Container:
    """pysvscan as process 1 of a new PID namespace, and as we see it from outside."""

    def __init__(self, stage, *arguments, setup=None, **environment):
        command = [*stage.command("pysvscan"), *arguments]
        if setup is not None:
            command = ["/bin/sh", "-ec", setup + '\nexec "$@"', "sh", *command]
        with open(stage.place / "err", "ab") as err:
            self.outer = subprocess.Popen(
                [*NAMESPACE, "--kill-child", *command],
                stdin=subprocess.DEVNULL,
                stdout=err,
                stderr=err,
                cwd=stage.place,
                env={**stage.environ(), **environment},
            )
        children = f"/proc/{self.outer.pid}/task/{self.outer.pid}/children"
        self.pid = int(until(lambda: open(children, encoding="ascii").read()))

    def tell(self, number):
        os.kill(self.pid, number)

    def children(self):
        """Return (name, state) of each child of process 1."""
        found = []
        for pid in open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii").read().split():
            try:
                name, _, rest = open(f"/proc/{pid}/stat", encoding="ascii").read().partition("(")[2].rpartition(")")
            except OSError:
                continue
            found.append((name, rest.split()[0]))
        return sorted(found)

    def close(self):
        self.outer.kill()
        self.outer.wait()


@pytest.fixture
def container(stage):
    made = []

    def make(*arguments, **how):
        made.append(Container(stage, *arguments, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


def lines(folder):
    path = folder / "log/lines"
    return path.read_text().split("\n")[:-1] if path.exists() else []


@needs_namespace
def test_ten_thousand_orphans(stage, container):
    folder = stage.service("a", ORPHANS.replace("COUNT", "10000"), log=TO_FILE)
    first = container()
    until(lambda: lines(folder) == ["done"], seconds=300)
    until(lambda: first.children() == [("pysupervise", "S")] * 2)
    assert stage.err() == b""
    first.tell(signal.SIGTERM)
    assert first.outer.wait(10) == 0


def test_a_thousand_orphans_without_being_the_first_process(stage):
    """As it adopts them, any user can have this."""
    folder = stage.service("a", ORPHANS.replace("COUNT", "1000"), log=TO_FILE)
    scanner = stage.start("pysvscan", "--stop-on-term")
    until(lambda: lines(folder) == ["done"], seconds=300)
    children = f"/proc/{scanner.pid}/task/{scanner.pid}/children"
    until(lambda: len(open(children, encoding="ascii").read().split()) == 2)
    scanner.terminate()
    assert scanner.wait(10) == 0


@needs_namespace
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPWR])
def test_told_to_stop(stage, container, number):
    folder = stage.service("a", LAST_WORDS, log=TO_FILE)
    first = container(stage.place)
    until(lambda: lines(folder) == ["begun"])
    first.tell(number)
    assert first.outer.wait(10) == 0
    assert lines(folder) == ["begun", "last words"] and stage.err() == b""


@needs_namespace
def test_what_the_kernel_does_not_tell_of_is_seen_at_a_hangup(stage, container, tmp_path):
    old = stage.service("a")
    (tmp_path / "new").mkdir()
    new = stage.service("../new/b", LAST_WORDS, log=TO_FILE)
    first = container()
    stage.up(old)
    subprocess.run(["nsenter", "-m", "-t", str(first.pid), "mount", "--bind", new, old], check=True)
    first.tell(signal.SIGHUP)
    until(lambda: lines(new) == ["begun"])
    first.tell(signal.SIGTERM)
    assert first.outer.wait(10) == 0 and lines(new) == ["begun", "last words"]


@needs_namespace
def test_the_death_of_a_daemon_that_nobody_waits_for(stage, container):
    """It was started by a service that has ended, and has its pipe open: it is ended before the log is."""
    stays = 'trap "echo gone; exit" TERM; echo here; while :; do sleep 0.1; done'
    run = f"#!/bin/sh\nsetsid sh -c '{stays}' &\nexec sleep 600\n"
    folder = stage.service("a", run, log=TO_FILE)
    first = container()
    until(lambda: lines(folder) == ["here"])
    first.tell(signal.SIGTERM)
    assert first.outer.wait(10) == 0
    assert lines(folder) == ["here", "gone"]


@needs_namespace
def test_services_that_cannot_be_written_to(stage, container, tmp_path):
    state, out = tmp_path / "state", tmp_path / "lines"
    state.mkdir()
    folder = stage.service("a", LAST_WORDS, log=f"#!/bin/sh\nexec cat >>{out}\n")
    first = container(
        str(stage.place),
        setup=f"mount --bind {stage.place} {stage.place}\nmount -o remount,ro,bind {stage.place}\ncd /",
        SUPERVISEDIR=str(state),
    )
    until(lambda: out.exists() and out.read_text() == "begun\n")
    names = [str(place)[1:].replace("/", ":") for place in (folder, folder / "log")]
    lock = f".{str(stage.place)[1:].replace('/', ':')}:svscan-lock"
    assert sorted(os.listdir(state)) == [lock, *names]
    assert sorted(os.listdir(folder)) == ["log", "run"]
    environ = {**stage.environ(), "SUPERVISEDIR": str(state)}
    assert stage.run("pysvstat", folder, env=environ).out.startswith(f"{folder}: up (pid ".encode())
    stage.run("pysvc", "-t", folder, env=environ)
    until(lambda: out.read_text() == "begun\nlast words\nbegun\n")
    first.tell(signal.SIGTERM)
    assert first.outer.wait(10) == 0
    assert out.read_text() == "begun\nlast words\n" * 2 and stage.err() == b""


@pytest.mark.skipif(os.getuid() == 0 and not shutil.which("setpriv"), reason="there is no setpriv")
def test_services_of_somebody_else(stage):
    """An ordinary user supervises services that he can only read."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # where anybody may go, unlike tmp_path
        place = pathlib.Path(name)
        place.chmod(0o755)
        for folder in ("services", "state"):
            (place / folder).mkdir()
        readable = type(stage)(place / "services")
        try:
            _supervise_as_nobody(readable, place / "state", place / "lines")
        finally:
            readable.close()
            for folder in (readable.place / "a/log", readable.place / "a", readable.place):
                folder.chmod(0o755)


def _supervise_as_nobody(stage, state, out):
    out.touch()
    folder = stage.service("a", LAST_WORDS, log=f"#!/bin/sh\nexec cat >>{out}\n")
    for place in (folder / "log", folder, stage.place):
        place.chmod(0o555)
    words = []
    if os.getuid() == 0:
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        for place in (state, out):
            os.chown(place, 65534, 65534)
    command = [*words, *stage.command("pysvscan"), "--stop-on-term", stage.place]
    environ = {**stage.environ(), "SUPERVISEDIR": str(state)}
    with subprocess.Popen(command, env=environ, cwd="/", stderr=subprocess.PIPE) as scanner:
        try:
            until(lambda: out.read_text() == "begun\n")
            scanner.terminate()
            assert scanner.communicate(timeout=10)[1] == b"" and scanner.returncode == 0
        finally:
            scanner.kill()
    assert out.read_text() == "begun\nlast words\n"
    assert sorted(os.listdir(folder)) == ["log", "run"]
