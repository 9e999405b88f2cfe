"""pydate@ asks port 13 of servers of the test's own.  Beside the original: tests/interop/test_at_programs.py"""


def test_what_the_server_says_is_shown_and_made_visible(run, one_call):
    server = one_call(b"first\r\n\x1b]0;x\x07", b"\r\n", b"l\xe4st", port=13)
    assert run("pydate@", server.host) == (0, b"first\n^[]0;x^G\nlM-dst", b"")
    assert server.heard() == b""


def test_nobody_there(run):
    code, out, err = run("pydate@", "127.255.1.1")
    assert (code, out) == (0, b"")
    assert err == b"tcpclient: unable to connect to 127.255.1.1 port 13: connection refused\n"


def test_no_such_host(run):
    assert run("pydate@", "127.1") == (0, b"", b"tcpclient: fatal: no IP address for 127.1\n")
