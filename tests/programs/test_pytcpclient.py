"""pytcpclient as a program.

Beside the original it is in tests/interop/test_tcpclient.py; here is what that has not.
"""

import os
import socket
import subprocess
import sys
import threading

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
A, PTR, AAAA = 1, 12, 28
LOCAL6 = bytes(15) + b"\1"
NO_RULES = {"DNSREWRITEFILE": "/dev/null"}
USAGE = (
    b"tcpclient: usage: tcpclient [ -hHrRdDqQv ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] [ -l localname ] "
    b"[ -t timeoutinfo ] host port program\n"
)


def greet(listener):
    """Say `hi` and a client's lines back to all clients, until one says `end`."""
    while True:
        sock, _ = listener.accept()
        with sock, sock.makefile("rb") as lines:
            try:
                sock.sendall(b"hi\n")
                for line in lines:
                    if line == b"end\n":
                        return
                    sock.sendall(line)
            except OSError:
                pass


def greeting(family, address, scope=()):
    try:
        listener = socket.create_server((address, 0, *scope), family=family)
    except OSError as error:
        pytest.skip(f"{address}: {error}")
    thread = threading.Thread(target=greet, args=(listener,))
    thread.start()
    yield listener.getsockname()[1]
    with socket.socket(family) as sock:
        sock.connect(listener.getsockname())
        sock.sendall(b"end\n")
        thread.join()
    listener.close()


@pytest.fixture
def port():
    """The port of a server on 127.0.0.1 that greets."""
    yield from greeting(socket.AF_INET, "127.0.0.1")


@pytest.fixture
def port6():
    """The port of one on ::1."""
    yield from greeting(socket.AF_INET6, "::1")


def variables(out):
    """Return the variables about the connection that `env` printed, the client's port as N."""
    found = dict(line.split("=", 1) for line in out.decode().splitlines() if line.startswith(("TCP", "PROTO")))
    return {name: "N" if name.endswith("LOCALPORT") else value for name, value in found.items()}


def about(prefix, **values):
    return {prefix + name: value for name, value in values.items()}


def test_over_ipv6_the_program_knows_twice(run, port6):
    ends = {"LOCALPORT": "N", "LOCALIP": "::1", "LOCALHOST": "0", "REMOTEPORT": f"{port6}", "REMOTEIP": "::1"}
    wanted = {"PROTO": "TCP6", **about("TCP", **ends), **about("TCP6", **ends)}
    stale = {"TCP6REMOTEHOST": "stale", "TCP6INTERFACE": "stale", "TCPREMOTEINFO": "stale"}
    for arguments in (["-vRHl0", "::1"], ["-vRHl0", "[::1]"], ["-vRH6l0", "0"], ["-vRHl0", "-6", ""]):
        done = run("pytcpclient", *arguments, str(port6), "env", env=stale)
        assert (done.code, variables(done.out)) == (0, wanted)
        assert done.err == f"tcpclient: connected to ::1 port {port6}\n".encode()


def test_with_6_an_ipv4_address_is_written_as_an_ipv6_one(run, port):
    done = run("pytcpclient", "-vRH6l0", "-i", "127.0.0.9", "127.0.0.1", str(port), "env")
    ends = {"LOCALPORT": "N", "LOCALIP": "::ffff:127.0.0.9", "LOCALHOST": "0"}
    ends |= {"REMOTEPORT": f"{port}", "REMOTEIP": "::ffff:127.0.0.1"}
    assert variables(done.out) == {"PROTO": "TCP6", **about("TCP", **ends), **about("TCP6", **ends)}
    assert done.err == f"tcpclient: connected to ::ffff:127.0.0.1 port {port}\n".encode()


def test_without_6_an_ipv4_address_is_one_however_it_is_written(run, port):
    done = run("pytcpclient", "-RHl0", "::ffff:127.0.0.1", str(port), "env")
    ends = {"LOCALPORT": "N", "LOCALIP": "127.0.0.1", "LOCALHOST": "0"}
    assert variables(done.out) == {
        "PROTO": "TCP",
        **about("TCP", **ends, REMOTEPORT=f"{port}", REMOTEIP="127.0.0.1"),
    }


