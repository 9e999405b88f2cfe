"""The service directories as they are: who may have how many connections, who sees them, how much log stays."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENVIRON = {"PATH": f"{ROOT}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}


@pytest.fixture
def smtp(tmp_path):
    """smtp(rules, **settings) -> a port: services/pysmtpd/run in a private home, which is tmp_path."""
    running = []

    def serve(rules, **settings):
        for name in ("control", "queue", "run"):
            (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / "private").touch()
        (tmp_path / "control/me").write_text("here.example\n")
        subprocess.run(
            ["pytcprules", "control/smtp-rules.cdb", "control/tmp"], input=rules, cwd=tmp_path, env=ENVIRON, check=True
        )
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        where = {"SMTP_ADDRESS": "127.0.0.1", "SMTP_PORT": str(port), "PYQMAIL_HOME": str(tmp_path)}
        process = subprocess.Popen(
            [f"{ROOT}/services/pysmtpd/run"],
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env={**ENVIRON, **where, **settings},
        )
        running.append(process)
        assert process.stdout.readline() == b"tcpserver: status: 0/%s\n" % settings.get("SMTP_LIMIT", "1000").encode()
        return port

    yield serve
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.stdout.close()
        process.wait(timeout=20)


def greeted(port, count):
    """Return what each of so many connections at once is told first."""
    clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(count)]
    found = [client.recv(4) for client in clients]
    for client in clients:
        client.close()
    return found


def test_one_address_has_fifty_connections_and_a_network_more(smtp):
    assert greeted(smtp(b":allow\n"), 52) == [b"220 "] * 50 + [b""] * 2


@pytest.mark.parametrize("setting", ["SMTP_PER_ADDRESS", "SMTP_PER_NETWORK"])
def test_how_many_is_a_variable(smtp, setting):
    assert greeted(smtp(b":allow\n", **{setting: "2"}), 3) == [b"220 "] * 2 + [b""]


def test_who_may_relay_is_exempt(smtp):
    assert greeted(smtp(b'127.:allow,RELAYCLIENT=""\n'), 60) == [b"220 "] * 60


def test_a_rule_may_say_otherwise(smtp):
    assert greeted(smtp(b'127.:allow,MAXCONNIP="60"\n', SMTP_PER_ADDRESS="1"), 60) == [b"220 "] * 60


def test_pytcptop_works(smtp, tmp_path):
    port = smtp(b":allow\n", SMTP_LIMIT="77")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.recv(4)
        done = subprocess.run(
            ["pytcptop", tmp_path / "run/smtp.status"], capture_output=True, env=ENVIRON, timeout=30, check=True
        )
    assert b"127.0.0.1" in done.stdout and b"77" in done.stdout


@pytest.mark.parametrize("name", sorted(os.listdir(f"{ROOT}/services")))
def test_two_hundred_megabytes_of_log_stay(name):
    with open(f"{ROOT}/services/{name}/log/run") as file:
        found = re.findall(r's\$\{LOG_BYTES:-(\d+)\}" "n\$\{LOG_FILES:-(\d+)\}', file.read())
    assert found
    for size_bytes, files in found:
        assert (int(size_bytes) - 2000) * (int(files) - 1) >= 200_000_000 and int(size_bytes) <= 16_777_215


def test_every_setting_of_the_service_has_a_default():
    """With sh -u, as under a supervisor that gives it nothing."""
    with open(f"{ROOT}/services/pysmtpd/run") as file:
        script = file.read()
    bare = set(re.findall(r"\$\{?([A-Z_]+)", script)) - set(re.findall(r"\$\{([A-Z_]+):[-=]", script))
    assert bare <= {"PYQMAIL_HOME"}
