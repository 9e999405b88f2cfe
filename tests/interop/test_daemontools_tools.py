"""The original small tools of daemontools beside ours: what they say, exit codes, and the state the program finds.

Ours are started through links with the original's names, so that even the name in a getopt line must be the same.
What stays untested: getrlimit and setrlimit failing, and fork and pipe failing.
"""

import fcntl
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tests.waiting import until

TOOLS = ("fghack", "pgrphack", "envuidgid", "setuidgid", "envdir", "softlimit", "setlock", "readproctitle")
pytestmark = pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason="daemontools is not installed")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = "/usr/local/bin:/usr/bin:/bin"
NOBODY = pwd.getpwnam("nobody")
OTHER = next((one.pw_name for one in pwd.getpwall() if one.pw_uid not in (0, NOBODY.pw_uid)), "nobody")
ENVIRON = {"Z": "2", "PATH": PATH, "UID": "5", "HOME": "/", "GONE": "1", "E": "", "LC_CTYPE": "C", "GID": "6"}


class Desk:
    """A place to run both: run(original=True or False, words, ...) -> (code, out, err), pids and inodes as N."""

    def __init__(self, place):
        self.place, self.names = place, place / "names"
        self.names.mkdir()
        for name in TOOLS:
            (self.names / name).symlink_to(f"{ROOT}/bin/py{name}")
        for name, content in (("GONE", b""), ("EMPTY", b"\n"), ("X", b" a\0b \t\nc"), ("PATH", b"/nowhere")):
            (place / "env").mkdir(exist_ok=True)
            (place / f"env/{name}").write_bytes(content)
        for name, mode in (("plain", 0o644), ("no-interpreter", 0o755)):
            (place / name).write_text("true\n")
            (place / name).chmod(mode)
        (place / "loop").symlink_to("loop")
        (place / "bad-script").write_text("#!/nowhere/sh\n")
        (place / "bad-script").chmod(0o755)

    def words(self, is_original, words):
        """Return how to start the tool words[0], and behind it every tool marked with @, as C or as ours."""
        tools = [word.removeprefix("@") if is_original else word.replace("@", f"{self.names}/") for word in words[1:]]
        start = [shutil.which(words[0])] if is_original else [sys.executable, f"{self.names}/{words[0]}"]
        return [*start, *tools]

    def run(self, is_original, words, environ=ENVIRON, **how):
        (self.place / "lock").unlink(missing_ok=True)
        done = subprocess.run(
            self.words(is_original, words), capture_output=True, cwd=self.place, env=environ, timeout=60, **how
        )
        out = re.sub(rb"(pipe:\[|/proc/)\d+", rb"\1N", done.stdout)
        return done.returncode, out, done.stderr.replace(os.fsencode(f"{self.names}/"), b"")

    def alike(self, words, environ=ENVIRON, **how):
        """Run both; they must have done the same, which is returned."""
        ours, its = self.run(False, words, environ, **how), self.run(True, words, environ, **how)
        assert ours == its
        return its


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path.resolve())


# the tools that go on as a program, with what they need before it
CHAIN = {
    "fghack": [],
    "pgrphack": [],
    "envuidgid": ["nobody"],
    "setuidgid": ["nobody"],
    "envdir": ["env"],
    "softlimit": ["-o", "60", "-c0", "-s=", "-m400000000"],
    "setlock": ["lock"],
}
chain = pytest.mark.parametrize("tool", CHAIN)

PROBES = {
    "environment": ["cat", "/proc/self/environ"],
    "limits": ["cat", "/proc/self/limits"],
    "descriptors": ["find", "/proc/self/fd", "-type", "l", "-printf", "%f %l\n"],
    "flags": ["sh", "-c", "for fd in 0 1 2 7; do grep flags /proc/self/fdinfo/$fd; done"],
    "signals": ["grep", "-E", "^(Sig[BI]|Shd|Umask|Uid|Gid|Groups|NoNew|Seccomp:|Cap)", "/proc/self/status"],
    "arguments": ["cat", "/proc/self/cmdline", "/dev/null", ""],
    "place": ["pwd"],
    "session": ["sh", "-c", "read -r _ _ _ _ group session _ </proc/$$/stat; echo $((group==$$)) $((session==$$))"],
    "exit code": ["sh", "-c", "echo out; echo err >&2; exit 9"],
    "killed": ["sh", "-c", "kill -KILL $$"],
    "input": ["wc", "-c"],
}


