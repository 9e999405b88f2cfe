"""pytcpclient beside ucspi-tcp's tcpclient: the same command lines, environments, lines and exit codes.

Names are looked up at a server on port 53 of a loopback address, ident is asked on port 113 of it; without the right to
bind those, such tests are left out.  Not compared: a server that fails or is silent, which costs the original 11 or 59
seconds (tests/tcp/client/test_connect.py has ours).
"""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from pyqmail.tcp.client.dns_rewrite import alternatives, find_rules

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pytcpclient"]
THEIRS = ["tcpclient"]
SERVER = "127.0.0.79"

pytestmark = pytest.mark.skipif(shutil.which("tcpclient") is None, reason="needs ucspi-tcp")


# ours says which numbers it read as others than they say
_ODD = re.compile(rb"^\w+: warning: (?:[^\n]* is read as [\d+]+|a limit of 0: no connection is accepted)\n", re.M)


def outcome(command, arguments, port, environ=None, **how):
    """Return (exit code, descriptor 1, descriptor 2) of a client; PORT among its arguments is port."""
    done = subprocess.run(
        [*command, *(word.replace("PORT", str(port)) for word in arguments)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": f"{ROOT}/bin:{os.environ['PATH']}", **(environ or {})},
        timeout=60,
        **how,
    )
    out = re.sub(rb"TCPLOCALPORT=\d+", b"TCPLOCALPORT=N", done.stdout)
    return done.returncode, out, _ODD.sub(b"", done.stderr).replace(b"pytcpclient: ", b"tcpclient: ")


@contextlib.contextmanager
def serving(command, *arguments):
    """Run a server that talks to its clients; its port."""
    server = subprocess.Popen(
        [*command, "-1RHl0", *arguments, "0", "sh", "-c", "echo hi; cat"],
        stdout=subprocess.PIPE,
        env={"PATH": f"{ROOT}/bin:{os.environ['PATH']}"},
    )
    try:
        yield int(server.stdout.readline())
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=20)
        server.stdout.close()


@pytest.fixture(scope="module")
def port():
    with serving(["tcpserver"], "0") as port:
        yield port


