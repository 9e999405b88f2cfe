"""The cleaner and the status socket, from the page alone."""

import json
import os
import socket
import time

from tests.interop.wires.spoken import Stream

# the cleaner


def test_clean(part, home):
    for name in ("intd/46", "mess/0/46", "intd/47", "todo/47", "mess/1/47"):
        with open(f"{home.queue}/{name}", "wb"):
            pass
    os.mkdir(f"{home.queue}/todo/49")
    cleaner = part("pyclean", home=home)
    commands = [b"foop/46", b"todo/47", b"foop/48", b"todo/49", b"foop/x", b"foop/", b"food/46", b"foop/" + b"4" * 95]
    cleaner.put(b"".join(one + b"\0" for one in commands))
    assert cleaner.out.read(len(commands)) == b"+++!xxxx"
    left = [name for name in ("intd/46", "mess/0/46", "intd/47", "todo/47") if os.path.exists(f"{home.queue}/{name}")]
    assert left == [] and os.path.exists(f"{home.queue}/mess/1/47")
    assert cleaner.end() == 0


# the status socket

STATUS = [
    "version",
    "server",
    "pid",
    "since",
    "now",
    "serving_mode",
    "listening",
    "limit",
    "count",
    "is_ending",
    "workers",
    "limited",
    "connections",
]
ROW = ["number", "protocol", "ip", "port", "since", "state", "received", "sent", "idle_ms"]


def test_status(part, home, tmp_path):
    options = ("-HRl0", "-1", "-c7", "--workers", "1", "--status-socket", f"{tmp_path}/status")
    server = part("pytcpserver", *options, "127.0.0.1", "0", "pysmtpd", home=home)
    port = int(server.out.read_to(b"\n"))
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert Stream(client.fileno()).read_to(b"\n").startswith(b"220 ")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(f"{tmp_path}/status")
            assert os.stat(f"{tmp_path}/status").st_mode & 0o777 == 0o600
            status = json.loads(b"".join(iter(lambda: sock.recv(65536), b"")))
        ip, client_port = client.getsockname()
    assert list(status) == STATUS
    (row,) = status["connections"]
    assert list(row) == ROW
    assert (row["protocol"], row["ip"], row["port"]) == ("TCP", ip, client_port)
    assert status["version"] == 2 and status["server"] == "tcpserver" and status["pid"] == server.process.pid
    assert (status["limit"], status["count"], status["is_ending"]) == (7, 1, False)
    assert status["listening"] == [f"127.0.0.1:{port}"] and status["serving_mode"] == "worker pool"
    assert [worker["sessions"] for worker in status["workers"]] == [1]
    assert status["since"] <= row["since"] <= status["now"] <= time.time()
    server.process.terminate()
    assert server.wait() == 0