@chain
@pytest.mark.parametrize("probe", PROBES)
def test_the_program_finds_the_same(desk, tool, probe):
    desk.alike([tool, *CHAIN[tool], *PROBES[probe]])


LOCALES = [{}, {"LC_ALL": "C"}, {"LANG": "C"}, {"LC_CTYPE": "POSIX"}, {"LC_ALL": "C.UTF-8"}, {"LC_ALL": "none"}]


@chain
@pytest.mark.parametrize("locale", LOCALES)
def test_bytes_in_any_locale(desk, tool, locale):
    """Arguments and variables are bytes, whatever the interpreter thinks of the locale."""
    environ = {"PATH": PATH, "\udcff": "\udcfe\xe4\u20ac", **locale}
    words = ["sh", "-c", "/bin/cat /proc/$$/cmdline /proc/$$/environ", "\xe4", "\udcc3", "\u20ac\n\t"]
    code, out, _ = desk.alike([tool, *CHAIN[tool], *words], environ)
    if code == 0:  # setuidgid needs root
        assert b"\0\xc3\xa4\0\xc3\0\xe2\x82\xac\n\t\0" in out
        assert b"\xff=\xfe\xc3\xa4\xe2\x82\xac\0" in out


def ignore():
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, 40):
        signal.signal(number, signal.SIG_IGN)


def block():
    signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR2, signal.SIGINT, 41))


def open_more():
    os.dup2(os.open("/dev/null", os.O_WRONLY), 7)
    os.dup2(7, 12)
    os.umask(0o137)


def close_first():
    os.close(0)


STATES = {"ignored": ignore, "blocked": block, "descriptors": open_more, "without 0": close_first}


@chain
@pytest.mark.parametrize("probe", ["signals", "descriptors", "exit code"])
@pytest.mark.parametrize("state", STATES)
def test_the_state_goes_through(desk, tool, state, probe):
    """Trap 15."""
    desk.alike([tool, *CHAIN[tool], *PROBES[probe]], preexec_fn=STATES[state])


@chain
@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGXFSZ])
def test_what_every_interpreter_ignores_is_not_ignored_by_the_program(desk, tool, number):
    """Whether they were ignored before cannot be known: the only state that does not go through."""
    words = [tool, *CHAIN[tool], *PROBES["signals"]]
    ignored = desk.run(False, words, restore_signals=False, preexec_fn=lambda: signal.signal(number, signal.SIG_IGN))
    assert ignored == desk.run(True, words)


PROGRAMS = [
    "no-such-program", "./no-such-program", "./plain", "./no-interpreter", "./bad-script", "./loop", ".", "/", "",
    "plain/x", "n" * 300, "-x", "--", "-", "env", "plain", "no-interpreter",
]  # fmt: skip


@chain
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_cannot_be_run(desk, tool, program):
    """Traps 16 and 38: no shell for a file without #!, and the PATH from before."""
    desk.alike([tool, *CHAIN[tool], program], {**ENVIRON, "PATH": f".:{desk.place}/env:{PATH}"})


@chain
@pytest.mark.parametrize("path", [None, "", ":", "/nowhere", f"{PATH}:", "loop:/usr/bin", "plain:/usr/bin"])
def test_where_the_program_is_searched(desk, tool, path):
    environ = {name: value for name, value in ENVIRON.items() if name != "PATH"}
    desk.alike([tool, *CHAIN[tool], "printf", "%s|", "a b", ""], environ if path is None else {**environ, "PATH": path})


WRONG = {
    "fghack": [[]],
    "pgrphack": [[]],
    "envuidgid": [[], ["nobody"], ["65534", "env"], ["-x", "env"], ["--", "env"], ["", "env"], ["\xff", "env"]],
    "setuidgid": [[], ["nobody"], ["65534", "id"], ["-x", "id"], ["--", "id"], ["", "id"], ["none", "id"]],
    "envdir": [
        [], ["env"], ["-x"], ["--"], ["-x", "env"], ["none", "env"], ["plain", "env"], ["", "env"], ["loop", "env"],
        ["names", "env"], ["--help-me", "env"],
    ],
    "softlimit": [
        [], ["-m"], ["-z", "env"], ["-m1x", "env"], ["-m", "-1", "env"], ["-m", "1", "-q"], ["-=", "env"],
        ["-a", "=5", "env"], ["-m5"], ["--", "-m"], ["-o=", "-", "env"], ["-o 5", "env"],
    ],
    "setlock": [
        [], ["lock"], ["-n"], ["-q", "lock", "env"], ["-nq", "lock", "env"], ["--", "lock"], ["-", "env"],
        ["none/lock", "env"], ["-x", "none/lock", "env"], ["-Xx", "none/lock", "env"], ["-xX", "none/lock", "env"],
        ["env", "env"], ["loop", "env"], ["", "env"], ["-x", "lock", "none"], ["-n-", "lock", "env"],
    ],
    "readproctitle": [[], [""], ["abcd"], ["abcdefgh", "abcd"], ["--"], ["-x"]],
}  # fmt: skip


