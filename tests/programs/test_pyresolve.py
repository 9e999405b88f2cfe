"""pyresolve as a program, on pipes, with a real small name server."""

import os
import socket
import subprocess
import sys

import pytest

from pyqmail.programs import pyresolve
from pyqmail.protocol.wires import resolve_wire as wire
from pyqmail.protocol.wires.frames import strings
from pyqmail.system import resolver
from pyqmail.system.driver import drive

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def ask(run, name_server):
    """ask(frames) -> {number: (kind, body)}: all questions at once, then the end."""

    def ask_all(frames):
        questions = b"".join(wire.pack(*frame) for frame in frames)
        env = {"PYQMAIL_DNS": f"127.0.0.1:{name_server.port}"}
        code, out, err = run("pyresolve", input=questions, env=env)
        assert (code, err) == (0, b"")
        answers = wire.Unpacker().receive(out)
        assert len(answers) == len(frames)
        return {number: (kind, body) for kind, number, body in answers}

    return ask_all


def test_each_question_has_its_answer(ask, name_server):
    name_server.zone |= {
        (b"d.test", 15): [b"\0\x0a" + name_server.name(b"mx.test")],
        (b"mx.test", 1): [socket.inet_aton("10.0.0.1"), socket.inet_aton("10.0.0.2")],
        (b"bad.test", 15): [b"\0\x0a" + name_server.name(b"gone.test")],
        (b"1.0.0.10.in-addr.arpa", 12): [name_server.name(b"mx.test")],
        (b"t.test", 16): [b"\2ab\1c"],
        b"ill.test": "servfail",
    }
    answers = ask(
        [
            (wire.EXCHANGERS, 1, strings(b"d.test")),
            (wire.EXCHANGERS, 2, strings(b"bad.test")),
            (wire.EXCHANGERS, 3, strings(b"gone.test")),
            (wire.EXCHANGERS, 4, strings(b"ill.test")),
            (wire.EXCHANGERS, 5, strings(b"[10.0.0.7]")),
            (wire.ADDRESSES, 6, strings(b"mx.test")),
            (wire.ADDRESSES, 7, strings(b"t.test")),
            (wire.NAME, 8, strings(b"10.0.0.1")),
            (wire.NAME, 9, strings(b"10.0.0.2")),
            (wire.TEXT, 10, strings(b"t.test")),
        ]
    )
    assert answers == {
        1: (wire.FOUND, wire.exchangers_body([(10, b"mx.test", b"10.0.0.1"), (10, b"mx.test", b"10.0.0.2")])),
        2: (wire.NO_RECORD, b""),
        3: (wire.NO_HOST, b""),
        4: (wire.SOFT, strings(b"temporary failure")),
        5: (wire.FOUND, wire.exchangers_body([(0, b"10.0.0.7", b"10.0.0.7")])),
        6: (wire.FOUND, strings(b"10.0.0.1", b"10.0.0.2")),
        7: (wire.NO_RECORD, b""),
        8: (wire.FOUND, strings(b"mx.test")),
        9: (wire.FOUND, b""),
        10: (wire.FOUND, strings(b"abc")),
    }


def test_a_thousand_questions(ask, name_server):
    name_server.zone |= {(b"h%d.test" % i, 1): [socket.inet_aton(f"10.0.{i // 256}.{i % 256}")] for i in range(500)}
    frames = [(wire.ADDRESSES, i, strings(b"h%d.test" % (i % 500))) for i in range(1000)]
    answers = ask(frames)
    assert all(answers[i] == answers[i + 500] and answers[i][0] == wire.FOUND for i in range(500))
    assert max(name_server.asked.values()) == 1


@pytest.mark.parametrize(
    "nonsense",
    [b"GET / HTTP/1.0\r\n\r\n", wire.pack(99, 1, strings(b"d.test")), wire.pack(1, 1, b""), wire.pack(1, 1, b"no end")],
)
def test_nonsense_ends_it(run, nonsense):
    assert run("pyresolve", input=nonsense) == (111, b"", b"pyresolve: fatal: nonsense on descriptor 0\n")


