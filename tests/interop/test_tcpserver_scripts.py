"""Run scripts as people write them, unedited but for the server's name: /bin/sh reads them, tcpserver and
pytcpserver run.

The ports they name are free ones; $PORT stands for such a port, SERVER for the server.
"""

import contextlib
import grp
import os
import pwd
import re
import select
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = f"{ROOT}/bin:{os.environ['PATH']}"
SERVERS = ("tcpserver", f"{sys.executable} {ROOT}/bin/pytcpserver")
NOBODY_IS_SERVED = re.compile(r"-c (''|\"\$UNSET\") ")

pytestmark = pytest.mark.skipif(shutil.which("tcpserver") is None, reason="needs ucspi-tcp")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")

SETTINGS = """
LOCAL=mail.example ME=me.example CDB=rules.cdb MAX=`head -1 max`
U=`id -u nobody` G=`id -g nobody`
UID_ENV="env UID=$U GID=$G"
"""

SCRIPTS = {
    "clustered": "exec SERVER -vRHl0 127.0.0.1 $PORT env 2>&1",
    "clustered, value last": "exec SERVER -vHRc3 -l0 127.0.0.1 $PORT env",
    "clustered, value in its own word": "exec SERVER -vHRc 3 -l0 127.0.0.1 $PORT env",
    "quoted": 'exec SERVER -v -R -H -l "$LOCAL" -x rules.cdb -c "$MAX" 0 $PORT env 2>&1',
    "as in life with qmail": 'exec softlimit -m 3000000000 '
    'SERVER -v -R -H -l "$LOCAL" -x rules.cdb -c "$MAX" 0 $PORT env 2>&1',
    "glued": "exec SERVER -URHl $ME -x$CDB -c$MAX -v 0 $PORT env",
    "in two lines": "exec SERVER -v -H -R \\\n  -l0 -x $CDB \\\n  127.0.0.1 $PORT \\\n  sh -c 'echo $TCPLOCALHOST'",
    "two hyphens": "exec SERVER -vHRl0 -- 0 $PORT env",
    "two hyphens alone": "exec SERVER -vHRl0 -x rules.cdb -- 0 $PORT sh -c 'echo $0' -v",
    "options of the program": "exec SERVER -vHRl0 0 $PORT echo -v -c3 -- -q",
    "host is empty": "exec SERVER -vHRl0 '' $PORT env",
    "name is empty": "exec SERVER -vHR -l '' 0 $PORT env",
    "name is an option": "exec SERVER -vHR -l -v 0 $PORT env",
    "banner is empty": "exec SERVER -vHRl0 -B '' 0 $PORT env",
    "banner": "exec SERVER -vHRl0 -B '220 wait' 0 $PORT env",
    "an empty argument": "exec SERVER -vHRl0 0 $PORT sh -c 'echo \"<$1>\"' x ''",
    "program is empty": "exec SERVER -vHRl0 0 $PORT ''",
    "rules are empty": "exec SERVER -vHRl0 -x '' 0 $PORT env",
    "limit is empty": "exec SERVER -vHRl0 -c '' 0 $PORT env",
    "limit from a file": "exec SERVER -vHRl0 -c`cat max` 0 $PORT env",
    "said twice": "exec SERVER -vqv -rR -hH -c1 -c7 -la -lb 0 $PORT env",
    "silent": "exec SERVER -qHRl0 0 $PORT env",
    "errors only": "exec SERVER -HRl0 0 $PORT env 2>&1",
    "delay and options": "exec SERVER -vDoHRl0 -b 50 0 $PORT env",
    "paranoid without names": "exec SERVER -vpXHRl0 -xnone.cdb 0 $PORT env",
    "timeout": "exec SERVER -vHRt5 -l0 0 $PORT env",
    "port mod 65536": "exec SERVER -vHRl0 127.0.0.1 `expr $PORT + 65536` env",
    "environment": "exec env - PATH=\"$PATH\" TERM=dumb SERVER -vHRl0 0 $PORT env",
    "envdir": "exec envdir ./env SERVER -vHRl0 0 $PORT env",
    "no exec": "SERVER -vHRl0 0 $PORT env",
    "log through a pipe": "SERVER -vHRl0 0 $PORT env 2>&1 | cat",
    "no program": "exec SERVER -vHRl0 0 $PORT",
    "no port": "exec SERVER -vHRl0 0",
    "program before the port": "exec SERVER -vHRl0 0 env $PORT",
    "unset variables, unquoted": "exec SERVER -vHR -l $UNSET -c $MAX 0 $PORT env",
    "unset variables, quoted": 'exec SERVER -vHR -l "$UNSET" -c "$UNSET" 0 $PORT env',
    "an option of no server": "exec SERVER -vHRl0 -k 0 $PORT env",
}  # fmt: skip
ROOTS = {
    "user and group": 'exec SERVER -v -R -H -l "$LOCAL" -x rules.cdb -c "$MAX" '
    '-u "$U" -g "$G" 0 $PORT sh -c "id; env" 2>&1',
    "user and group, glued": "exec SERVER -vRHl0 -u$U -g$G 0 $PORT id",
    "in a cluster": "exec SERVER -vRHl0 -qvu$U -g $G 0 $PORT id",
    "of the environment": "exec $UID_ENV SERVER -URHl $ME -x$CDB -c$MAX -v 0 $PORT id",
    "envuidgid": "exec envuidgid nobody SERVER -vRHUl0 0 $PORT id",
    "setuidgid before": "exec setuidgid nobody SERVER -vRHl0 0 $PORT id",
    "a privileged port": "exec setuidgid nobody SERVER -vRHl0 127.0.0.1 1 id",
    "domain": "exec SERVER -vHRl0 -- 127.0.0.82 53 env",
    "domain by name": "exec SERVER -vHRl0 127.0.0.82 domain env",
    "smtp": 'exec SERVER -v -R -H -l "$LOCAL" -x rules.cdb -c "$MAX" -u "$U" -g "$G" 127.0.0.82 smtp env 2>&1',
}  # fmt: skip