@pytest.mark.parametrize("tool, words", [(tool, words) for tool, lines in WRONG.items() for words in lines])
def test_a_wrong_line(desk, tool, words):
    """Trap 37 among others: envdir's usage error is 111."""
    desk.alike([tool, *words])


def test_the_codes_of_a_wrong_line(desk):
    codes = {tool: desk.alike([tool])[0] for tool in TOOLS}
    assert codes == {tool: 111 if tool == "envdir" else 100 for tool in TOOLS}


@pytest.mark.parametrize("pattern", [0b00000, 0b10101, 0b01010, 0b11111])
def test_a_chain_of_both(desk, pattern):
    """Each link C or ours: the program at the end finds the same."""
    links = [
        ["setlock", "-n", "lock"],
        ["envdir", "env"],
        ["softlimit", "-o77"],
        ["envuidgid", "nobody"],
        ["fghack"],
        ["pgrphack"],
    ]
    probe = "cat /proc/self/environ; ulimit -n; readlink /proc/self/fd/3; ls /proc/self/fd | wc -l"
    (desk.place / "env/PATH").unlink()  # a starter is executed through it
    environ = {**ENVIRON, "PATH": f"{os.path.dirname(sys.executable)}:{PATH}"}
    results = []
    for ours in (pattern, 0):
        (desk.place / "lock").unlink(missing_ok=True)
        words = []
        for at, (tool, *rest) in enumerate(links):
            words += [f"{desk.names}/{tool}" if ours >> at & 1 else shutil.which(tool), *rest]
        done = subprocess.run(
            [*words, "/bin/sh", "-c", probe], capture_output=True, cwd=desk.place, env=environ, timeout=60
        )
        results.append((done.returncode, done.stdout, done.stderr))
    assert results[0] == results[1]
    assert results[0][0] == 0


# envdir


FILES = [
    # content             the variable V, if it was `old` before
    (b"",                 None),
    (b"\n",               b""),
    (b"v",                b"v"),
    (b" v \t \nrest",     b" v"),
    (b" \t",              b""),
    (b"a\0b",             b"a\nb"),
    (b"a \0",             b"a \n"),
    (b"a\0 ",             b"a\n"),
    (b"cr\r\n",           b"cr\r"),
    (b"\0",               b"\n"),
    (b"=x=\n",            b"=x="),
    (b"v" * 5000,         b"v" * 5000),
    (b"\xff\xfe",         b"\xff\xfe"),
]  # fmt: skip


@pytest.mark.parametrize("content, value", FILES)
def test_envdir_reads_a_file(desk, content, value):
    """Trap 36: a file with only LF sets empty, an empty file unsets."""
    (desk.place / "one").mkdir()
    (desk.place / "one/V").write_bytes(content)
    code, out, err = desk.alike(["envdir", "one", "cat", "/proc/self/environ"], {**ENVIRON, "V": "old"})
    found = [line[2:] for line in out.split(b"\0") if line.startswith(b"V=")]
    assert (code, found, err) == (0, [] if value is None else [value], b"")


def test_envdir_in_the_order_of_the_directory(desk):
    """Trap 21 for variables: readdir's order, which the environment's keeps."""
    (desk.place / "many").mkdir()
    for at in range(40):
        (desk.place / f"many/V{at * 7919 % 100}").write_text("" if at % 5 == 0 else f"{at}\n")
    environ = {**ENVIRON, **{f"V{at}": "old" for at in range(0, 100, 3)}}
    assert desk.alike(["envdir", "many", "cat", "/proc/self/environ"], environ)[0] == 0


