"""pylocal as a program: real files, real children, real exit codes.  Untested: NFS, ESTALE, a full process table."""

import collections
import os
import pathlib
import re
import subprocess
import sys

import pytest

from pyqmail.mail.local.delivery import MAX_INSTRUCTIONS_BYTES

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MESSAGE = b"Subject: hello\n\nFrom here\nlast line"
Result = collections.namedtuple("Result", "code out err")


@pytest.fixture
def user(tmp_path):
    """A home directory with a Maildir; user.deliver(...) runs pylocal there."""
    return User(tmp_path)


class User:
    def __init__(self, tmp_path):
        self.home, self.message, self.qmail = tmp_path / "user", tmp_path / "message", tmp_path / "qmail"
        self.qmail.mkdir()
        for folder in ("tmp", "new", "cur"):
            (self.home / "Maildir" / folder).mkdir(parents=True)
        os.chmod(self.home, 0o755)

    def write(self, name, text, mode=0o600):
        path = self.home / name
        path.write_bytes(text)
        os.chmod(path, mode)

    def deliver(
        self,
        local="joe",
        dash="",
        ext="",
        sender="s@x.example",
        default="./Mailbox",
        message=MESSAGE,
        options=(),
        env=None,
        **more,
    ):
        self.message.write_bytes(message)
        words = [*options, "--", "joe", str(self.home), local, dash, ext, "sub.host.example", sender, default]
        with open(self.message, "rb") as stdin:
            done = subprocess.run(
                [sys.executable, f"{ROOT}/bin/pylocal", *words],
                stdin=more.pop("stdin", stdin),
                capture_output=True,
                env={"PATH": "/usr/bin:/bin", "PYQMAIL_HOME": str(self.qmail), **(env or {})},
                timeout=60,
                **more,
            )
        return Result(done.returncode, done.stdout, done.stderr)

    def mails(self):
        return [(self.home / "Maildir/new" / name).read_bytes() for name in os.listdir(self.home / "Maildir/new")]


def test_default_delivery_to_an_mbox(user):
    assert user.deliver() == Result(0, b"did 1+0+0\n", b"")
    box = (user.home / "Mailbox").read_bytes()
    first, _, rest = box.partition(b"\n")
    assert re.fullmatch(
        rb"From s@x\.example (Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d \d{4}", first
    )
    assert rest == (
        b"Return-Path: <s@x.example>\nDelivered-To: joe@sub.host.example\nSubject: hello\n\n>From here\nlast line\n\n"
    )


def test_maildir_takes_the_message_as_it_is(user):
    assert user.deliver(default="./Maildir/", sender="") == Result(0, b"did 1+0+0\n", b"")
    assert user.mails() == [b"Return-Path: <>\nDelivered-To: joe@sub.host.example\n" + MESSAGE]


@pytest.mark.parametrize("message", [b"", b"\n", b"\0\xff\r\n", b"x" * 70000, b"Delivered-To: joe@sub.host.example"])
def test_any_content(user, message):
    assert user.deliver(default="./Maildir/\n./Mailbox", message=message).code == 0
    head = b"Return-Path: <s@x.example>\nDelivered-To: joe@sub.host.example\n"
    assert user.mails() == [head + message]
    end = b"\n" if message.endswith(b"\n") or not message else b"\n\n"
    assert (user.home / "Mailbox").read_bytes().partition(b"\n")[2] == head + message + end