KINDS = [
    # options               host         line
    (["-4"],                "::1",       "no IP address for ::1"),
    (["-4"],                "six.test",  "no IP address for six.test"),
    (["-i", "127.0.0.1"],   "six.test",  "no IP address for six.test"),
    (["-i", "::1"],         "four.test", "no IP address for four.test"),
    (["-i", "::1"],         "127.0.0.1", "no IP address for 127.0.0.1"),
    (["-i", "127.0.0.1"],   "::1",       "no IP address for ::1"),
    (["-4i", "::1"],        "0",         "unable to bind socket: address family not supported"),
]  # fmt: skip


@pytest.fixture
def names(name_server):
    name_server.zone |= {
        (b"six.test", AAAA): [LOCAL6],
        (b"four.test", A): [socket.inet_aton("127.0.0.1")],
        (b"both.test", A): [socket.inet_aton("127.0.0.1")],
        (b"both.test", AAAA): [LOCAL6],
        b".".join([b"1", *[b"0"] * 31, b"ip6.arpa"]): [(PTR, name_server.name(b"Six.Test"))],
        (b"1.0.0.127.in-addr.arpa", PTR): [name_server.name(b"four.test")],
    }
    return {"PYQMAIL_DNS": f"127.0.0.1:{name_server.port}", **NO_RULES}


@pytest.mark.parametrize("options, host, line", KINDS)
def test_addresses_of_the_other_kind_are_left_out(run, names, options, host, line):
    done = run("pytcpclient", "-RHl0", *options, host, "1", "env", env=names)
    assert done == (111, b"", f"tcpclient: fatal: {line}\n".encode())


@pytest.mark.parametrize("options, host", [([], "six.test"), (["-6"], "both.test"), (["-i", "::1"], "both.test")])
def test_names_lead_to_ipv6(run, names, port6, options, host):
    done = run("pytcpclient", "-R", *options, host, str(port6), "env", env=names)
    assert done.err == b""
    found = variables(done.out)
    assert {found[name] for name in ("TCPLOCALHOST", "TCPREMOTEHOST", "TCP6LOCALHOST", "TCP6REMOTEHOST")} == {
        "six.test"
    }


TO_IPV4 = [
    # options  host         the server's address
    ([],       "four.test", "127.0.0.1"),
    (["-4"],   "four.test", "127.0.0.1"),
    (["-6"],   "four.test", "::ffff:127.0.0.1"),
    ([],       "both.test", "127.0.0.1"),
    (["-4"],   "both.test", "127.0.0.1"),
]  # fmt: skip


@pytest.mark.parametrize("options, host, ip", TO_IPV4)
def test_names_lead_to_ipv4(run, names, port, options, host, ip):
    done = run("pytcpclient", "-R", *options, host, str(port), "env", env=names)
    found = variables(done.out)
    assert (found["TCPREMOTEIP"], found["TCPREMOTEHOST"], done.err) == (ip, "four.test", b"")


def test_a_name_that_cannot_be_found_out_is_unset(run, names, name_server, port):
    name_server.zone[b"1.0.0.127.in-addr.arpa", PTR] = "servfail"
    name_server.zone[b"2.0.0.127.in-addr.arpa", PTR] = []
    stale = {"TCPLOCALHOST": "stale", "TCPREMOTEHOST": "stale"}
    done = run("pytcpclient", "-R", "-i", "127.0.0.2", "127.0.0.1", str(port), "env", env={**names, **stale})
    found = variables(done.out)
    assert found["TCPLOCALHOST"] == ""
    assert "TCPREMOTEHOST" not in found


@pytest.mark.parametrize("interface, code", [("lo", 0), ("no-such", 100), ("", 100)])
def test_an_interface_must_be_there(run, port6, interface, code):
    done = run("pytcpclient", "-RHl0", "-I", interface, "::1", str(port6), "true")
    complaint = f"tcpclient: no such interface: {interface}\n".encode() + USAGE
    assert done == (code, b"", complaint if code else b"")


