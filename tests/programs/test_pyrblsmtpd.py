"""pyrblsmtpd past the original: -i, -w, -W, IPv6.  Beside the original: tests/interop/test_rblsmtpd.py."""

import re
import subprocess

import pytest

from tests.processes import is_asleep
from tests.waiting import until

TXT = 16
REFUSED = b"220 rblsmtpd.local\r\n"
NIBBLES = b"1" + b".0" * 31


@pytest.fixture
def ask(run, name_server):
    """ask(*arguments, env={}) -> Result of pyrblsmtpd for ::1, which the list `bad` knows; no process number."""
    name_server.zone[NIBBLES + b".bad", TXT] = [b"\5Bad\n!"]

    def program(*arguments, env=None):
        environ = {"PYQMAIL_DNS": f"127.0.0.1:{name_server.port}", "TCPREMOTEIP": "::1", **(env or {})}
        result = run("pyrblsmtpd", *arguments, env=environ)
        return result._replace(err=re.sub(rb"pid \d+", b"pid PID", result.err))

    return program


SHOW = ["sh", "-c", "echo ${RBLSMTPD-unset}"]


def test_an_ipv6_client_on_a_list(ask):
    assert ask("-br", "bad", *SHOW) == (0, REFUSED, b"rblsmtpd: ::1 pid PID: 553 Bad?!\n")
    assert ask("-r", "other", *SHOW) == (0, b"unset\n", b"")


def test_only_informing(ask):
    informed = (0, b"[RBL info] Bad?!\n", b"rblsmtpd: ::1 pid PID: [RBL info] Bad?!\n")
    assert ask("-i", "-r", "bad", *SHOW) == informed
    assert ask("-br", "bad", "-i", *SHOW) == informed
    assert ask("-ir", "other", *SHOW) == (0, b"unset\n", b"")
    assert ask("-icr", "x" * 64, *SHOW).out == b"[RBL info] temporary RBL lookup error\n"


def test_informing_does_not_touch_what_the_variable_decides(ask):
    assert ask("-i", "-r", "bad", *SHOW, env={"RBLSMTPD": "no"}).out == REFUSED
    assert ask("-i", "-r", "bad", *SHOW, env={"RBLSMTPD": ""}) == (0, b"\n", b"")


@pytest.mark.parametrize(
    "options, environ, seconds",
    [
        (["-w1"], {}, 1),
        (["-w", "0"], {"GREETDELAY": "1"}, 1),
        (["-W"], {"GREETDELAY": "1x"}, 1),
        (["-W"], {"GREETDELAY": ""}, 0),
        (["-W"], {}, 0),
        (["-w0"], {}, 0),
        (["-w3"], {"RBLSMTPD": ""}, 0),
        (["-W"], {"RBLSMTPD": "", "GREETDELAY": "3"}, 0),
    ],
)
def test_the_greeting_is_delayed(ask, options, environ, seconds):
    result = ask(*options, "true", env=environ)
    assert result == (0, b"", b"rblsmtpd: ::1 pid PID: greetdelay: 1\n" if seconds else b"")


def test_nothing_is_said_before_the_delay_is_over(stage):
    environ = {**stage.environ(), "TCPREMOTEIP": "::1"}
    process = stage.start("pyrblsmtpd", "-w600", "echo", "said", env=environ, stdout=subprocess.PIPE)
    until(lambda: stage.err().endswith(b" greetdelay: 600\n") and is_asleep(process.pid))
    process.kill()
    assert process.communicate() == (b"", None)


def test_who_is_refused_does_not_wait(ask):
    assert ask("-r", "bad", "-w60", "true").out == REFUSED


def test_one_of_ours_is_not_executed(ask):
    assert ask("-r", "other", "pyargv0", "sh", "other", "-c", "echo $0").out == b"other\n"
