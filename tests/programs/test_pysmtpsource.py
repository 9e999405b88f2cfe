"""pysmtpsource as a program, against pysmtpsink and against servers that misbehave."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def sink():
    """sink(*options, program="pysmtpsink") -> its address.  .reports() ends all, and returns their last words."""
    started = []

    def start(*options, program="pysmtpsink", where="127.0.0.1:0"):
        process = subprocess.Popen(
            [sys.executable, f"{ROOT}/bin/{program}", "--announce", "--json", *options, where, "100"],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process.stdout.readline().strip()

    def reports():
        found = []
        for process in started:
            process.send_signal(signal.SIGTERM)
            found.append(json.loads(process.communicate()[0]))
        started.clear()
        return found

    start.reports = reports
    yield start
    for process in started:
        process.kill()
        process.communicate()


def source(run, *words, program="pysmtpsource"):
    code, out, err = run(program, "--json", *words)
    return code, json.loads(out) if out else None, err.decode()


@pytest.mark.parametrize("options, sessions", [
    (["-m", "10"], 10), (["-m", "10", "-s", "3"], 10), (["-d", "-m", "10", "-s", "3"], 3),
    (["-d", "-m", "10", "-s", "3", "--pipelining"], 3), (["-m", "10", "-s", "4", "--processes", "2"], 10),
    (["-o", "-m", "10"], 10), (["-N", "-m", "10"], 10), (["-l", "300000", "-m", "10"], 10),
    (["-T", "4096", "-l", "100000", "-m", "10"], 10), (["-w", "0.001", "-R", "0.001", "-m", "10"], 10),
    (["-4", "-m", "10", "--local", "127.0.0.2,127.0.0.3"], 10), (["--rate", "1000", "-m", "10"], 10),
    (["-C", "3", "-f", "a@b", "-t", "c@d", "-M", "me.example", "-S", "x", "-m", "10", "--timeout", "60"], 10),
])  # fmt: skip
def test_all_messages_arrive(run, sink, options, sessions):
    address = sink()
    code, said, err = source(run, *options, address)
    assert (code, err, said["messages"], said["refused"], said["failed"]) == (0, "", 10, {}, {})
    assert said["sessions"] == sessions
    assert set(said["latency_seconds"]) == {"first_reply", "message", "session"}
    [counted] = sink.reports()
    assert (counted["messages"], counted["recipients"], counted["sessions"]) == (10, 10, sessions)


def test_recipients_and_lmtp(run, sink, tmp_path):
    address = sink("-L", where=f"unix:{tmp_path}/s")
    code, said, _ = source(run, "-L", "-r", "5", "-m", "2", f"unix:{address}")
    assert (code, said["messages"], said["recipients"]) == (0, 2, 10)
    assert sink.reports()[0]["recipients"] == 10
    assert not os.path.exists(address)


def test_a_file_is_sent_as_it_stands(run, sink, tmp_path):
    (tmp_path / "message").write_bytes(b"Subject: x\n\n.dots\n..\nlast without an end")
    address = sink("-d", f"{tmp_path}/taken-")
    assert source(run, "-F", str(tmp_path / "message"), address)[0] == 0
    [taken] = [path for path in tmp_path.iterdir() if path.name.startswith("taken-")]
    assert taken.read_bytes().endswith(b"\nSubject: x\n\n.dots\n..\nlast without an end\n\n")


def test_the_first_refusal_ends_it_unless_it_is_patient(run, sink):
    address = sink("-r", "RCPT")
    code, said, err = source(run, "-m", "100", address)
    assert (code, said["messages"], said["refused"]) == (1, 0, {"RCPT 450": 1})
    assert err == "pysmtpsource: fatal: RCPT was refused: 450 4.3.0 Error: command failed\n"
    code, said, err = source(run, "-A", "-m", "100", "-s", "10", "-d", address)
    assert (code, err, said["refused"]) == (1, "", {"RCPT 450": 100})


def test_nobody_listens(run):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    code, said, err = source(run, "-C", "2", f"127.0.0.1:{port}")
    assert (code, said["failed"]) == (1, {"connection refused": 1})
    assert err == "pysmtpsource: fatal: connection refused at message 1\n"


def test_a_silent_server_is_given_up(run, sink):
    code, said, _ = source(run, "-A", "--timeout", "0.1", "-m", "2", "-s", "2", sink("--model", "silent"))
    assert (code, said["failed"]) == (1, {"no answer in time": 2})


def test_what_one_session_meets_is_no_other_ones(run, sink):
    address = sink("--model", "session-limit limit=1", "-W", "DATA:0.05")
    code, said, _ = source(run, "-A", "-m", "30", "-s", "3", address)
    assert code == 1 and said["messages"] + said["refused"]["CONNECT 421"] == 30 and said["messages"] >= 1


def test_a_signal_ends_it_with_a_report(sink):
    address = sink("-W", "DATA:0.01")
    process = subprocess.Popen(
        [sys.executable, f"{ROOT}/bin/pysmtpsource", "--json", "-c", "-m", "0", "--processes", "2", "-s", "2", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert " messages, " in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 1 and json.loads(out)["messages"] > 0
    assert err.endswith("pysmtpsource: fatal: ended by a signal\n")


def test_it_ends_after_some_seconds(run, sink):
    code, said, _ = source(run, "-m", "0", "--seconds", "0.2", sink())
    assert code == 0 and said["messages"] > 0


def test_what_a_person_reads(run, sink):
    code, out, err = run("pysmtpsource", "-v", sink())
    lines = out.decode().splitlines()
    assert code == 0 and lines[0].startswith("1 messages, 1 recipients, ")
    assert [line.partition(":")[0] for line in lines[1:]] == ["first_reply", "message", "session"]
    assert b"> QUIT" in err and b"< 220 pysmtpsink ESMTP" in err


@pytest.mark.parametrize("words, complaint", [
    (["-s", "0", "x"], "not at least 1: 0"), (["--rate", "0", "x"], "no rate from 0.001 to 1000000: 0"),
    (["--processes", "1001", "x"], "more than 1000 processes: 1001"), (["-w", "-1", "x"], "no number of seconds: -1"),
    (["--rate", "x", "y"], "not a number: x"), (["--local", "127.0.0.1,x", "y"], "no address: x"),
    (["127.0.0.1:65536"], "above 65535: 65536"), ([":25"], "no host: :25"), (["unix:"], "no path after unix:"),
])  # fmt: skip
def test_a_wrong_command_line(run, words, complaint):
    code, out, err = run("pysmtpsource", *words)
    assert (code, out) == (100, b"")
    assert err.decode().splitlines()[0] == f"pysmtpsource: {complaint}"


def test_a_host_that_is_none(run):
    assert run("pysmtpsource", "nowhere.invalid")[0] == 111
    assert run("pysmtpsource", "-f", "a b", "127.0.0.1") == (100, b"", b"pysmtpsource: fatal: no address: b'a b'\n")


def test_its_messages_reach_the_peer_and_the_other_way_round(run, sink):
    import shutil

    if shutil.which("smtp-source") is None:
        pytest.skip("needs Postfix's smtp-source")
    address = sink()
    subprocess.run(["smtp-source", "-s", "3", "-m", "20", "-r", "2", "-l", "1000", address], check=True)
    [counted] = sink.reports()
    assert (counted["messages"], counted["recipients"], counted["sessions"]) == (20, 40, 20)