@pytest.fixture
def silent():
    """An address and port where nobody ever answers: the kernel's queue is full."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.80", 0), backlog=0))
        for _ in range(3):
            sock = opened.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()


TALK = ["sh", "-c", "head -n 1 <&6; echo there >&7; head -n 1 <&6; exit 3"]
FILES = ["sh", "-c", "readlink /proc/self/fd/0; for n in 3 4 5 6 7 8; do test -e /proc/self/fd/$n && echo $n; done"]
# signals 1 to 28: glibc's posix_spawn, by which some Pythons start us here, ignores two of its own far above
SIGNALS = r"sed -nE 's/^(Sig(Blk|Ign)):.*(.{7})$/\1 \3/p' /proc/self/status"
STATE = ["sh", "-c", f"{SIGNALS}; grep flags /proc/self/fdinfo/6 /proc/self/fdinfo/7"]
LITERAL = [
    ["-RHl0", "127.0.0.1", "PORT", *TALK],
    ["-vRHl0", "127.0.0.1", "PORT", *TALK],
    ["-v", "-R", "-H", "-l", "me:here", "127.0.0.1", "PORT", "env"],
    ["-RHl", "", "127.0.0.1", "PORT", "env"],
    ["-RHl0", "0", "PORT", "env"],
    ["-RHl0", "", "PORT", "env"],
    ["-vRHl0", "127.000.0.1.", "PORT", "env"],
    ["-vRHl0", "[127.0.0.257]", "PORT", "env"],
    ["-vRHl0", "127.0.0.2.127.0.0.1", "PORT", "env"],
    ["-vRHl0", "127.0.0.1.5", "PORT", "env"],
    ["-RHl0", "127.1", "PORT", "env"],
    ["-RHl0", "5", "PORT", "env"],
    ["-RHl0", "127.0.0." + "9" * 5000, "1", "env"],
    ["-RHl0", "127.0.0.1", "9" * 5000, "env"],
    ["-RHl0", "-p", "1" * 5000, "127.0.0.1", "PORT", "true"],
    ["-DRHl0", "-i", "127.0.0.5", "0", "PORT", "env"],
    ["-RHl0", "-i127.0.0.261x", "0", "PORT", "env"],
    ["-RHl0", "-i", "127.0.0", "0", "PORT", "env"],
    ["-RHl0", "-i", "", "0", "PORT", "env"],
    ["-RHl0", "-i", "a.b.c.d", "0", "PORT", "env"],
    ["-RHl0", "-i", "127.0..1", "0", "PORT", "env"],
    ["-RHl0", "-i", "127.0.0x.1", "0", "PORT", "env"],
    ["-RHl0", "-i", "10.9.8.7", "0", "PORT", "env"],
    ["-RHl0", "-p", "PORT", "0", "PORT", "env"],
    ["-RHl0", "-p", "abc", "0", "PORT", "env"],
    ["-RHl0", "-T", "0", "0", "PORT", *TALK],
    ["-RHl0", "-T", "abc", "0", "PORT", *TALK],
    ["-RHl0", "-T", "5", "0", "PORT", *TALK],
    ["-RHl0", "-T", "5+5", "0", "PORT", *TALK],
    ["-RHl0", "-T", "99999999999999999999", "0", "PORT", *TALK],
    ["-RHl0", "0", "PORT", *FILES],
    ["-RHl0", "0", "PORT", *STATE],
    ["-RHl0", "0", "PORT", "no-such-program"],
    ["-RHl0", "0", "PORT", "/dev/null"],
    ["-qRHl0", "0", "PORT", "no-such-program"],
    ["-RHl0", "0", "PORT", "sh", "-c", "kill -9 $$"],
    ["-RHl0", "127.0.0.1", "1", "env"],
    ["-RHl0", "127.0.0.1.127.0.0.2", "1", "env"],
    ["-qRHl0", "127.0.0.1.127.0.0.2", "1", "env"],
    ["-vRHl0", "127.0.0.1", "1", "env"],
    ["-vRHl0", "127.0.0.1", "0", "env"],
    ["-vRHl0", "255.255.255.255", "1", "env"],
    ["-vRHl0", "127.0.0.1", "", "env"],
    ["-RHl0", "127.0.0.1", "65537", "env"],
    ["-RHl0", "127.0.0.1", "no-service", "env"],
    ["-RHl0", "127.0.0.1", "-1", "env"],
    ["-RHl0", "127.0.0.1", "no-service"],
    ["-RHl0", "127.0.0.1", "tcpmux", "env"],
    ["-RHl0", "127.0.0.1", "PORT"],
    ["-RHl0", "127.0.0.1"],
    ["-RHl0"],
    [],
    ["-q"],
    ["-q", "0", "no-service", "env"],
    ["-Qz"],
    ["-qz"],
    ["-t"],
    ["-RHl0", "--", "0", "PORT", *TALK],
    ["-RHl0", "-t", "x", "--", "0", "PORT", *TALK],
    ["-RHl0", "-", "PORT"],
]


@pytest.mark.parametrize("arguments", LITERAL, ids=lambda words: " ".join(words)[:60])
def test_addresses_are_tried_as_the_original_does(port, arguments):
    environ = {"DNSREWRITEFILE": "/nowhere", "LOCALDOMAIN": "", "TCPREMOTEINFO": "stale", "TCP6REMOTEIP": "kept"}
    environ |= {"TCPREMOTEHOST": "stale", "X": "1", "PROTO": "old", "TCPLOCALHOST": "stale", "Y": "2"}
    theirs, ours = (outcome(command, arguments, port, environ) for command in (THEIRS, OURS))
    assert theirs == ours


@pytest.mark.parametrize("waits", ["1", "1+1", "0+1"])
@pytest.mark.parametrize("hosts", ["{0}", "{0}.127.0.0.1", "127.0.0.1.{0}", "{0}.{0}"])
def test_silent_addresses_are_tried_again(silent, waits, hosts):
    arguments = ["-vRHl0", "-T", waits, hosts.format(silent[0]), "PORT", "true"]
    found = {}
    running = [
        threading.Thread(
            target=lambda who, command: found.update({who: outcome(command, arguments, silent[1])}), args=who
        )
        for who in (("theirs", THEIRS), ("ours", OURS))
    ]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert found["theirs"] == found["ours"]
    assert found["ours"][0] == 111


def test_descriptors_that_were_open_are_closed_first(port, tmp_path):
    script = 'exec 6</etc/passwd 7>file 5</dev/null; exec "$@"'
    arguments = ["-RHl0", "0", "PORT", "sh", "-c", "readlink /proc/self/fd/5; head -n 1 <&6"]
    theirs, ours = (
        outcome(["sh", "-c", script, "sh", *command], arguments, port, cwd=tmp_path) for command in (THEIRS, OURS)
    )
    assert theirs == ours == (0, b"/dev/null\nhi\n", b"")


def test_signals_that_were_ignored_stay_so_but_pipe(port):
    script = "trap '' HUP PIPE USR1; exec \"$@\""
    arguments = ["-RHl0", "0", "PORT", *STATE]
    theirs, ours = (outcome(["sh", "-c", script, "sh", *command], arguments, port) for command in (THEIRS, OURS))
    assert theirs == ours


def test_the_original_talks_to_our_server():
    with serving([sys.executable, f"{ROOT}/bin/pytcpserver"], "0") as port:
        theirs, ours = (outcome(command, ["-RHl0", "0", "PORT", *TALK], port) for command in (THEIRS, OURS))
    assert theirs == ours == (3, b"hi\nthere\n", b"")


def ip(text):
    return socket.inet_aton(text)


NAMES = [
    # host              environ
    ("one.test", {}),
    ("ONE.test", {}),
    ("one.test.", {}),
    ("none.test", {}),
    ("empty.test", {}),
    ("alias.test", {}),
    ("loop.test", {}),
    ("cut.test", {}),
    ("a" * 64 + ".test", {}),
    (".".join(["a" * 50] * 6), {}),
    ("one", {"LOCALDOMAIN": "other test"}),
    ("one.", {"LOCALDOMAIN": "other test"}),
    ("127", {"LOCALDOMAIN": "test"}),
    ("one", {"DNSREWRITEFILE": "rules"}),
    ("anything.old", {"DNSREWRITEFILE": "rules"}),
    ("[x]", {"DNSREWRITEFILE": "rules"}),
    ("here", {"DNSREWRITEFILE": "rules"}),
    ("one.test.", {"DNSREWRITEFILE": "/dev/null"}),
    ("one.test", {"DNSREWRITEFILE": "."}),
    ("127.0.0.1", {"DNSREWRITEFILE": "."}),
    ("0", {"DNSREWRITEFILE": "."}),
    ("", {"DNSREWRITEFILE": "."}),
    ("0", {"DNSREWRITEFILE": "rules"}),
    ("one.test", {"DNSREWRITEFILE": "rules/nothing"}),
]


@pytest.fixture
def names(well_known_name_server):
    server = well_known_name_server
    server.zone |= {
        (b"one.test", server.A): [ip("127.0.0.1")],
        (b"empty.test", server.TXT): [b"\1x"],
        b"alias.test": [(server.CNAME, server.name(b"one.test")), (server.A, ip("127.0.0.1"))],
        b"loop.test": [(server.CNAME, server.name(b"loop.test"))],
        b"cut.test": "cut",
        (b"cut.test", server.A): [ip("127.0.0.1")],
        (b"127.test", server.A): [ip("127.0.0.1")],
        (b"1.0.0.127.in-addr.arpa", server.PTR): [server.name(b"Here.Test")],
        (b"2.0.0.127.in-addr.arpa", server.TXT): [b"\1x"],
        (b"3.0.0.127.in-addr.arpa", server.PTR): [server.name(b"a b\\.x"), server.name(b"second")],
    }
    return server


@pytest.mark.parametrize("host, environ", NAMES)
def test_names_are_found_as_the_original_does(names, port, tmp_path, host, environ):
    (tmp_path / "rules").write_bytes(
        b"# lines like this\n*.OLD:.none.test \t\r\n-.none.test:one.test\n=here:[127.0.0.1]\n?:+.none+.test"
    )
    environ = {"DNSCACHEIP": SERVER, "DNSREWRITEFILE": "/nowhere", **environ}
    theirs, ours = (
        outcome(command, ["-vRHl0", host, "PORT", "env"], port, environ, cwd=tmp_path) for command in (THEIRS, OURS)
    )
    assert theirs == ours


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"])
@pytest.mark.parametrize("options", ["-vR", "-vRH", "-vRl0", "-hRl0"])
def test_addresses_are_named_as_the_original_does(names, port, host, options):
    environ = {"DNSCACHEIP": SERVER, "TCPREMOTEHOST": "stale", "TCPLOCALHOST": "stale"}
    arguments = [options, "-i", "127.0.0.3", host, "PORT", "env"]
    theirs, ours = (outcome(command, arguments, port, environ) for command in (THEIRS, OURS))
    assert theirs == ours


def test_rewriting_is_the_originals(names, tmp_path):
    """Names and rules at random: the names that the original asks for."""
    chance = random.Random(5)

    def some(letters, most):
        return "".join(chance.choice(letters) for _ in range(chance.randint(0, most)))

    environ = {"PATH": os.environ["PATH"], "DNSCACHEIP": SERVER, "DNSREWRITEFILE": "rules"}
    for _ in range(150):
        host = some("aAbB.+[]", 6) or "a"
        lines = [some("*?=-", 1) + some("abA.+[]", 2) + some(":", 1) + some("ab.+:", 5) for _ in range(3)]
        if chance.random() < 0.3:
            environ = {**environ, "DNSREWRITEFILE": "/nowhere", "LOCALDOMAIN": some("ab  .+", 7)}
        else:
            (tmp_path / "rules").write_text("\n".join(lines) + some(" \t\r\n", 3))
            environ = {**environ, "DNSREWRITEFILE": str(tmp_path / "rules")}
        names.asked.clear()
        subprocess.run(["tcpclient", host, "1", "true"], env=environ, capture_output=True, timeout=20)
        rules = find_rules({os.fsencode(name): os.fsencode(value) for name, value in environ.items()})
        wanted = [
            b".".join(label for label in name.lower().split(b".") if label)
            for name in alternatives(os.fsencode(host), rules)
            if name.strip(b".[]")
        ]
        asked = [name for name, _ in names.asked]
        assert asked == list(dict.fromkeys(wanted)), (host, lines, environ)


IDENT = [b"1 , 2 : USERID : UNIX : joe\r\n", b"1,2:ERROR:NO-USER\r\n", b"1,2:USERID:UNIX:joe", b"", b"x" * 3000 + b"\n"]


@pytest.mark.parametrize("said", IDENT, ids=lambda said: repr(said[:30]))
def test_ident_is_asked_as_the_original_does(names, port, said):
    try:
        listener = socket.create_server((SERVER, 113))
    except OSError as error:
        pytest.skip(f"port 113: {error}")
    asked = []

    def serve():
        while True:
            sock, _ = listener.accept()
            with sock:
                question = sock.recv(100)
                if question == b"end":
                    return
                asked.append(re.sub(rb"\d+", b"N", question))
                sock.sendall(said)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        arguments = ["-vHl0", "-t", "10", SERVER, "PORT", "env"]
        theirs, ours = (outcome(command, arguments, port, {"TCPREMOTEINFO": "stale"}) for command in (THEIRS, OURS))
    finally:
        with socket.create_connection((SERVER, 113), timeout=10) as sock:
            sock.sendall(b"end")
        thread.join()
        listener.close()
    assert theirs == ours
    assert asked == [b"N , N\r\n"] * 2
