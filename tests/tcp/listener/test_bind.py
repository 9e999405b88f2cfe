"""What the word HOST opens.  Across processes, and with what is passed on: tests/interop/test_listening.py."""

import errno
import fcntl
import os
import socket
import stat
import threading

import pytest

from pyqmail.base.failure import Permanent, Temporary
from pyqmail.system import listener
from pyqmail.tcp.listener.bind import IP4, IP6, Binder, has_port, interface_number, shown_port


@pytest.fixture
def bind_sockets(tmp_path, monkeypatch):
    """bind_sockets(host, port=0, environ={}, **of_opening) -> sockets, closed with the test; in tmp_path."""
    monkeypatch.chdir(tmp_path)
    opened = []

    def make(host, port=0, environ=None, **how):
        sockets = Binder(20, **how).bind(host, port, {} if environ is None else environ)
        opened.extend(sockets)
        return sockets

    yield make
    for each in opened:
        each.close()


def shape(each):
    """Return (address, whether IPv4 clients are heard, whether IPv6 clients are)."""
    family = each.family
    if family == socket.AF_INET:
        return each.sock.getsockname()[0], True, False
    return each.sock.getsockname()[0], not each.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), True


WORDS = [
    # host                     how                 what listens
    ("",                       {},                 [("0.0.0.0", True, False)]),
    ("0",                      {},                 [("0.0.0.0", True, False)]),
    ("0",                      {"kinds": IP6},     [("::", False, True)]),
    (":0",                     {},                 [("::", True, True)]),
    (":0",                     {"kinds": IP4},     [("0.0.0.0", True, False)]),
    (":0",                     {"kinds": IP6},     [("::", False, True)]),
    ("::",                     {},                 [("::", False, True)]),
    ("[::1]",                  {},                 [("::1", False, True)]),
    ("0:0:0::1",               {"kinds": IP6},     [("::1", False, True)]),
    ("::ffff:127.0.0.1",       {},                 [("127.0.0.1", True, False)]),
    ("[127.000.0.1]",          {},                 [("127.0.0.1", True, False)]),
    ("0,::",                   {},                 [("0.0.0.0", True, False), ("::", False, True)]),
    ("127.0.0.1,127.0.0.2,::1", {},                [("127.0.0.1", True, False), ("127.0.0.2", True, False),
                                                    ("::1", False, True)]),
    ("::1,127.0.0.1,[::1],127.0.0.001", {},        [("::1", False, True), ("127.0.0.1", True, False)]),
]  # fmt: skip


@pytest.mark.parametrize("host, how, found", WORDS)
def test_words_for_addresses(bind_sockets, host, how, found):
    sockets = bind_sockets(host, **how)
    assert [shape(each) for each in sockets] == found
    ports = {each.local_port for each in sockets}
    assert ports == {shown_port(sockets)} and ports != {b"0"}  # all have the same
    assert not any(each.sock.getblocking() or os.get_inheritable(each.fileno()) for each in sockets)


WRONG = [
    # host                  how                 failure
    ("127.1",               {},                 "no IP address for 127.1"),
    ("::1",                 {"kinds": IP4},     "no IP address for ::1"),
    ("127.0.0.1",           {"kinds": IP6},     "no IP address for 127.0.0.1"),
    ("192.0.2.1",           {},                 "unable to bind: address not available"),
    ("127.0.0.1,192.0.2.1", {},                 "unable to bind 192.0.2.1: address not available"),
    ("0,127.0.0.1",         {},                 "unable to bind 127.0.0.1: address already used"),
    (":0,0",                {},                 "unable to bind 0: address already used"),
    ("127.0.0.1,/none/x",   {},                 "unable to bind /none/x: file does not exist"),
    ("./" + "x" * 106,      {},                 "unable to bind: file name too long"),
    ("fe80::1%nonesuch",    {},                 "no interface: nonesuch"),
    ("fd:99999999999999999999", {},          "unable to use descriptor 99999999999999999999: file descriptor not open"),
    ("127.0.0.1,127.0.0.2,fd:987", {},          "unable to use descriptor 987: file descriptor not open"),
    ("fd:987",              {},                 "unable to use descriptor 987: file descriptor not open"),
    ("fd:",                 {},                 "no sockets were passed on to us: LISTEN_FDS"),
]  # fmt: skip


@pytest.mark.parametrize("host, how, words", WRONG)
def test_what_cannot_be_listened_on(bind_sockets, host, how, words):
    with pytest.raises(Temporary) as failure:
        bind_sockets(host, **how)
    assert str(failure.value) == words


def test_an_empty_word_among_others_is_refused(bind_sockets):
    for host in (",", "127.0.0.1,", ",::1"):
        with pytest.raises(Permanent, match=f"empty word in {host}"):
            bind_sockets(host)