# ours says which numbers it read as others than they say
_ODD = re.compile(rb"^\w+: warning: (?:[^\n]* is read as [\d+]+|a limit of 0: no connection is accepted)\n", re.M)


def outcome(server, script, place, port, address):
    """Return what a client gets, what is logged, and how it ends."""
    environ = {"PATH": PATH, "PORT": str(port), "HOME": "/"}
    (place / "run").write_text(f"#!/bin/sh{SETTINGS}{re.sub('SERVER', server, script)}\n")
    (place / "run").chmod(0o755)
    process = subprocess.Popen(
        ["./run"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=place, env=environ,
        start_new_session=True,
    )  # fmt: skip
    is_served = NOBODY_IS_SERVED.search(script) is None
    options = script.partition("$PORT")[0]
    verbosity = re.findall("[qQv]", "".join(re.findall(r" -(\w*)", options.partition("SERVER")[2])))
    is_told = verbosity[-1:] == ["v"]
    last = rb"end \d+ status \d+\ntcpserver: status: 0/" if is_served else rb"status: 0/0\n"
    try:
        answer = asked(process, address, is_served)
        if answer is not None:
            text = log(process, last) if is_told else b""
            for pid in servers_of(process):
                os.kill(pid, signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        text = (b"" if answer is None else text) + out + err
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    clean = re.sub(rb"(pid|ok|deny|end) \d+", rb"\1 PID", _ODD.sub(b"", text)).replace(b"pytcpserver: ", b"tcpserver: ")
    clean = re.sub(rb":\d+\n", b":CLIENT\n", clean.replace(b":%d " % port, b":PORT "))
    answer = answer and re.sub(rb"(PORT|_)=[^\n]*", rb"\1=", answer.replace(b":%d" % port, b":PORT"))
    return answer, clean, process.returncode


def asked(process, address, is_served):
    """Connect once the server listens, and return what comes; None if it has ended instead."""
    sock = until(lambda: connected(address) or process.poll() is not None, "nobody listens")
    if sock is True:
        return None
    got = b""
    with sock, contextlib.suppress(ConnectionError):
        while is_served and (piece := sock.recv(65536)):
            got += piece
    return got


def connected(address):
    with contextlib.suppress(ConnectionRefusedError):
        return socket.create_connection(address, timeout=20)
    return None


def log(process, last):
    """Return what is logged up to the line that matches."""
    text = b""

    def read(seconds):
        nonlocal text
        for file in select.select([process.stdout, process.stderr], [], [], seconds)[0]:
            text += os.read(file.fileno(), 65536)

    until(lambda: re.search(last, text), lambda: repr(text), wait=read)
    return text


def servers_of(process):
    """Return the server's pid: the script's own after an exec, else that of its child that is named so."""
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
        children = [int(pid) for pid in file.read().split()]
    with open(f"/proc/{process.pid}/comm", encoding="ascii") as file:
        is_script = file.read().strip() in ("run", "sh")
    if not is_script:
        return [process.pid]
    found = []
    for pid in children:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"tcpserver" in file.read():
                found.append(pid)
    return found


def furnish(place):
    place.chmod(0o755)
    (place / "max").write_text("12\n")
    (place / "env").mkdir()
    (place / "env" / "FROM_DIR").write_text("yes\n")
    source = b'127.:allow,RELAYCLIENT=""\n:deny\n'
    subprocess.run(["tcprules", "rules.cdb", "rules.tmp"], input=source, cwd=place, check=True)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_scripts(tmp_path, script):
    furnish(tmp_path)
    port = free_port()
    theirs, ours = (outcome(server, script, tmp_path, port, ("127.0.0.1", port)) for server in SERVERS)
    assert theirs == ours


@needs_root
@pytest.mark.parametrize("script", ROOTS.values(), ids=ROOTS)
def test_scripts_of_root(script):
    """Not in pytest's folder, where nobody else may look."""
    import fcntl
    import pathlib
    import tempfile

    uid, gid = pwd.getpwnam("nobody").pw_uid, grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_gid
    with tempfile.TemporaryDirectory() as place, open(__file__, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        place = pathlib.Path(place)
        furnish(place)
        port = free_port()
        number = 53 if "53" in script or "domain" in script else 25 if "smtp" in script else port
        address = ("127.0.0.82" if "127.0.0.82" in script else "127.0.0.1", number)
        theirs, ours = (outcome(server, script, place, port, address) for server in SERVERS)
    assert theirs == ours
    if script.endswith(" id"):
        assert theirs[0] is None or theirs[0].startswith(b"uid=%d(nobody) gid=%d(" % (uid, gid))
