"""The original svscan and ours on the same directories: the same services, supervisors, pipes, warnings and order.

Both run a supervise that writes down how it was started and then waits.  Where they differ on purpose, both are tested
for what they do.  What stays untested: a fork and a pipe that fail, which the original tells with the words that
tests/supervise/test_scanner.py knows.
"""

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess

import pytest

from tests.waiting import until

pytestmark = [
    pytest.mark.skipif(not shutil.which("svscan"), reason="daemontools is not installed"),
    pytest.mark.skipif(not os.path.exists("/proc/self/syscall"), reason="the kernel does not tell system calls"),
]

# what it was called with, where it stands, what its descriptors are, what it inherited; then it is nobody's business
SUPERVISE = r"""#!/bin/sh
input=$(readlink /proc/$$/fd/0) output=$(readlink /proc/$$/fd/1) kept=$(readlink /proc/$$/fd/${KEPT:-99})
signals=$(sed -n 's/^Sig\(Blk\|Ign\)://p' /proc/$$/status | tr '\n\t' '  ')
printf '%s\0' "$#" "$1" "$(pwd -P)" "$input" "$output" "$kept" "$(umask)" "$MARK" \
 "$(ulimit -n)" "$signals" >"$RECORD.$$"
mv "$RECORD.$$" "$RECORD/$$"
exec sleep 600 <&- >&-
"""
SCANNERS = {"svscan": (), "pysvscan": ("--supervise", "supervise")}
SLEEPING = {"35", "230", "232", "281"}  # nanosleep, clock_nanosleep, epoll_wait, epoll_pwait


