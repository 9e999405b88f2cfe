"""The staged servers: what they say, over real sockets, and what they count."""

import socket
import struct
import subprocess
import sys

import pytest

from bench.machine import Missing, free_port
from bench.servers.names import MX, A, answer_to
from bench.servers.network import Network
from bench.servers.staged import Staged
from tests.interop.wires.spoken import (
    CLOSE,
    CLOSED,
    DELIVER,
    OPEN,
    READY,
    REFUSED,
    RESULT,
    ROOT,
    Stream,
    native,
    put_message,
    strings,
    texts_of,
)
from tests.waiting import until

SECONDS = 30


class Client:
    """A conversation; what is said is answered by the replies that come."""

    def __init__(self, address, port):
        self.sock = socket.create_connection((address, port), timeout=SECONDS)
        self._lines = self.sock.makefile("rb")

    def reply(self):
        """Return the last line of the next reply, b"" at the end."""
        line = self._lines.readline()
        while line[3:4] == b"-":
            line = self._lines.readline()
        return line.rstrip(b"\r\n")

    def say(self, *lines):
        """Say lines at once; return the codes of the replies, b"" at the end."""
        self.sock.sendall(b"".join(line + b"\r\n" for line in lines))
        return [self.reply()[:3] for _ in lines]

    def send(self, *recipients, sender=b"s@x"):
        """Send a message; return the codes of MAIL, each RCPT, DATA and the content."""
        commands = [b"MAIL FROM:<%b>" % sender, *(b"RCPT TO:<%b>" % one for one in recipients), b"DATA"]
        codes = self.say(*commands)
        return codes + self.say(b"Subject: x\r\n\r\n..hello\r\n.") if codes[-1] == b"354" else codes

    def close(self):
        self._lines.close()
        self.sock.close()


class World:
    """Staged servers, and clients of theirs; all is closed at the end."""

    def __init__(self):
        self._made, self.staged = [], None

    def serve(self, *lines, **how):
        self.staged = Staged(*lines, **how)
        self._made.append(self.staged)
        return self.staged

    def client(self, address="127.0.0.1"):
        self._made.append(Client(address, self.staged.port))
        return self._made[-1]

    def counts(self, model, address="127.0.0.1"):
        return self.staged.counts()[f"{model}@{address}"]

    def close(self):
        for one in reversed(self._made):
            one.close()


@pytest.fixture
def world():
    world = World()
    yield world
    world.close()


OK = [b"250", b"250", b"354", b"250"]


def test_one_that_takes_all_counts_sessions_and_mail(world):
    world.serve("takes-all seconds=0.01 limits='MAILMAX=5 RCPTMAX=2' 127.0.0.1 127.0.0.2")
    first, second = world.client(), world.client("127.0.0.2")
    assert first.reply()[:3] == second.reply()[:3] == b"220"
    assert first.say(b"EHLO x") == [b"250"]
    assert first.send(b"a@d", b"b@d") == [b"250", *OK] and first.send(b"c@d", sender=b"") == OK
    counts = world.counts("takes-all")
    assert (counts["now"], counts["most"], counts["sessions"], counts["refused"]) == (2, 2, 2, 0)
    assert (counts["messages"], counts["recipients"]) == (2, 3)
    arrivals = world.staged.arrivals("takes-all@127.0.0.1")
    assert [words[1:] for words in arrivals] == [["s@x", ["a@d", "b@d"]], ["", ["c@d"]]]
    assert arrivals[0][0] < arrivals[1][0]
    assert first.say(b"QUIT") == [b"221"] and first.reply() == b""
    until(lambda: world.counts("takes-all")["now"] == 1)


@pytest.mark.parametrize("size", [1, 3, 7, 4096])
def test_it_hears_the_same_in_any_pieces(world, size):
    world.serve("takes-all 127.0.0.1")
    client, said = world.client(), b"EHLO x\r\nMAIL FROM:<s@x>\r\nRCPT TO:<a@d>\r\nDATA\r\n.\r\n"
    said += b"MAIL FROM:<s@x>\r\nRCPT TO:<a@d>\r\nDATA\r\n..\r\nx\r\n.\r\nQUIT\r\n"
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(said), size):
        client.sock.sendall(said[at : at + size])
    assert [client.reply()[:3] for _ in range(12)] == [b"220", b"250", *OK, *OK, b"221", b""]
    assert world.counts("takes-all")["messages"] == 2


def test_each_address_of_a_network_may_be_a_server(world):
    world.serve("session-limit each limit=1 127.3.0.0/30")
    assert list(world.staged.counts()) == [f"session-limit@127.3.0.{n}" for n in range(4)]
    for n in (1, 2):
        assert world.client(f"127.3.0.{n}").reply()[:3] == b"220"
    assert world.client("127.3.0.2").reply()[:3] == b"421"
    assert [counts["refused"] for counts in world.staged.counts().values()] == [0, 0, 1, 0]


