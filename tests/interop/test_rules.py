"""Rules beside the originals: the same lines and clients to both, and what comes out.

Lines and clients are drawn with a fixed seed; what is meant to differ stands in a table with the reason.  Whole
programs are run for the tables; for what is drawn the originals are programs and ours is called, to be quick.
"""

import os
import random
import re
import shutil
import subprocess

import pytest

from pyqmail.base.failure import reason
from pyqmail.system.cdb import Reader, write_cdb
from pyqmail.tcp.rules.keys import readable
from pyqmail.tcp.rules.lookup import find_rule
from pyqmail.tcp.rules.source import BadLine, compile_lines

pytestmark = pytest.mark.skipif(shutil.which("tcprules") is None, reason="needs ucspi-tcp")
CHUNKS = 20


def their_compiler(folder, source):
    """Return (exit code, descriptor 2, the cdb) of the original, None for a cdb that was not made."""
    done = subprocess.run(["tcprules", "theirs.cdb", "tmp"], input=source, capture_output=True, cwd=folder, timeout=30)
    path = folder / "theirs.cdb"
    made = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    return done.returncode, done.stderr, made


def our_compiler(folder, source):
    try:
        write_cdb(folder / "ours.cdb", folder / "tmp", compile_lines(source))
    except BadLine as bad:
        line = bad.line.partition(b"\0")[0]
        return 100, b"tcprules: fatal: unable to parse this line: " + line + b"\n", None
    return 0, b"", (folder / "ours.cdb").read_bytes()


def their_check(path, client):
    environ = {
        name: value
        for name, value in zip(("TCPREMOTEIP", "TCPREMOTEHOST", "TCPREMOTEINFO"), client, strict=True)
        if value is not None
    }
    done = subprocess.run(["tcprulescheck", path], capture_output=True, env=environ, timeout=30)
    return done.returncode, done.stdout + done.stderr


def our_check(path, client):
    try:
        with Reader(path) as rules:
            rule = find_rule(rules.get, *client, rules.key_lengths)
    except OSError as error:
        return 111, b"tcprulescheck: fatal: unable to read %b: %b\n" % (os.fsencode(path), reason(error).encode())
    if rule is None:
        return 0, b"default:\nallow connection\n"
    return 0, b"rule " + readable(rule.key) + b":\n" + rule.told()