@pytest.fixture
def near():
    """(address, interface, port) of a server at a link-local address of this machine."""
    with open("/proc/net/if_inet6", encoding="ascii") as file:
        found = [line.split() for line in file if line.startswith("fe80")]
    if not found:
        pytest.skip("no link-local address")
    address, interface = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(found[0][0])), found[0][5]
    for port in greeting(socket.AF_INET6, address, (0, socket.if_nametoindex(interface))):
        yield address, interface, port


def test_an_interface_leads_to_a_link_local_address(run, near):
    address, interface, port = near
    done = run("pytcpclient", "-RHl0", "-I", interface, "-i", address, address, str(port), "env")
    found = variables(done.out)
    assert {found[name] for name in ("TCPLOCALIP", "TCPREMOTEIP", "TCP6LOCALIP", "TCP6REMOTEIP")} == {address}
    assert (found["TCP6INTERFACE"], done.err) == (interface, b"")
    failed = run("pytcpclient", "-RHl0", address, str(port), "env")
    line = f"tcpclient: unable to connect to {address} port {port}: invalid argument\n"
    assert failed == (111, b"", line.encode())


@pytest.mark.parametrize("address", [":", "::1x", "1.2.3", "fe80::1%lo"])
def test_our_own_address_must_be_one(run, address):
    assert run("pytcpclient", "-i", address, "0", "1", "true") == (100, b"", USAGE)


def test_a_program_of_ours_has_the_connection_too(run, port, tmp_path):
    script = "head -n 1 <&6; echo there >&7; head -n 1 <&6; cat; echo off >&2; exit 4"
    chain = ["pysetlock", "lock", "pyenvdir", "env", "sh", "-c", script]
    (tmp_path / "env").mkdir()
    done = run("pytcpclient", "-RHl0", "0", str(port), *chain, input=b"mine\n", cwd=tmp_path)
    assert done == (4, b"hi\nthere\nmine\n", b"off\n")


def test_the_programs_own_path_is_not_where_it_is_searched(run, port, tmp_path):
    (tmp_path / "own").write_text("#!/bin/sh\necho own $PROTO\n")
    (tmp_path / "own").chmod(0o755)
    done = run("pytcpclient", "-RHl0", "0", str(port), "own", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done == (0, b"own TCP\n", b"")
    done = run("pytcpclient", "-RHl0", "0", str(port), "own")
    assert done == (111, b"", b"tcpclient: fatal: unable to run own: file does not exist\n")


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "0<&-", "0<&- 1>&- 2>&-"])
def test_the_connection_never_takes_the_place_of_0_1_or_2(port, closed, tmp_path):
    script = f'exec "$@" {closed}'
    client = [sys.executable, f"{ROOT}/bin/pytcpclient", "-vRHl0", "0", str(port)]
    program = ["sh", "-c", "head -n 1 <&6 >out; echo mine; echo mine >&2; echo there >&7; head -n 1 <&6 >>out"]
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["sh", "-c", script, "sh", *client, *program], cwd=tmp_path, env=environ, capture_output=True, timeout=60
    )
    assert (done.returncode, (tmp_path / "out").read_bytes()) == (0, b"hi\nthere\n")


def test_too_few_descriptors_are_told(run, port):
    client = [sys.executable, f"{ROOT}/bin/pytcpclient", "-RHl0", "0", str(port), "true"]
    environ = {"PATH": os.environ["PATH"]}
    for limit, number in ((6, 6), (7, 7)):
        done = subprocess.run(
            ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *client], env=environ, capture_output=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (
            111,
            f"tcpclient: fatal: unable to set up descriptor {number}: file descriptor not open\n".encode(),
        )


def test_help(run):
    done = run("pytcpclient", "--help")
    assert done.code == 0
    assert done.out.startswith(b"usage: pytcpclient [ -46 ] [ -I IFNAME ] [ -hHrRdDqQv ]")