def test_one_with_a_limit_of_sessions(world):
    world.serve("session-limit limit=2 127.0.0.1")
    clients = [world.client() for _ in range(3)]
    assert [client.reply()[:3] for client in clients] == [b"220", b"220", b"421"] and clients[2].reply() == b""
    counts = world.counts("session-limit")
    assert (counts["most"], counts["sessions"], counts["refused"]) == (3, 3, 1)
    world.staged.set("session-limit@127.0.0.1", "limit", 3)
    assert world.client().reply()[:3] == b"220"


def test_one_that_bans_for_a_rate_and_for_each_try_longer(world):
    world.serve("rate messages=2 ban=1000 127.0.0.1")
    client = world.client()
    client.reply()
    assert client.send(b"a@d") == client.send(b"a@d") == OK
    assert client.say(b"MAIL FROM:<s@x>") == [b"421"] and client.reply() == b""
    assert world.client().reply()[:3] == world.client().reply()[:3] == b"421"
    counts = world.counts("rate")
    assert (counts["bans"], counts["tries"], counts["messages"]) == (1, 2, 2)


def test_one_that_lists_grey(world):
    world.serve("greylist wait=1000 127.0.0.1")
    client = world.client()
    client.reply()
    assert client.send(b"a@d", b"b@d") == [b"250", b"451", b"451", b"554"]
    world.staged.set("greylist@127.0.0.1", "wait", 0)
    assert client.send(b"a@d", b"b@d") == [b"250", *OK]
    assert world.counts("greylist")["deferred"] == 2


def test_one_that_is_silent_and_one_that_is_slow(world):
    world.serve("silent 127.0.0.1", "slow-greeter wait=0.01 127.0.0.2")
    silent = world.client()
    silent.sock.sendall(b"EHLO x\r\n")
    assert world.client("127.0.0.2").reply()[:3] == b"220"
    silent.sock.shutdown(socket.SHUT_WR)
    assert silent.reply() == b""


def test_one_that_refuses(world):
    world.serve("refusing reply='421 4.3.2 not today' 127.0.0.1", "refusing 127.0.0.2")
    assert world.client().reply() == b"421 4.3.2 not today"
    assert world.client("127.0.0.2").reply()[:3] == b"554"


@pytest.mark.parametrize("at, codes", [("mail", [b"452"]), ("data", [b"250", b"250", b"452"])])
def test_one_with_a_limit_of_messages(world, at, codes):
    world.serve(f"connection-limit messages=2 at={at} 127.0.0.1")
    client = world.client()
    client.reply()
    assert client.send(b"a@d") == client.send(b"a@d") == OK
    assert client.send(b"a@d")[: len(codes)] == codes
    assert client.say(b"NOOP") == [b"250"]  # it stays open


def test_one_with_a_limit_of_recipients(world):
    world.serve("transaction-limit recipients=2 127.0.0.1")
    client = world.client()
    client.reply()
    assert client.send(b"a@d", b"b@d", b"c@d") == [b"250", b"250", b"250", b"452", b"354", b"250"]
    assert world.counts("transaction-limit")["recipients"] == 2


def test_one_that_greets_and_closes(world):
    world.serve("greets-and-closes 127.0.0.1")
    client = world.client()
    assert client.reply()[:3] == b"220" and client.say(b"EHLO x", b"MAIL FROM:<s@x>") == [b"250", b""]


@pytest.mark.parametrize("words", [("set", "nobody", "x=1"), ("set", "takes-all@127.0.0.1", "clock=1"), ("hm",)])
def test_what_it_cannot_obey(world, words):
    staged = world.serve("takes-all 127.0.0.1")
    with pytest.raises(LookupError):
        staged._ask(" ".join(words))
    assert staged.counts()


def test_by_hand_it_serves_until_term_and_says_what_it_counts():
    port = str(free_port())
    words = [sys.executable, "-m", "bench.servers", "--port", port, "refusing 127.0.0.1"]
    process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert until(lambda: first_words(int(port))).startswith(b"554")
        assert process.stderr.readline() == b"refusing@127.0.0.1: sessions 1\n"
        assert process.stderr.readline() == b"refusing@127.0.0.1: refused: 554 5.7.1 no mail from you\n"
        process.terminate()
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


