"""kill -9 of each process in turn, twenty times, under load: what was acknowledged is delivered at least once.

Half of the messages go to the local user's Maildir, half to a server of ours on loopback.  Duplicates are
allowed after a crash; they are counted and printed (pytest -s).
"""

import os
import signal
import smtplib
import socketserver
import subprocess
import sys
import threading

import pytest

from tests.folders import open_folder
from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KILLS = 20
ROLES = [
    "pytcpserver", "pysmtpd", "pyqueued", "pysend", "pylspawn", "pylocal", "pyrspawn", "pyclean", "pyresolve",
    "pysupervise", "pymultilog",
]  # fmt: skip

pytestmark = pytest.mark.long


class Sink(socketserver.ThreadingTCPServer):
    """An SMTP server that accepts everything and remembers the subjects."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self):
        self.subjects, self.lock = [], threading.Lock()
        super().__init__(("127.0.0.1", 0), SinkSession)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class SinkSession(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            self.converse()
        except OSError:
            pass  # the sender was killed

    def converse(self):
        self.wfile.write(b"220 sink\r\n")
        for line in self.rfile:
            verb = line.strip().upper()[:4]
            if verb == b"DATA":
                self.wfile.write(b"354 go\r\n")
                subject = b""
                for text in self.rfile:
                    if text.lower().startswith(b"subject: ") and not subject:
                        subject = text[9:].strip()
                    if text == b".\r\n":
                        break
                else:
                    return
                with self.server.lock:
                    self.server.subjects.append(subject.decode())
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


class Load(threading.Thread):
    """One client that sends as fast as it is served; `acknowledged` is what got 250."""

    def __init__(self, port, name, me):
        super().__init__(daemon=True)
        self.port, self.label, self.me = port, name, me
        self.acknowledged, self.stopping = [], threading.Event()

    def run(self):
        count = 0
        while not self.stopping.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as client:
                    client.ehlo("load")
                    while not self.stopping.is_set():
                        count += 1
                        subject, to = f"{self.label}-{count}", f"demo@{self.me}" if count % 2 else "to@remote.example"
                        client.mail("")
                        client.rcpt(to)
                        if client.data(f"Subject: {subject}\r\n\r\n{'x' * 1000}\r\n".encode())[0] == 250:
                            self.acknowledged.append(subject)
                        if count % 10 == 0:
                            break
            except (OSError, smtplib.SMTPException):
                self.stopping.wait(0.05)


def processes_of(home, name):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                if file.read().strip() != name:
                    continue
            with open(f"/proc/{pid}/environ", "rb") as file, open(f"/proc/{pid}/stat", encoding="utf-8") as state:
                if (
                    f"PYQMAIL_HOME={home}\0".encode() in file.read()
                    and state.read().rpartition(")")[2].split()[0] != "Z"
                ):
                    found.append(int(pid))
        except OSError:
            continue
    return sorted(found)


@pytest.fixture
def system(tmp_path_factory):
    """(home, port, me, sink) of a running private home that relays remote.example to the sink."""
    import shutil

    folder = open_folder("pyq")
    home, sink = f"{folder}/home", Sink()
    environ = {
        "PATH": f"{ROOT}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "PYQMAIL_HOME": home,
    }
    os.makedirs(f"{home}/control")
    open(f"{home}/private", "w").close()
    with open(f"{home}/control/smtproutes", "w", encoding="ascii") as file:
        file.write(f"remote.example:127.0.0.1:{sink.server_address[1]}\n")
    installed = f"{os.path.dirname(sys.executable)}/pyqmail"  # whose #! line lets ps show a program's own name
    process = subprocess.Popen([installed, "run", "--port", "0"], env=environ, stdout=subprocess.PIPE, text=True)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("Running."):
            break
    else:
        pytest.fail("".join(said))
    port = int(next(line for line in said if "--port" in line).partition("--port ")[2].split()[0])
    with open(f"{home}/control/me", encoding="ascii") as file:
        yield home, port, file.read().strip(), sink
    process.terminate()
    process.wait(20)
    process.stdout.close()
    sink.shutdown()
    sink.server_close()
    shutil.rmtree(folder)


def subjects_in(home):
    folder, found = f"{home}/home/demo/Maildir/new", []
    for name in os.listdir(folder):
        with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as file:
            found.append(next((line[9:].strip() for line in file if line.startswith("Subject: ")), ""))
    return found


def is_empty(home):
    """Ask pysend to try everything again, and say whether nothing is queued."""
    for pid in processes_of(home, "pysend"):
        os.kill(pid, signal.SIGALRM)
    ids = [name for _, _, names in os.walk(f"{home}/queue/info") for name in names] + os.listdir(f"{home}/queue/todo")
    return not ids


@pytest.mark.parametrize("role", ROLES)
def test_acknowledged_is_delivered(system, role):
    home, port, me, sink = system
    load = [Load(port, f"{role}{number}", me) for number in range(4)]
    for client in load:
        client.start()

    def count():
        return sum(len(client.acknowledged) for client in load)

    kills = 0
    for _ in range(KILLS):
        before = count()
        until(lambda before=before: count() >= before + 20, f"no progress after {kills} kills of {role}")
        victims = until(lambda: processes_of(home, role))
        assert victims, f"no {role} after {kills} kills"
        os.kill(victims[kills % len(victims)], signal.SIGKILL)
        kills += 1
    before = count()
    until(lambda: count() >= before + 20)
    for client in load:
        client.stopping.set()
    for client in load:
        client.join(30)
    until(lambda: is_empty(home), "the queue does not become empty", seconds=120)
    acknowledged = {subject for client in load for subject in client.acknowledged}
    delivered = subjects_in(home) + sink.subjects
    lost = acknowledged - set(delivered)
    print(
        f"{role}: {kills} kills, {len(acknowledged)} acknowledged, "
        f"{len(delivered) - len(set(delivered))} duplicates, {len(lost)} lost"
    )
    assert not lost