def test_envdir_and_strange_entries(desk):
    (desk.place / "odd").mkdir()
    for name, content in (("A=B", b"c"), ("C=D", b""), (".hidden", b"x"), ("a b", b"c"), ("\udcff", b"c")):
        (desk.place / "odd" / name).write_bytes(content)
    os.mkfifo(desk.place / "odd/FIFO")
    assert desk.alike(["envdir", "odd", "cat", "/proc/self/environ"], {**ENVIRON, "FIFO": "x"})[0] == 0
    (desk.place / "odd/sub").mkdir()
    said = b"envdir: fatal: unable to read odd/sub: is a directory\n"
    assert desk.alike(["envdir", "odd", "env"]) == (111, b"", said)


# setuidgid, envuidgid


def test_envuidgid_needs_no_rights_and_sets_gid_then_uid(desk):
    code, out, _ = desk.alike(["envuidgid", "nobody", "cat", "/proc/self/environ"], {"A": "b", "PATH": PATH})
    assert (code, out) == (0, f"A=b\0PATH={PATH}\0GID={NOBODY.pw_gid}\0UID={NOBODY.pw_uid}\0".encode())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change ids")
@pytest.mark.parametrize("account", ["nobody", OTHER, "root"])
def test_setuidgid_leaves_one_group(desk, account):
    """Trap 39."""
    words = ["setuidgid", account, "grep", "^Groups", "/proc/self/status"]
    code, out, _ = desk.alike(words, extra_groups=[4, 24])
    assert (code, len(out.split())) == (0, 2)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change ids")
def test_setuidgid_searches_the_program_as_the_account(desk):
    (desk.place / "private").mkdir(mode=0o700)
    (desk.place / "private/true").symlink_to("/bin/true")
    said = b"setuidgid: fatal: unable to run ./private/true: access denied\n"
    assert desk.alike(["setuidgid", "nobody", "./private/true"]) == (111, b"", said)
    assert desk.alike(["setuidgid", "nobody", "true"], {**ENVIRON, "PATH": f"private:{PATH}"}) == (0, b"", b"")


# softlimit


LIMITS = [
    ["-a", "50000000"], ["-c", "1"], ["-d", "9000000"], ["-f", "2"], ["-l", "3"], ["-m", "90000000"], ["-o", "9"],
    ["-p", "9999"], ["-r", "5"], ["-s", "900000"], ["-t", "6"], ["-m", "90000000", "-s", "="], ["-s=", "-m90000000"],
    ["-m=", "-o="], ["-o", "20", "-o=", "-o30"], ["-o99999999999"], ["-l", ""], ["-f18446744073709551617"],
    ["-f9223372036854775807"], ["-f9223372036854775808"], ["-r000000000000000000000000017"], ["-c5", "--"],
]  # fmt: skip


@pytest.mark.parametrize("words", LIMITS, ids=" ".join)
def test_softlimit_sets_the_same(desk, words):
    assert desk.alike(["softlimit", *words, "cat", "/proc/self/limits"])[0] == 0


@pytest.mark.parametrize("value", [0, 1000, 100000, 1000000, 2000000, 3000000])
@pytest.mark.parametrize("program", ["true", "no-such-program"])
def test_softlimit_too_small_for_anything(desk, value, program):
    """Trap 40: execve itself may kill the process then."""
    desk.alike(["softlimit", f"-m{value}", program])


@pytest.mark.parametrize(
    "words, code",
    [
        (["-t1", "sh", "-c", "while :; do :; done"], -signal.SIGXCPU),
        (["-f1", "sh", "-c", "exec dd if=/dev/zero of=big bs=10 count=1 2>/dev/null"], -signal.SIGXFSZ),
    ],
)
def test_softlimit_kills_by_signal(desk, words, code):
    """Trap 40."""
    assert desk.alike(["softlimit", *words])[0] == code


# setlock


def is_locked(path):
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.mark.parametrize("first", [True, False])
def test_setlock_holds_it_against_the_other(desk, first):
    """Traps 12, 13 and 41: flock, and a child in the background keeps it."""
    words = desk.words(first, ["setlock", "lock", "sh", "-c", "cat <&4 4<&- & exec 4<&-; echo started"])
    read_end, write_end = os.pipe()

    def give():
        os.dup2(read_end, 4)

    done = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=desk.place, preexec_fn=give, close_fds=False)
    os.close(read_end)
    assert done.stdout.readline() == b"started\n"
    assert done.wait(30) == 0
    path = desk.place / "lock"
    assert is_locked(path)
    for second in (True, False):
        for option, result in (
            ("-n", (111, b"", b"setlock: fatal: unable to lock lock: temporary failure\n")),
            ("-nx", (0, b"", b"")),
        ):
            told = subprocess.run(
                desk.words(second, ["setlock", option, "lock", "env"]), capture_output=True, cwd=desk.place, timeout=60
            )
            assert (told.returncode, told.stdout, told.stderr) == result
    waiting = subprocess.Popen(
        desk.words(not first, ["setlock", "lock", "echo", "mine"]), stdout=subprocess.PIPE, cwd=desk.place
    )
    os.close(write_end)  # the child in the background reads to its end
    assert waiting.communicate(timeout=30)[0] == b"mine\n"
    done.stdout.close()