def test_a_port_that_is_taken_on_one_address_is_said(bind_sockets):
    with socket.create_server(("127.0.0.2", 0)) as taken, pytest.raises(Temporary) as failure:
        bind_sockets("127.0.0.1,127.0.0.2", taken.getsockname()[1])
    assert str(failure.value) == "unable to bind 127.0.0.2: address already used"


def test_names(bind_sockets, name_server):
    four, six = name_server.A, name_server.AAAA
    name_server.zone = {
        (b"both.example", four): [b"\x7f\0\0\5", b"\x7f\0\0\4"],
        (b"both.example", six): [bytes(15) + b"\1"],
        (b"six.example", six): [bytes(15) + b"\1"],
        b"broken.example": "servfail",
    }
    environ = name_server.environ() | {b"LOCALDOMAIN": b"example"}

    def first(host, **how):
        return bind_sockets(host, environ=environ, **how)[0].local_ip

    assert {first("both.example") for _ in range(8)} == {b"127.0.0.5"}  # the first of the answer
    assert first("both") == b"127.0.0.5"  # completed
    assert first("both.example", kinds=IP6) == first("six.example") == b"::1"
    for host, how, words in [
        ("six.example", {"kinds": IP4}, "no IP address for six.example"),
        ("none.example", {}, "no IP address for none.example"),
        ("::1,none.example", {}, "no IP address for none.example"),
        ("broken.example", {}, "temporarily unable to figure out IP address for broken.example: temporary failure"),
    ]:
        with pytest.raises(Temporary) as failure:
            first(host, **how)
        assert str(failure.value) == words


def test_a_link_local_address_has_its_interface_from_the_word_or_from_the_option(bind_sockets):
    with open("/proc/net/if_inet6", encoding="ascii") as file:
        entries = [line.split() for line in file if line.startswith("fe80")]
    if not entries:
        pytest.skip("no link-local address here")
    packed, index, _, _, _, name = entries[0]
    ip = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed))
    for host, how in [(f"{ip}%{name}", {}), (ip, {"interface": name}), (f"{ip}%{name}", {"interface": "lo"})]:
        (each,) = bind_sockets(host, **how)
        assert (each.local_ip, each.sock.getsockname()[3]) == (ip.encode(), int(index, 16))
    with pytest.raises(Temporary, match="unable to bind: invalid argument"):
        bind_sockets(ip)
    assert bind_sockets("::1", interface="lo")[0].local_ip == b"::1"


def test_names_of_interfaces():
    assert interface_number("lo") > 0
    with pytest.raises(ValueError, match="no interface: nonesuch"):
        interface_number("nonesuch")


def test_who_needs_a_port():
    assert [has_port(host) for host in ("0", "", "a/b,::1", "fd:x", "fd:0,x")] == [True] * 5
    assert [has_port(host) for host in ("./a", "/a,fd:0", "fd:")] == [False] * 3


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    return client


def test_a_unix_socket_is_made_and_removed(bind_sockets, tmp_path):
    for mode, seen in ((None, 0o755), (0o600, 0o600), (0o777, 0o777)):  # the umask is 022
        (each,) = bind_sockets("./s", mode=mode)
        assert stat.S_IMODE(os.lstat("s").st_mode) == seen
        with connect("./s"):
            assert each.accept()[1].local_ip == b"./s"
        assert (each.local_port, shown_port([each])) == (b"", b"")
        each.close_and_unlink()
        assert not os.path.exists("s")


@pytest.mark.parametrize("has_link", [True, False])
def test_what_takes_the_sockets_place_at_once_stays_as_it_is(bind_sockets, tmp_path, monkeypatch, has_link):
    victim = tmp_path / "victim"
    victim.touch(0o600)

    class Raced(socket.socket):
        def bind(self, path):
            super().bind(path)
            os.unlink(path)
            if has_link:
                os.symlink(victim, path)

    monkeypatch.setattr(listener.socket, "socket", Raced)
    (each,) = bind_sockets("./s", mode=0o777)
    each.close_and_unlink()
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


def test_who_holds_the_folders_lock_does_not_hold_us(bind_sockets, tmp_path, monkeypatch):
    monkeypatch.setattr(listener, "_LOCK_SECONDS", 0.05)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert bind_sockets("./s")
    os.close(folder)