def test_no_answer_from_strangers_ends_it(ask, name_server):
    """pysend ends with its resolver: a domain that could end it would hold up all mail."""
    long = b".".join([b"x" * 63] * 3 + [b"x" * 50])
    many = [socket.inet_aton(f"10.0.{i // 256}.{i % 256}") for i in range(4000)]
    name_server.zone |= {
        (b"chaos.test", 1): [(1, b"\1x\0\0\5", 3)],
        (b"chaos.test", 28): [(28, bytes(16), 255)],
        (b"big.test", 15): [b"\0\1" + name_server.name(b"%d." % i + long) for i in range(5)],
        (b"six.test", 28): [bytes(15) + b"\1"],
        **{b"%d." % i + long: "cut" for i in range(5)},
        **{(b"%d." % i + long, 1): many for i in range(5)},
    }
    names = (b"chaos.test", b"big.test", b"six.test")
    answers = ask([(wire.EXCHANGERS, number, strings(name)) for number, name in enumerate(names)])
    assert answers[0] == (wire.NO_HOST, b"")
    assert answers[1][0] == wire.FOUND and answers[2] == (wire.FOUND, strings(b"0", b"six.test", b"::1"))


def test_that_no_server_answers_is_said_once_a_minute(run):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    questions = [wire.pack(wire.ADDRESSES, number, strings(b"d%d.test" % number)) for number in (1, 2)]
    code, out, err = run("pyresolve", input=b"".join(questions), env={"PYQMAIL_DNS": f"127.0.0.1:{port}"})
    answers = wire.Unpacker().receive(out)
    assert [(kind, body) for kind, _, body in answers] == [(wire.SOFT, strings(b"connection refused"))] * 2
    what = "pyresolve: warning: no name server answers (127.0.0.1 port %d), asked about d%d.test: connection refused\n"
    assert code == 0 and err.decode() in [what % (port, number) for number in (1, 2)]


def test_an_answer_of_too_many_records_is_a_failure_that_may_pass_and_a_line(run, name_server):
    name_server.zone |= {b"d\t.test": "cut", (b"d\t.test", 15): [(99, b"")] * 4097}
    name_server.zone[b"good.test", 1] = [socket.inet_aton("10.0.0.1")]
    questions = [
        wire.pack(wire.EXCHANGERS, 1, strings(b"d\t.test")),
        wire.pack(wire.ADDRESSES, 2, strings(b"good.test")),
    ]
    env = {"PYQMAIL_DNS": f"127.0.0.1:{name_server.port}"}
    code, out, err = run("pyresolve", input=b"".join(questions), env=env)
    assert (code, err) == (0, b"pyresolve: warning: too many records in the answer about d?.test\n")
    assert sorted(wire.Unpacker().receive(out)) == sorted(
        [(wire.SOFT, 1, strings(b"too many records")), (wire.FOUND, 2, strings(b"10.0.0.1"))]
    )


class Failing:
    def __init__(self, failure):
        self.failure, self.has_forgotten = failure, False

    async def addresses(self, name):
        raise self.failure

    def forget(self):
        self.has_forgotten = True


@pytest.mark.parametrize("failure, words", [(MemoryError(), b"out of memory"), (resolver.Lack("no more"), b"no more")])
def test_what_is_missing_here_is_told_apart_from_what_a_server_did(failure, words):
    known = Failing(failure)
    assert drive(pyresolve.answer(known, wire.ADDRESSES, strings(b"d.test"))) == (wire.UNABLE, strings(words))
    assert known.has_forgotten == isinstance(failure, MemoryError)


def test_under_a_limit_of_memory_less_is_remembered(run):
    code = "from pyqmail.programs.pyresolve import *; import resource as r; r.setrlimit(r.RLIMIT_DATA, (40 << 20, -1))"
    code += "; print(remembered_bytes())"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT})
    assert int(done.stdout) == 10 << 20


def test_no_questions(run):
    assert run("pyresolve") == (0, b"", b"")


def test_one_stream_both_ways_and_nobody_waits_for_slow_servers(name_server):
    name_server.zone[b"d.test", 1] = [socket.inet_aton("10.0.0.1")]
    ours, theirs = socket.socketpair()
    environ = {**os.environ, "PYQMAIL_DNS": f"127.0.0.1:{name_server.port}"}
    with ours, theirs:
        process = subprocess.Popen([sys.executable, f"{ROOT}/bin/pyresolve"], stdin=theirs, stdout=theirs, env=environ)
        theirs.close()
        ours.settimeout(30)
        name_server.zone |= {b"slow%d.test" % number: "silent" for number in range(400)}
        for number in range(400):
            ours.sendall(wire.pack(wire.ADDRESSES, 3 + number, strings(b"slow%d.test" % number)))
        ours.sendall(wire.pack(wire.ADDRESSES, 2, strings(b"d.test")))
        unpacker, answers = wire.Unpacker(), []
        while not answers:
            answers += unpacker.receive(ours.recv(4096))
        assert answers == [(wire.FOUND, 2, strings(b"10.0.0.1"))]
    # who asked has gone: the questions that are still open keep it no longer
    assert process.wait(timeout=10) == 0