def test_setlock_never_changes_the_file(desk):
    results = []
    for is_original in (False, True):
        (desk.place / "kept").write_bytes(b"content")
        result = desk.run(is_original, ["setlock", "kept", "stat", "-c", "%s %a", "kept"])
        assert desk.run(is_original, ["setlock", "lock", "stat", "-c", "%s %a", "lock"])[1] == b"0 600\n"
        results.append((result, (desk.place / "kept").read_bytes()))
    assert results[0] == results[1]


# fghack, pgrphack


def test_fghack_gives_31_descriptors(desk):
    _, out, _ = desk.alike(["fghack", *PROBES["descriptors"]])
    assert out.count(b"pipe:[N]") == 31 + 2  # and 1 and 2


@pytest.mark.parametrize("is_original", [True, False])
def test_fghack_waits_for_what_was_left_behind(desk, is_original):
    """The program ends at once with 5; its child holds the pipe until its input ends."""
    words = desk.words(is_original, ["fghack", "sh", "-c", "cat <&3 >/dev/null 2>&1 & echo left; exit 5"])
    with subprocess.Popen(
        ["sh", "-c", 'exec 3<&0; exec "$@"', "sh", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=desk.place,
        bufsize=0,
    ) as process:
        assert process.stdout.readline() == b"left\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        process.stdin.close()
        assert process.wait(30) == 5


@pytest.mark.parametrize("limit", [6, 20, 33, 34])
def test_fghack_with_few_descriptors(desk, limit):
    """As many copies as there is room for."""
    desk.alike(["softlimit", f"-o{limit}", "@fghack", "sh", "-c", "echo /proc/self/fd/*"])


def test_fghack_tells_of_a_crash(desk):
    said = b"fghack: fatal: child crashed\n"
    assert desk.alike(["fghack", "sh", "-c", "kill -TERM $$"]) == (111, b"", said)


def test_fghack_with_children_ignored(desk):
    """Nobody can be waited for then."""
    desk.alike(["fghack", "true"], preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))


# readproctitle


def shown(process, last):
    """Return what the process table has as the last argument."""
    with open(f"/proc/{process.pid}/cmdline", "rb") as file:
        return file.read()[-last - 1 : -1]


FEEDS = [b"a", b"bc", b"\0", b"d\0e", b"one\ntwo\n", b"\xff\xfe", b"x" * 100, b"last " * 2000 + b"end"]


@pytest.mark.parametrize("last", ["." * 20, "abcde", "sixsix", "." * 400])
def test_readproctitle_shows_the_same(desk, last):
    """Trap 42: argv memory is really changed; the first three dots never."""
    both = [
        subprocess.Popen(desk.words(it, ["readproctitle", "service errors:", last]), stdin=subprocess.PIPE, bufsize=0)
        for it in (True, False)
    ]
    try:
        text = b"." * len(last)
        for feed in (b"", *FEEDS):
            text = b"..." + (text[3:] + feed.replace(b"\0", b""))[-(len(last) - 3) :]
            for process in both:
                process.stdin.write(feed)
                until(lambda process=process, text=text: shown(process, len(last)) == text)
        lines = [
            subprocess.run(["ps", "-wwo", "args=", str(process.pid)], capture_output=True).stdout for process in both
        ]
        ends = [line.partition(b" service errors: ...")[2] for line in lines]
        assert ends[0] == ends[1] != b""
        for process in both:
            process.stdin.close()
            assert process.wait(30) == 0
    finally:
        for process in both:
            process.kill()
            process.wait()


def test_readproctitle_cannot_read(desk):
    write_only = os.open("/dev/null", os.O_WRONLY)
    assert desk.alike(["readproctitle", "abcdef"], stdin=write_only) == (111, b"", b"")
    os.close(write_only)
    assert desk.alike(["readproctitle", "abcdef"], preexec_fn=close_first) == (111, b"", b"")