def first_words(port):
    """Return what a server says first, None while there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as sock:
            return sock.recv(100)
    except ConnectionRefusedError:
        return None


# names


def question(name, kind):
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b"."))
    return struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def records(answer):
    """Return (code, data of each record)."""
    _, flags, _, count, _, _ = struct.unpack_from(">HHHHHH", answer)
    at, found = answer.index(b"\0", 12) + 5, []
    for _ in range(count):
        (size,) = struct.unpack_from(">H", answer, at + 10)
        found.append(answer[at + 12 : at + 12 + size])
        at += 12 + size
    return flags & 15, found


EXCHANGERS = [
    (b"d7.h198-18-0-1.test", [(10, b"\2mx\x0bh198-18-0-1\4test\0")]),
    (b"D7.H198-18-0-1.test", [(10, b"\2mx\x0bh198-18-0-1\4test\0")]),
    (b"d7.h1-2-3-4.b1-2-3-5.p.test",
     [(10, b"\2mx\x08h1-2-3-4\1p\4test\0"), (20, b"\2mx\x08b1-2-3-5\1p\4test\0")]),
]  # fmt: skip


@pytest.mark.parametrize("name, wanted", EXCHANGERS)
def test_the_exchangers_of_a_name(name, wanted):
    data = [struct.pack(">H", preference) + host for preference, host in wanted]
    assert records(answer_to(question(name, MX))) == (0, data)


@pytest.mark.parametrize("name, kind, wanted", [
    (b"mx.h198-18-0-1.test", A, (0, [bytes([198, 18, 0, 1])])),
    (b"mx.b198-19-255-1.p.test", A, (0, [bytes([198, 19, 255, 1])])),
    (b"d.h198-18-0-1.test", A, (0, [])),
    (b"mx.h198-18-0-1.test", 28, (0, [])),
    (b"nobody.test", MX, (3, [])),
    (b"nx.h198-18-0-1.test", MX, (3, [])),
    (b"servfail.h198-18-0-1.test", MX, (2, [])),
])  # fmt: skip
def test_other_answers_of_the_name_server(name, kind, wanted):
    assert records(answer_to(question(name, kind))) == wanted


def test_a_dead_zone_is_not_answered():
    assert answer_to(question(b"dead.h198-18-0-1.test", MX)) is None


def test_what_is_no_question_is_not_answered(world, own_network):
    world.serve("takes-all 198.18.0.1", prefix=own_network.prefix, names="127.0.0.1:53")
    asked = question(b"mx.h198-18-0-1.test", A)
    with own_network.bind("127.0.0.1", 0) as sock:
        sock.settimeout(SECONDS)
        for nonsense in (b"", b"x", asked[:20], asked[:-1]):
            sock.sendto(nonsense, ("127.0.0.1", 53))
        sock.sendto(asked, ("127.0.0.1", 53))
        assert records(sock.recv(1000)) == (0, [bytes([198, 18, 0, 1])])


def test_a_network_has_all_addresses_of_the_bench():
    try:
        network = Network()
    except Missing as reason:
        pytest.skip(str(reason))
    staged = Staged("takes-all each 198.18.0.0/31 198.19.255.254", prefix=network.prefix, port=25)
    assert len(staged.counts()) == 3 and staged.close() == 0
    network.close()


# in a network of their own


class Sessions:
    """A pyrspawn --native in that network."""

    def __init__(self, home, prefix):
        words = [*prefix, sys.executable, f"{ROOT}/bin/pyrspawn", "--native"]
        env = {"PATH": f"{ROOT}/bin:/usr/bin:/bin", "PYQMAIL_HOME": home.path}
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, bufsize=0)
        self.out = Stream(self.process.stdout.fileno())
        assert self.out.native()[0] == 1

    def open(self, session, address, source=b""):
        times = 3 * (b"30000",)
        self.process.stdin.write(native(OPEN, session, strings(source, b"", b"mx", address, b"25", *times, b"0", b"")))

    def close(self):
        self.process.kill()
        self.process.communicate()


def test_sessions_from_a_source_of_ours_meet_a_limit_and_the_server_is_the_judge(world, home, own_network):
    world.serve("session-limit limit=5 198.18.0.1 198.18.0.2", prefix=own_network.prefix, port=25)
    path, sessions = put_message(home), Sessions(home, own_network.prefix)
    try:
        for session in range(1, 13):
            sessions.open(session, b"198.18.0.%d" % (1 + session % 2), b"198.18.9.9")
        frames = [sessions.out.native() for _ in range(12)]
        ready = [session for kind, session, _ in frames if kind == READY]
        assert len(ready) == 5 and [kind for kind, _, _ in frames].count(REFUSED) == 7
        for session in ready:
            body = strings(path, b"s@x.test", b"%d" % session, b"u@d.test")
            sessions.process.stdin.write(native(DELIVER, session, body))
        results = [sessions.out.native() for _ in ready]
        assert {(kind, texts_of(body)[1][:1]) for kind, _, body in results} == {(RESULT, b"K")}
        for session in range(1, 13):
            sessions.process.stdin.write(native(CLOSE, session))
        assert {sessions.out.native()[0] for _ in range(12)} == {CLOSED}
        counts = world.counts("session-limit", "198.18.0.1")
        assert (counts["sessions"], counts["refused"], counts["messages"], counts["now"]) == (12, 7, 5, 0)
        assert 5 <= counts["most"] <= 5 + counts["refused"]
    finally:
        sessions.close()