class Draw:
    """Lines and clients, few enough numbers and names for them to meet."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def one_of(self, *choices):
        return self._random.choice(choices)

    def number(self):
        return self.one_of(b"0", b"1", b"2", b"3", b"10", b"254", b"255")

    def range(self):
        return (
            self.one_of(b"", b"0", b"1", b"007", b"254", b"300") + b"-" + self.one_of(b"", b"1", b"3", b"255", b"999")
        )

    def ip(self):
        return b".".join(self.number() for _ in range(4))

    def host(self):
        return self.one_of(b"a", b"a.b", b"x.a.b", b"b", b"c-d.b")

    def address(self):
        prefix = b"".join(self.number() + b"." for _ in range(self._random.randrange(1, 4)))
        return self.one_of(
            b"", b"", self.ip(), prefix, prefix + self.range(), self.range() + b"." + self.number(), b"=" + self.host(),
            b"=." + self.host(), b"=", b"joe@" + self.ip(), b"joe@=" + self.host(), b"@" + self.ip(), b"1000@unix",
            b"unix", b" " + self.ip(), b"10.0.0.0/0", b"10.0.0/8", b"a\xffb", b"a\0b", b"1-2-3", b"x-y", b"=A.B",
        )  # fmt: skip

    def instruction(self):
        variables = (
            b"," + self.one_of(b"A", b"B", b" C", b"", b"TCPREMOTEHOST") + b"="
            + self.one_of(b'""', b'"x y"', b"/a:b/", b"'\xe4'", b"xx", b"===", b'"_0"', b'":allow"')
            for _ in range(self.one_of(0, 0, 0, 1, 2))
        )  # fmt: skip
        wrong = self.one_of(*[b""] * 60, b"ed", b",", b",A", b',A="x', b'"', b"\r", b", A", b"\0")
        return self.one_of(*[b"allow", b"deny"] * 30, b"Allow", b" deny", b"") + b"".join(variables) + wrong

    def line(self):
        rule = self.address() + self.one_of(*[b":"] * 60, b"", b"::", b":x:") + self.instruction()
        return self.one_of(*[rule] * 60, b"", b"# x:y", b" \t", rule + b" \t ", rule + b" ")

    def client(self):
        return (
            self.one_of(*[self.ip()] * 8, b"unix", b""),
            self.one_of(None, None, b"", self.host(), self.host()),
            self.one_of(None, None, b"", b"joe", b"1000"),
        )


@pytest.mark.parametrize("seed", range(CHUNKS))
def test_drawn_lines_one_by_one_and_together(tmp_path, seed):
    """20 lines in each of 20 runs: 400."""
    draw = Draw(seed)
    good = []
    for _ in range(20):
        line = draw.line()
        theirs = their_compiler(tmp_path, line)
        assert our_compiler(tmp_path, line) == theirs, line
        good += [line] * (theirs[0] == 0)
    source = b"\n".join(good) + draw.one_of(b"", b"\n")
    assert our_compiler(tmp_path, source) == their_compiler(tmp_path, source)


@pytest.mark.parametrize("seed", range(CHUNKS))
def test_drawn_clients_meet_the_same_rules(tmp_path, seed):
    """20 clients at each of 20 files: 400; more than half of them meet a rule that is not for everybody."""
    draw = Draw(1000 + seed)
    lines = [draw.address() + b":" + draw.one_of(b"allow", b"deny", b'allow,A="b"') for _ in range(60)]
    lines = [line for line in lines if our_compiler(tmp_path, line)[0] == 0]
    assert our_compiler(tmp_path, b"\n".join(lines))[0] == 0
    for _ in range(20):
        client = draw.client()
        path = str(tmp_path / "ours.cdb")
        assert our_check(path, client) == their_check(path, client), client


COMPILED = [
    # source                                what differs on purpose, None if nothing does
    (b"x" * 1_000_000,                      None),
    (b"1.:allow\n" + b"y" * 1_000_000 + b":allow\n", None),
    (b"1.:allow\n" + b"y" * 1_000_000 + b":nonsense\n", None),
    (b'1.:allow,A="' + b"z" * 1_000_000 + b'"\n', None),
    (b"1.:allow" + b',A="b"' * 150_000,     None),
    (b"9" * 300 + b"-9:allow",              None),
    (b"\0" * 1000,                          None),
    (b"\0:allow\n\0:deny\n",                None),
    (b":\0allow\n",                         None),
    (b"1.:allow\r\n2.:deny\r\n",            None),
    (bytes(range(256)) * 4,                 None),
    (b"10.0.0.0/0:deny\n10.0.0.0/33:deny\n10.0.0/8:deny\n", None),
    (b"joe@10.0.0.0/8:deny\n=a/8:deny\n",   None),
    (b"::allow\n",                          None),
    (b"::/0:allow\n",                       None),
    (b"1.2.3.4:25:allow\n",                 None),
    (b"=a:b:allow\n",                       None),
    (b"10.0.0.0/8:deny\n",                  "a network"),
    (b"10.0-3.0.0/16:deny\n",               "a network"),
    (b"2001:db8::1:deny\n",                 "IPv6"),
    (b'2001:db8::1:allow,A=":deny"\n',      "IPv6"),
    (b"2001:db8::/32:deny\n",               "IPv6"),
    (b"2001:db8::deny\n",                   "IPv6"),
    (b"joe@::1:deny\n",                     "IPv6"),
]  # fmt: skip


@pytest.mark.parametrize("source, difference", COMPILED)
def test_sources_that_are_odd(run, tmp_path, source, difference):
    theirs = their_compiler(tmp_path, source)
    code, out, err = run("pytcprules", "ours.cdb", "ours.tmp", input=source, cwd=tmp_path)
    made = (tmp_path / "ours.cdb").read_bytes() if code == 0 else None
    if difference is None:
        err = re.sub(rb"(?m)^tcprules: warning: line \d+: .*\n", b"", err)  # ours says which denials do not hold
        assert ((code, err, made), out) == (theirs, b"")
    else:
        assert (code, err, out) == (0, b"", b"")
        assert theirs[0] == 0 and theirs[2] != made if difference == "a network" else theirs[0] == 100


CUT = b'1.2.3.4:deny,A="b"\n10.:allow\n=a.b:deny\n192.0.2.0/24:deny\n2001:db8::/32:deny\n'
CLIENTS = [
    (b"1.2.3.4", None, None),
    (b"10.0.0.1", b"a.b", None),
    (b"192.0.2.1", None, b""),
    (b"2001:db8::1", None, None),
]


@pytest.mark.parametrize("source", [CUT, CUT + b":deny\n", b"192.0.2.0/24:deny\n"])
def test_a_file_cut_at_any_byte_is_an_error_or_says_the_same(tmp_path, source):
    """Never less: no client is allowed because its rule was in the part that is gone."""
    path = str(tmp_path / "cut.cdb")
    write_cdb(path, str(tmp_path / "tmp"), compile_lines(source))
    content = (tmp_path / "cut.cdb").read_bytes()
    whole = [our_check(path, client) for client in CLIENTS]
    damaged = 111, b"tcprulescheck: fatal: unable to read %b: protocol error\n" % os.fsencode(path)
    for size in range(len(content) - 1, -1, -1):
        os.truncate(path, size)
        for client, told in zip(CLIENTS, whole, strict=True):
            assert our_check(path, client) in (told, damaged), (size, client)


def test_a_file_cut_short_is_to_the_original_what_it_is_to_us(tmp_path):
    path = str(tmp_path / "cut.cdb")
    write_cdb(path, str(tmp_path / "tmp"), compile_lines(b'1.2.3.4:deny,A="b"\n10.:allow\n=a.b:deny\n'))
    content = (tmp_path / "cut.cdb").read_bytes()
    differences = set()
    for size in range(len(content) - 1, 0, -3):
        os.truncate(path, size)
        for client in CLIENTS[:2]:
            ours, theirs = our_check(path, client), their_check(path, client)
            if ours != theirs:
                differences.add((ours[0], theirs[0]))
    assert differences <= {
        (111, 0)
    }  # several slots are read at once: what lies after the one that counts is missed too


def test_random_bytes_are_to_the_original_what_they_are_to_us(tmp_path):
    numbers, path = random.Random(1), tmp_path / "random.cdb"
    for _ in range(100):
        path.write_bytes(numbers.randbytes(numbers.randrange(1, 6000)))
        for client in CLIENTS[:2]:
            assert our_check(str(path), client) == their_check(str(path), client)


def test_single_bytes_changed_end_in_an_answer(tmp_path):
    path = tmp_path / "changed.cdb"
    write_cdb(path, tmp_path / "tmp", compile_lines(CUT))
    content = path.read_bytes()
    for at in range(0, len(content), 5):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xA5]) + content[at + 1 :])
        for client in CLIENTS:
            code, told = our_check(str(path), client)
            assert code == 0 or told.endswith(b": protocol error\n")
