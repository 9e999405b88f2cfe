"""pyqmqpsource as a program, against pyqmqpsink and our pyqmqpsink against Postfix's source."""

import json
import shutil
import subprocess

import pytest

from tests.programs.test_pysmtpsource import sink as sink  # a fixture
from tests.programs.test_pysmtpsource import source


@pytest.mark.parametrize(
    "options",
    [
        ["-m", "10"],
        ["-m", "10", "-s", "4", "-r", "3", "-l", "200000", "--processes", "2"],
        ["-m", "10", "--rate", "1000", "--local", "127.0.0.2", "--timeout", "60", "--seconds", "900"],
    ],
)
def test_all_messages_arrive(run, sink, options):
    address = sink(program="pyqmqpsink")
    code, said, err = source(run, *options, address, program="pyqmqpsource")
    assert (code, err, said["messages"], said["sessions"]) == (0, "", 10, 10)
    assert sink.reports()[0]["messages"] == 10


def test_the_peers_messages_arrive(sink):
    if shutil.which("qmqp-source") is None:
        pytest.skip("needs Postfix's qmqp-source")
    address = sink(program="pyqmqpsink")
    subprocess.run(["qmqp-source", "-s", "3", "-m", "20", "-l", "1000", address], check=True)
    assert sink.reports()[0]["messages"] == 20


def test_ours_arrive_at_a_qmqp_server_of_postfix_s_kind(run):
    if shutil.which("qmqp-sink") is None:
        pytest.skip("needs Postfix's qmqp-sink")
    from bench.machine import free_port
    from tests.waiting import until

    port = free_port()
    with subprocess.Popen(["qmqp-sink", f"127.0.0.1:{port}", "100"]) as peer:
        until(lambda: run("pyqmqpsource", f"127.0.0.1:{port}")[0] == 0)
        code, out, _ = run("pyqmqpsource", "--json", "-m", "5", "-s", "2", f"127.0.0.1:{port}")
        peer.kill()
    assert code == 0 and json.loads(out)["messages"] == 5