class Watched:
    """One scanner in a directory of its own, and how the supervisors that it started were started."""

    def __init__(self, stage, name, fill, arguments=None, prefix=(), **how):
        self._stage, self.name = stage, name
        self.base = stage.place / name
        self.place, self.record = self.base / "services", self.base / "record"
        for folder in (self.place, self.record, self.base / "bin"):
            folder.mkdir(parents=True)
        supervise = self.base / "bin/supervise"
        supervise.write_text(SUPERVISE)
        supervise.chmod(0o755)
        fill(self.place)
        self._err = self.base / "err"
        start = [shutil.which(name)] if name == "svscan" else stage.command(name)
        command = [*prefix, *start, *SCANNERS[name], *([self.place] if arguments is None else arguments)]
        environ = {
            **stage.environ(),
            "PATH": f"{self.base}/bin:{os.environ['PATH']}",
            "RECORD": str(self.record),
            "MARK": "a mark\n",
            **{key: value.replace("BASE", str(self.base)) for key, value in how.pop("environ", {}).items()},
        }
        with open(self._err, "wb") as err:
            how = {"stdin": subprocess.DEVNULL, "stdout": err, "cwd": self.place, **how}
            self.process = subprocess.Popen(command, stderr=err, env=environ, **how)

    def err(self):
        return self._err.read_bytes().replace(os.fsencode(self.base), b"BASE")

    def rest(self):
        """Wait until a pass is over, and everybody whom it started is where he stays."""
        until(lambda: self.process.poll() is not None or (self._is_waiting() and self._all_sleep()))

    def _is_waiting(self):
        with open(f"/proc/{self.process.pid}/syscall", encoding="ascii") as file:
            return file.read().split()[0] in SLEEPING

    def _all_sleep(self):
        return all(_is_at_rest(pid) for pid in self.children())

    def children(self):
        if self.process.poll() is not None:
            return []
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            return file.read().split()

    def supervisors(self):
        """Return pid -> what it wrote down, as a list of bytes."""
        return {path.name: path.read_bytes().split(b"\0")[:-1] for path in self.record.iterdir()}

    def of(self, argument, folder=None):
        """Return the pid of the one supervisor alive that was called with an argument, in a folder if that is given."""
        alive = self.children()
        found = [
            pid
            for pid, words in self.supervisors().items()
            if pid in alive and words[1] == argument and folder in (None, os.path.basename(words[2]))
        ]
        return found[0] if len(found) == 1 else None

    def picture(self):
        """Return all starts, without what cannot be the same twice: a pipe is named after those who have it."""
        starts = list(self.supervisors().values())
        holders = {}
        for words in starts:
            for number in (3, 4):
                if words[number].startswith(b"pipe:"):
                    holders.setdefault(words[number], set()).add(words[1] + b" in " + os.path.basename(words[2]))
        shown = []
        for words in starts:
            words = [b" and ".join(sorted(holders[word])) if word in holders else word for word in words]
            shown.append([word.replace(os.fsencode(self.base), b"BASE") for word in words])
        return sorted(shown)

    def close(self):
        children = self.children()
        self.process.kill()
        self.process.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _is_at_rest(pid):
    """Return whether a supervise waits, or has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
    except OSError:
        return True
    return name == "sleep" or rest.split()[0] == "Z"


@pytest.fixture
def both(stage):
    """both(fill, ...) -> the original and ours, started on directories that fill(place) has filled."""
    made = []

    def make(fill, **how):
        for name in SCANNERS:
            made.append(Watched(stage, name, fill, **how))
        for one in made:
            one.rest()
        return made

    yield make
    for one in made:
        one.close()


def folders(*names):
    def fill(place):
        for name in names:
            os.makedirs(os.path.join(os.fsencode(place), os.fsencode(name)))

    return fill


def links(**targets):
    def fill(place):
        for name, target in targets.items():
            (place / name).symlink_to(target)

    return fill


def everything_but_directories(place):
    (place / "file").touch()
    os.mkfifo(place / "fifo")
    with socket.socket(socket.AF_UNIX) as sock, Inside(place):
        sock.bind("socket")
    (place / "device").symlink_to("/dev/null")


class Inside:
    """The name of a socket is short: bind it from inside."""

    def __init__(self, place):
        self._place = place

    def __enter__(self):
        self._before = os.getcwd()
        os.chdir(self._place)

    def __exit__(self, *_):
        os.chdir(self._before)


def files(*names):
    def fill(place):
        for name in names:
            (place / name).touch()

    return fill


def together(*fills):
    def fill(place):
        for one in fills:
            one(place)

    return fill


FIRST_PASSES = {
    # what is there, what both say
    "nothing": (folders(), rb""),
    "services": (folders("a", "b/log", "c/log", "d"), rb""),
    "hidden": (folders(".a", "..b", ".c/log", "a"), rb""),
    "no directories": (everything_but_directories, rb""),
    "a log that is a file": (together(folders("a", "b"), files("a/log")), rb""),
    "a log that leads nowhere": (together(folders("a"), links(**{"a/log": "nowhere"})), rb""),
    "a log elsewhere": (together(folders("a", ".b"), links(**{"a/log": "../.b"})), rb""),
    "a log in a circle": (
        together(folders("a", "b"), links(**{"a/log": "log"})),
        rb"svscan: warning: unable to stat a/log: symbolic link loop\n",
    ),
    "links": (together(folders(".a/log", ".b"), links(a=".a", b=".b")), rb""),
    "links that lead nowhere": (
        links(a="nowhere", b="b", c="/no/where"),
        rb"(svscan: warning: unable to stat [abc]: (file does not exist|symbolic link loop)\n){3}",
    ),
    "two names": (together(folders(".a/log"), links(a=".a", b=".a", c="../services/.a")), rb""),
    "itself": (links(a="."), rb""),
    "long names": (folders("n" * 255, "n" * 254 + "/log", "m" * 255 + "/log"), rb""),
    "odd names": (folders(" ", "a b", "a\nb", b"\xff\xfe", "-x", "--", "*", "$(echo)", "log/log"), rb""),
    "many": (folders(*(f"{number}/log" for number in range(40))), rb""),
    "many troubles": (
        links(**{f"x{number * 7919 % 1000}": "nowhere" for number in range(30)}),
        rb"(svscan: warning: unable to stat x\d+: file does not exist\n){30}",
    ),
}


@pytest.mark.parametrize("case", FIRST_PASSES)
def test_the_first_pass(both, case):
    fill, said = FIRST_PASSES[case]
    its, ours = both(fill)
    assert re.fullmatch(said, its.err())
    assert ours.err() == its.err()  # in the same order, which is that of the directory
    assert ours.picture() == its.picture()


POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]  # then even root may not pass by modes


def _closed(name, mode):
    def fill(place):
        folders("a/log", "b")(place)
        (place / name).chmod(mode)

    return fill


NOT_ALLOWED = {
    "a service": (_closed("a", 0o600), b"svscan: warning: unable to stat a/log: access denied\n"),
    "a log": (_closed("a/log", 0o000), b""),
    "a directory that cannot be read": (
        _closed(".", 0o300),
        b"svscan: warning: unable to read directory: access denied\n",
    ),
}


@pytest.mark.skipif(os.getuid() == 0 and not shutil.which("setpriv"), reason="there is no setpriv")
@pytest.mark.parametrize("case", NOT_ALLOWED)
def test_what_is_not_allowed(both, case):
    fill, said = NOT_ALLOWED[case]
    pair = both(fill, prefix=POWERLESS if os.getuid() == 0 else ())
    its, ours = pair
    for one in pair:
        one.place.chmod(0o755)
    assert ours.err() == its.err() == said
    assert ours.picture() == its.picture()


ARGUMENTS = [
    [],
    ["."],
    [".", "more", "words"],
    ["../services"],
    ["missing"],
    ["file"],
    [""],
    ["-x"],
    ["n" * 256],
    ["a", "b"],
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_arguments(both, arguments):
    its, ours = both(together(folders("a/b", "b"), files("file")), arguments=arguments)
    assert (ours.process.poll(), ours.err()) == (its.process.poll(), its.err())
    assert ours.picture() == its.picture()


@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_supervise_that_cannot_be_run(both, stage, mode):
    def fill(place):
        folders("a", "b/log")(place)
        path = place.parent / "bin/supervise"
        path.unlink() if mode is None else path.chmod(mode)

    its, ours = both(fill, environ={"PATH": "BASE/bin:/nowhere"})
    why = b"file does not exist" if mode is None else b"access denied"
    lines = {b"svscan: warning: unable to start supervise %b: %b" % (name, why) for name in (b"a", b"b", b"b/log")}
    for one in (its, ours):
        until(lambda one=one: set(one.err().splitlines()) == lines)


def test_what_is_inherited(both):
    """Environment, descriptors, umask, limit of open files, signals that are ignored or blocked."""
    read, write = os.pipe()

    def prepare():
        os.umask(0o027)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGALRM])

    its, ours = both(folders("a", "b/log"), preexec_fn=prepare, pass_fds=[read], environ={"KEPT": str(read)})
    for fd in (read, write):
        os.close(fd)
    assert ours.picture() == its.picture()
    assert its.picture()[0][5].startswith(b"pipe:")
    assert its.picture()[0][6:9] == [b"0027", b"a mark\n", b"200"]


def test_later_passes(both, stage):
    """The original needs five seconds for each; ours does all at once."""
    names = ["killed/log", "renamed", "gone", "plain", "copied", "log", "twice"]
    pair = both(together(folders(*names), links(trouble="nowhere")))
    before = [{name: one.of(name) for name in (b"killed", b"renamed", b"gone", b"plain", b"copied")} for one in pair]
    for one, pids in zip(pair, before, strict=True):
        place = one.place
        (place / "renamed").rename(place / "new name")
        (place / "gone").rename(place / ".gone")
        (place / "plain/log").mkdir()
        (place / "copied").rename(place / ".copied")
        (place / "copied").mkdir()
        (place / ".hidden").mkdir()
        (place / ".hidden").rename(place / "added")
        (place / "again").symlink_to("twice")
        for name in (b"killed", b"renamed", b"gone"):
            os.kill(int(pids[name]), signal.SIGKILL)
        os.kill(int(one.of(b"log", b"killed")), signal.SIGKILL)
    for one, pids in zip(pair, before, strict=True):
        until(lambda one=one: one.of(b"new name") and one.of(b"added") and one.of(b"killed"))
        until(lambda one=one, pids=pids: one.of(b"log", b"killed"))
        until(lambda one=one, pids=pids: len(_called(one, b"copied")) == 2)
        one.rest()
        (one.place / ".gone/log").mkdir()
        (one.place / ".gone").rename(one.place / "gone")  # free meanwhile: a new one, with a log
    for one in pair:
        until(lambda one=one: one.of(b"log", b"gone") and one.of(b"gone"))
        until(lambda one=one: one.err().count(b"unable to stat trouble: file does not exist\n") >= 2)
        one.rest()
    its, ours = pair
    assert set(ours.err().splitlines()) == set(its.err().splitlines())
    assert ours.picture() == its.picture()
    pipes = [one.supervisors()[one.of(b"killed")][4] for one in pair]
    for one, pipe in zip(pair, pipes, strict=True):
        held = {words[4] for words in one.supervisors().values() if words[1] == b"killed"}
        assert held == {pipe}  # the same pipe as before
        assert one.supervisors()[one.of(b"log", b"killed")][3] == pipe
        assert len(_called(one, b"plain")) == 1 and one.of(b"log", b"plain") is None


def _called(one, argument):
    return [words for words in one.supervisors().values() if words[1] == argument]


# different on purpose


def test_different_two_dashes(stage):
    """Where there are long options, there must be a way to give a directory of such a name."""
    assert stage.run("svscan", "--", "missing").err == b"svscan: fatal: unable to chdir to --: file does not exist\n"
    for words in (["--", "missing"], ["missing"]):
        line = b"svscan: fatal: unable to chdir to missing: file does not exist\n"
        assert stage.run("pysvscan", *words) == (111, b"", line)
    assert stage.run("pysvscan", "--", "--").err == b"svscan: fatal: unable to chdir to --: file does not exist\n"


def test_different_more_than_a_thousand(stage):
    """The original stops at a thousand, and says so every five seconds."""
    for name, count in (("svscan", 1000), ("pysvscan", 1010)):
        base = stage.place / name
        (base / "bin").mkdir(parents=True)
        (base / "bin/supervise").write_text("#!/bin/sh\necho $1 >>$RECORD\nexec sleep 600\n")
        (base / "bin/supervise").chmod(0o755)
        folders(*(f"services/{number}" for number in range(1010)))(base)
        environ = {"PATH": f"{base}/bin:{stage.environ()['PATH']}", "RECORD": str(base / "record")}
        begun = len(stage.err())
        scanner = stage.start(name, *SCANNERS[name], base / "services", env={**stage.environ(), **environ})
        until(lambda base=base: (base / "record").exists())
        until(lambda base=base, count=count: len((base / "record").read_text().split()) == count)
        said = stage.err()[begun:]
        assert said.count(b": running too many services\n") == 1010 - count
        scanner.kill()
        for pid in stage.everyone():
            os.kill(pid, signal.SIGKILL)


def test_different_the_original_stays_in_a_directory_that_was_replaced(both, stage):
    pair = both(folders("a"))
    for one in pair:
        one.place.rename(one.base / "old")
        (one.base / "next/b").mkdir(parents=True)
        (one.base / "old/c").mkdir()
        (one.base / "next").rename(one.place)
    its, ours = pair
    until(lambda: ours.of(b"b"))
    until(lambda: its.of(b"c"))
    assert its.of(b"b") is None and ours.of(b"c") is None
    assert its.of(b"a") and ours.of(b"a")