def test_a_folder_that_may_be_written_but_not_read_will_do(bind_sockets, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(errno.EACCES, path)

    monkeypatch.setattr(listener.os, "open", refuse)
    assert bind_sockets("./s")


def test_a_left_over_socket_is_replaced_and_a_used_one_is_not(bind_sockets):
    (first,) = bind_sockets("./s,./s")
    with pytest.raises(Temporary, match="^unable to bind: address already used$"):
        bind_sockets("./s")
    for _ in range(30):  # even when more wait than it takes
        waiting = socket.socket(socket.AF_UNIX)
        waiting.setblocking(False)
        waiting.connect_ex("./s")
    with pytest.raises(Temporary, match="^unable to bind: address already used$"):
        bind_sockets("./s")
    first.close()
    (second,) = bind_sockets("./s")
    first.close_and_unlink()  # it had its end already
    with connect("./s"):
        assert second.accept()
    (third,) = bind_sockets("./other")
    os.rename("other", "s")
    second.close_and_unlink()  # not its own any more
    with connect("./s"):
        assert third.accept()


def test_of_many_that_find_a_left_over_socket_one_has_it(bind_sockets):
    (left,) = bind_sockets("./s")
    left.close()
    opened, failures = [], []

    def attempt():
        try:
            opened.extend(bind_sockets("./s"))
        except Temporary as failure:
            failures.append(str(failure))

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert failures == ["unable to bind: address already used"] * 19
    with connect("./s"):
        assert opened[0].accept()


def test_nothing_but_a_left_over_socket_is_replaced(bind_sockets, tmp_path):
    (tmp_path / "file").write_text("kept")
    os.symlink("nowhere", tmp_path / "link")
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind("datagrams")
    os.mkfifo("fifo")
    for name in ("file", "link", "datagrams", "fifo"):
        before = os.lstat(name)
        with pytest.raises(Temporary, match="^unable to bind: address already used$"):
            bind_sockets(f"./{name}")
        assert os.lstat(name).st_ino == before.st_ino
    datagrams.close()


def test_what_fails_later_leaves_no_socket_file(bind_sockets):
    with pytest.raises(Temporary):
        bind_sockets("./s,/none/x")
    assert not os.path.exists("s")


def listening(family=socket.AF_INET, address=("127.0.0.1", 0)):
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen(5)
    return sock


def test_a_descriptor_that_listens_is_taken_over(bind_sockets):
    held = [listening(), listening(socket.AF_INET6, ("::1", 0)), listening(socket.AF_UNIX, "s"),
            listening(socket.AF_UNIX, b"\0pyqmail%d" % os.getpid())]  # fmt: skip
    numbers = [os.dup(sock.fileno()) for sock in held]
    environ = {b"LISTEN_PID": b"1", b"LISTEN_FDS": b"9", b"LISTEN_FDNAMES": b"x", b"A": b"b"}
    sockets = bind_sockets(",".join(f"fd:{number}" for number in [*numbers, numbers[0]]), environ=environ)
    assert environ == {b"A": b"b"}
    addresses = [b"127.0.0.1", b"::1", b"s", b"@pyqmail%d" % os.getpid()]
    assert [each.local_ip for each in sockets] == addresses
    assert [each.local_port for each in sockets[2:]] == [b"", b""]
    assert not any(os.get_inheritable(each.fileno()) for each in sockets)
    for number in numbers:
        assert number in [each.fileno() for each in sockets] or not os.path.exists(f"/proc/self/fd/{number}")
    for each in sockets:
        each.close_and_unlink()
    assert os.path.exists("s")  # it is the holder's
    for sock in held:
        sock.close()


def test_what_does_not_listen_is_no_use(bind_sockets):
    pair = socket.socketpair()
    for sock in (socket.socket(), socket.socket(type=socket.SOCK_DGRAM), *pair):
        with sock, pytest.raises(Temporary) as failure:
            bind_sockets(f"fd:{sock.fileno()}")
        assert str(failure.value).endswith(" is no socket that listens for streams")
    with listening() as sock:
        free = os.dup(0)  # whatever is opened next has this number
        os.close(free)
        with pytest.raises(Temporary, match=f"unable to use descriptor {free}: file descriptor not open"):
            bind_sockets(f"fd:{sock.fileno()},fd:{free}")
    with open("/dev/null") as file, pytest.raises(Temporary, match="unable to use descriptor [0-9]+: not a socket"):
        bind_sockets(f"fd:{file.fileno()}")


@pytest.mark.parametrize(
    "pid, count",
    [(b"1", b"1"), (None, b"1"), (b"", b"1"), ("own", b"0"), ("own", b"9" * 99), ("own", b"x"), ("own", b"")],
)
def test_what_was_passed_on_to_somebody_else_is_left_alone(bind_sockets, pid, count):
    environ = {b"LISTEN_FDS": count}
    if pid is not None:
        environ[b"LISTEN_PID"] = b"%d" % os.getpid() if pid == "own" else pid
    with pytest.raises(Temporary, match="no sockets were passed on to us: LISTEN_FDS"):
        bind_sockets("fd:", environ=environ)