def test_fifty_megabytes(user):
    message = b"Subject: big\n\n" + b"From the start\n" * (50 * 1024 * 1024 // 15)
    assert user.deliver(default="./Maildir/\n./Mailbox\n|wc -c", message=message).out.split()[0] == b"%d" % len(message)
    (mail,) = user.mails()
    assert mail.endswith(message) and len(mail) - len(message) < 100
    assert (user.home / "Mailbox").read_bytes().count(b"\n>From the start") == message.count(b"\nFrom the start")


ENDS = [
    # .qmail file                             code, out, err
    (b"./Mailbox\n", 0, b"did 1+0+0\n", b""),
    (b"", 0, b"did 1+0+0\n", b""),
    (b"# nobody\n", 0, b"did 0+0+0\n", b""),
    (b"\n./Mailbox\n", 111, b"", b"Uh-oh: first line of .qmail file is blank. (#4.2.1)\n"),
    (b"|exit 0\n|exit 0\n./Mailbox\n", 0, b"did 1+0+2\n", b""),
    (b"|echo out; echo err >&2\n", 0, b"out\ndid 0+0+1\n", b"err\n"),
    (b"|exit 99\n|exit 100\n", 0, b"did 0+0+1\n", b""),
    (b"|echo no; exit 100\n./Mailbox\n", 100, b"no\n", b""),
    (b"|kill -9 $$\n", 111, b"", b"Aack, child crashed. (#4.3.0)\n"),
    (b"./none/\n", 111, b"", b"Unable to chdir to maildir. (#4.2.1)\n"),
    (b"./Maildir\n", 111, b"", b"Unable to open ./Maildir: is a directory. (#4.2.1)\n"),
    (b"/none/box\n", 111, b"", b"Unable to open /none/box: file does not exist. (#4.2.1)\n"),
    (b"+list\n|true\n", 111, b"", b"Uh-oh: .qmail has prog delivery but has x bit set. (#4.7.0)\n"),
    (b"./Mailbox\n+list\n./Mailbox\n", 111, b"", b"Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)\n"),
    (b"+other\n/dev/null\n", 0, b"did 1+0+0\n", b""),
]


@pytest.mark.parametrize("text, code, out, err", ENDS)
def test_how_a_qmail_file_ends(user, text, code, out, err):
    user.write(".qmail", text)
    assert user.deliver() == Result(code, out, err)


STATUS = {
    0: 0,
    99: 0,
    **dict.fromkeys((100, 64, 65, 70, 76, 77, 78, 112), 100),
    **dict.fromkeys((1, 2, 71, 73, 74, 75, 111, 126, 127, 255), 111),
}


@pytest.mark.parametrize("status, code", STATUS.items())
def test_exit_codes_of_programs(user, status, code):
    assert user.deliver(default=f"|exit {status}").code == code


def test_command_not_found_is_deferred(user):
    assert user.deliver(default="|no-such-program").code == 111


def test_the_program_gets_three_descriptors_and_nothing_else(user):
    ours, theirs = os.pipe()
    try:
        user.write(".qmail", b"|exec ls /proc/self/fd\n|exec cat\n|pwd; umask; exec cat\n")
        done = user.deliver(pass_fds=(theirs,), message=b"mail\n")
    finally:
        os.close(ours)
        os.close(theirs)
    # 3 is what ls lists the directory with
    assert done == Result(0, b"0\n1\n2\n3\nmail\n%s\n0077\nmail\ndid 0+0+3\n" % os.fsencode(user.home), b"")


def test_signals_of_programs_are_default(user):
    done = user.deliver(default="|exec grep -E '^Sig(Blk|Ign)' /proc/self/status")
    masks = dict(line.split(b":\t") for line in done.out.splitlines()[:2])
    assert int(masks[b"SigBlk"], 16) == 0
    assert int(masks[b"SigIgn"], 16) & (1 << 12) == 0  # PIPE


VARIABLES = {
    "SENDER": "s@x.example", "NEWSENDER": "s@x.example", "RECIPIENT": "joe-A-b--c@sub.host.example",
    "USER": "joe", "LOCAL": "joe-A-b--c",
    "EXT": "A-b--c", "EXT2": "b--c", "EXT3": "-c", "EXT4": "c",
    "HOST": "sub.host.example", "HOST2": "sub.host", "HOST3": "sub", "HOST4": "sub",
    "DEFAULT": "b--c", "DTLINE": "Delivered-To: joe-A-b--c@sub.host.example\n",
    "RPLINE": "Return-Path: <s@x.example>\n", "KEPT": "x",
}  # fmt: skip


def test_variables(user):
    user.write(".qmail-a-default", b"|exec env -0\n")
    done = user.deliver(local="joe-A-b--c", dash="-", ext="A-b--c", env={"KEPT": "x"})
    seen = dict(item.split("=", 1) for item in done.out.decode().split("\0") if "=" in item)
    assert {name: seen[name] for name in VARIABLES} == VARIABLES
    assert seen["HOME"] == str(user.home)
    assert re.fullmatch(r"From s@x\.example \w{3} \w{3} \d\d \d\d:\d\d:\d\d \d{4}\n", seen["UFLINE"])


def test_lines_of_odd_senders(user):
    show = "|printf '%s' \"$RPLINE$DTLINE\"; printf '%s' \"${UFLINE%% ??? *}\""
    user.write(".qmail-x", show.encode())
    done = user.deliver(local="j\no", dash="-", ext="x", sender="a b\t@x")
    assert done.out.startswith(b'Return-Path: <"a b\t"@x>\nDelivered-To: j_o@sub.host.example\nFrom a-b-@x')
    assert b"From MAILER-DAEMON" in user.deliver(local="jo", dash="-", ext="x", sender="").out


def test_default_is_inherited_unless_it_is_set(user):
    user.write(".qmail-x", b'|echo "$DEFAULT"\n')
    assert user.deliver(dash="-", ext="x", env={"DEFAULT": "old"}).out.startswith(b"old\n")
    user.write(".qmail-default", b'|echo "$DEFAULT"\n')
    assert user.deliver(dash="-", ext="DeFault", env={"DEFAULT": "old"}).out.startswith(b"DeFault\n")


def test_which_file(user):
    user.write(".qmail-first:last", b"|echo exact")
    user.write(".qmail-default", b"|echo default $DEFAULT")
    (user.home / ".qmail-folder").mkdir()
    os.mkfifo(user.home / ".qmail-fifo")
    assert user.deliver(dash="-", ext="First.Last").out.startswith(b"exact\n")
    assert user.deliver(dash="-", ext="folder").out.startswith(b"default folder\n")
    assert user.deliver(dash="-", ext="fifo").out.startswith(b"default fifo\n")
    assert user.deliver(dash="-", ext="Any.One").out.startswith(b"default Any.One\n")


def test_no_mailbox(user):
    assert user.deliver(dash="-", ext="x") == Result(100, b"", b"Sorry, no mailbox here by that name. (#5.1.1)\n")


def test_an_empty_extension_file_is_the_default(user):
    user.write(".qmail-x", b"", 0o700)
    assert user.deliver(dash="-", ext="x").out == b"did 1+0+0\n"


UNSAFE = [
    ({"home": 0o757}, 111, b"Uh-oh: home directory is writable. (#4.7.0)\n"),
    ({"home": 0o1755}, 111, b"Home directory is sticky: user is editing his .qmail file. (#4.2.1)\n"),
    ({"file": 0o602}, 111, b"Uh-oh: .qmail file is writable. (#4.7.0)\n"),
    ({"file": 0o700}, 111, b"Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)\n"),
    ({"home": 0o775, "file": 0o660}, 0, b""),
]


@pytest.mark.parametrize("modes, code, err", UNSAFE)
def test_modes(user, modes, code, err):
    user.write(".qmail", b"./Mailbox", modes.get("file", 0o600))
    os.chmod(user.home, modes.get("home", 0o755))
    done = user.deliver()
    assert (done.code, done.err) == (code, err)


def test_a_file_with_holes_does_not_take_our_memory(user):
    with open(user.home / ".qmail", "wb") as file:
        file.write(b"./Maildir/\n#")
        file.truncate(1 << 40)
    assert user.deliver() == Result(111, b"", b"Uh-oh: .qmail file is too large. (#4.7.0)\n")
    os.truncate(user.home / ".qmail", MAX_INSTRUCTIONS_BYTES)
    assert user.deliver().code == 0


def test_no_home(user):
    os.rename(user.home, f"{user.home}.old")
    assert user.deliver() == Result(
        111, b"", b"Unable to switch to %s: file does not exist. (#4.3.0)\n" % os.fsencode(user.home)
    )


LOOPS = [
    (b"Delivered-To: joe@sub.host.example\n\n", 100),
    (b"A: b\nDelivered-To: joe@sub.host.example\n", 100),
    (b"A: b\nDelivered-To: joe@sub.host.example", 0),
    (b"A: b\n\nDelivered-To: joe@sub.host.example\n", 0),
    (b"\nDelivered-To: joe@sub.host.example\n", 0),
    (b"delivered-to: joe@sub.host.example\n", 0),
    (b"Delivered-To: Joe@sub.host.example\n", 0),
    (b"Delivered-To: joe@sub.host.example \n", 0),
    (b"X: Delivered-To: joe@sub.host.example\n", 0),
    (b"A: " + b"x" * 65520 + b"\nDelivered-To: joe@sub.host.example\n\n", 100),
    (b"A: " + b"x" * 65531 + b"\n\nDelivered-To: joe@sub.host.example\n\n", 0),
]


@pytest.mark.parametrize("message, code", LOOPS)
def test_loops(user, message, code):
    done = user.deliver(message=message, default="./Maildir/")
    assert done.code == code
    assert done.err == (b"This message is looping: it already has my Delivered-To line. (#5.4.6)\n" if code else b"")


def test_n_describes(user):
    user.write(".qmail", b"#x\n./Maildir/\n./Mailbox\n|cat x \nme@y\n&.me\n\n+list\nmore\n")
    os.chmod(user.home, 0o1755)
    out = b"maildir ./Maildir/\nmbox ./Mailbox\nprogram cat x\nforward me@y\nforward .me\nforward more\ndid 2+3+1\n"
    looping = b"Delivered-To: joe@sub.host.example\n\n"
    assert user.deliver(options=["-Nn"], message=looping) == Result(0, out, b"Warning: home directory is sticky.\n")
    assert user.mails() == []


USAGE = b"qmail-local: usage: qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty\n"


@pytest.mark.parametrize("words", [[], ["a"] * 8, ["a", "/", *["x"] * 5], ["a", "/", *["x"] * 7]])
def test_usage(run, words):
    assert run("pylocal", *words) == (100, b"", USAGE)


def test_a_pipe_cannot_be_rewound(user):
    ours, theirs = os.pipe()
    os.close(theirs)
    assert user.deliver(stdin=ours) == Result(111, b"", b"Unable to rewind message. (#4.3.0)\n")
    os.close(ours)


QUEUE = b"""#!/bin/sh
cat > message; cat <&1 > envelope
if test -f text; then cat text >&6; fi
exit `cat code`
"""


def queue(user, code=0, text=None):
    (user.qmail / "bin").mkdir(exist_ok=True)
    (user.qmail / "bin/q").write_bytes(QUEUE)
    os.chmod(user.qmail / "bin/q", 0o755)
    (user.qmail / "code").write_text(f"{code}\n")
    if text:
        (user.qmail / "text").write_bytes(text)


def test_forwards_are_one_message_at_the_end(user):
    queue(user)
    user.write(".qmail", b"a@b\n|echo ran\n&c\n|exit 99\nnever@x\n")
    done = user.deliver(env={"QMAILQUEUE": "bin/q"})
    assert re.fullmatch(rb"ran\ndid 0\+2\+2\nqp \d+\n", done.out) and done.code == 0
    assert (user.qmail / "message").read_bytes() == b"Delivered-To: joe@sub.host.example\n" + MESSAGE
    assert (user.qmail / "envelope").read_bytes() == b"Fs@x.example\0Ta@b\0Tc\0\0"


def test_a_later_failure_stops_the_forwards(user):
    queue(user)
    user.write(".qmail", b"a@b\n|exit 111\n")
    assert user.deliver(env={"QMAILQUEUE": "bin/q"}).code == 111
    assert not (user.qmail / "message").exists()


def test_a_forward_that_qmailqueue_does_not_read_is_deferred(user):
    (user.qmail / "bin").mkdir(exist_ok=True)
    (user.qmail / "bin/q").write_text("#!/bin/sh\nexit 0\n")
    os.chmod(user.qmail / "bin/q", 0o755)
    user.write(".qmail", b"a@b\n")
    done = user.deliver(env={"QMAILQUEUE": "bin/q"})
    assert done.code == 111 and done.err.startswith(b"Unable to forward message: qq read error (#4.3.0)")


NO_SERVER = b"Unable to forward message: qq trouble creating files in queue (#4.3.0): no pyqueued at run/pyqueued.\n"


def test_a_forward_without_pyqueued_is_deferred_and_says_why(user):
    user.write(".qmail", b"a@b\n")
    (user.qmail / "private").touch()
    assert user.deliver() == Result(111, b"", NO_SERVER)


@pytest.mark.parametrize("own", [True, False])
def test_a_forward_without_pyqueued_is_written_by_who_may(user, home, own):
    """By ourselves as the queue's user, here of a private home; else, among the original's programs, by theirs."""
    user.qmail = pathlib.Path(home.path)
    queue(user)
    os.rename(user.qmail / "bin/q", user.qmail / "bin/qmail-queue")
    if not own:
        os.rename(user.qmail / "queue", user.qmail / "elsewhere")
    user.write(".qmail", b"a@b\n")
    done = user.deliver()
    assert done.code == 0 and re.fullmatch(rb"did 0\+1\+0\nqp \d+\n", done.out)
    assert len(os.listdir(user.qmail / "queue/todo")) == 1 if own else (user.qmail / "message").exists()


def test_a_forward_is_taken_by_pyqueued(user, home, pyqueued):
    user.qmail = pathlib.Path(home.path)
    user.write(".qmail", b"a@b\n")
    assert user.deliver().code == 0 and len(os.listdir(user.qmail / "queue/todo")) == 1


REFUSALS = [
    (31, None, 100, b"Unable to forward message: mail server permanently rejected message (#5.3.0).\n"),
    (53, None, 111, b"Unable to forward message: qq write error or disk full (#4.3.0).\n"),
    (82, b"Dno spam here (#5.7.1)", 100, b"Unable to forward message: no spam here (#5.7.1).\n"),
]


@pytest.mark.parametrize("status, text, code, err", REFUSALS)
def test_refused_forwards(user, status, text, code, err):
    queue(user, status, text)
    user.write(".qmail", b"a@b\n")
    assert user.deliver(env={"QMAILQUEUE": "bin/q"}) == Result(code, b"", err)


OWNERS = [
    # files                             sender, envelope sender of the forward
    ([], "s@x", b"s@x"),
    (["-owner"], "s@x", b"joe-My.L-owner@sub.host.example"),
    (["-owner", "-owner-default"], "s@x", b"joe-My.L-owner-@sub.host.example-@[]"),
    (["-owner-default"], "s@x", b"s@x"),
    (["-owner", "-owner-default"], "", b""),
    (["-owner", "-owner-default"], "#@[]", b"#@[]"),
]


@pytest.mark.parametrize("files, sender, forwarded", OWNERS)
def test_owner_files(user, files, sender, forwarded):
    queue(user)
    user.write(".qmail-my:l", b"a@b\n")
    for name in files:
        user.write(".qmail-my:l" + name, b"")
    assert user.deliver(local="joe-My.L", dash="-", ext="My.L", sender=sender, env={"QMAILQUEUE": "bin/q"}).code == 0
    assert (user.qmail / "envelope").read_bytes() == b"F" + forwarded + b"\0Ta@b\0\0"
