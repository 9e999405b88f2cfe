"""Accept connections and run a program for each.

Listens on HOST and PORT; the program has the connection on descriptors 0 and 1 and knows about it from
its environment.  HOST is an address, 0 for all, or a name; PORT a number, 0 for any, or a service's name.

A session program of ours, pysmtpd for one, runs as thousands of sessions in each of a few workers: the accepted
socket is handed over to one of them, and no process is started for it.  The numbers in the log lines are then the
sessions' own, above those of processes, and the status is the session's exit code times 256.  --workers 0 gives
each connection a process, as everything else has.

Foreign programs are started by the server itself.  When connections come faster than one process can start
programs, as many as there are processors share that, or as --workers says.
"""

import os
import signal

from pyqmail.base.failure import Failure, Temporary
from pyqmail.base.numbers import UINT32, count_digits, is_number, leading_number
from pyqmail.base.options import Act, Argument, Flag, Program, Rest, Value
from pyqmail.programs.registry import load
from pyqmail.system.descriptors import log, open_standard_descriptors
from pyqmail.system.listener import first_session_number, listen, raise_descriptor_limit
from pyqmail.system.loop import Loop
from pyqmail.system.processes import find_ours
from pyqmail.tcp.addresses import literal, port_number
from pyqmail.tcp.admission import Terms
from pyqmail.tcp.lines import ERRORS, EVERYTHING, QUIET
from pyqmail.tcp.server import Server

_SPARE_DESCRIPTORS = 64  # of each worker: log, loop, streams to others


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    try:
        return serve(call)
    except Failure as failure:
        if call.verbosity == QUIET:
            return failure.code  # from here on only the exit code tells
        raise


def serve(call) -> int:
    if call.host is None or call.port is None:
        raise PROGRAM.wrong()
    port = port_number(call.port)
    if not call.program:
        raise PROGRAM.wrong()
    open_standard_descriptors()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    ip = find_address(call.host)
    sock = listen(ip, port, call.backlog)
    drop_rights(call)
    port = sock.getsockname()[1]
    if call.prints_port:
        os.write(1, b"%d\n" % port)
    leave_standard_descriptors()
    server = Server(Loop(), sock, call.limit, call.verbosity, first_session_number())
    server.run(choose_way(call, server, terms_of(call, ip, port)))
    return 0


def find_address(host: str) -> str:
    """Return the address a host word means, its first one.  Raises Temporary."""
    if host in ("", "0"):
        return "0.0.0.0"
    found = literal(host)
    if found is None:
        from pyqmail.system import resolver

        try:
            found = [address.decode() for address in resolver.addresses_of(os.fsencode(host), kinds=("A",))]
        except resolver.Soft as failure:
            raise Temporary(f"temporarily unable to figure out IP address for {host}: {failure}") from None
    if not found:
        raise Temporary(f"no IP address for {host}")
    return found[0]


def drop_rights(call) -> None:
    """Become the group and the user asked for; 0 leaves them alone.  Raises Temporary."""
    if call.gid:
        try:
            os.setgroups([call.gid])
            os.setgid(call.gid)
        except OSError as error:
            raise Temporary("unable to set gid", error) from None
    if call.uid:
        try:
            os.setuid(call.uid)
        except OSError as error:
            raise Temporary("unable to set uid", error) from None


def leave_standard_descriptors() -> None:
    """Give up descriptors 0 and 1; /dev/null keeps their places, so that nothing else comes to stand there."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1):
        os.dup2(null, number)
    os.close(null)


def terms_of(call, ip: str, port: int) -> Terms:
    """Return what the command line says about connections."""
    rules = None
    if call.rules is not None:
        from pyqmail.tcp.rules import Rules

        rules = Rules(call.rules, call.absent_rules_allow)
    return Terms(
        b"%d" % port,
        local_ip=None if ip == "0.0.0.0" else ip.encode(),
        local_host=None if call.local_host is None else os.fsencode(call.local_host),
        looks_up_name=call.looks_up_name,
        is_paranoid=call.is_paranoid,
        asks_ident=call.asks_ident,
        ident_seconds=call.ident_seconds,
        keeps_options=call.keeps_options,
        has_no_delay=call.has_no_delay,
        banner=os.fsencode(call.banner),
        rules=rules,
        rules_name=call.rules or "",
    )


def choose_way(call, server, terms):
    """Return the way (tcp/server.py) to run the program: resident sessions, a fork of ours, or a foreign program."""
    environ = dict(os.environb)
    path = environ.get(b"PATH")
    module = find_module(call.program[0], path)
    if hasattr(module, "session") and call.workers != 0:
        return residents(call, server, terms, module, environ)
    from pyqmail.tcp.forking import Forking
    from pyqmail.tcp.spawning import LONGEST_BANNER_BYTES

    names = None
    if terms.looks_up:
        from pyqmail.system import resolver
        from pyqmail.tcp.names import BlockingNames

        resolver.preload()
        names = BlockingNames(resolver)
    if module is not None:
        for word in call.program[1:]:
            find_module(word, path)  # a chain: what follows is here too when its turn comes in a child

    def forking(of):
        return Forking(of, terms, call.program, path, environ, module and load, names)

    if module is not None or terms.looks_up or len(terms.banner) > LONGEST_BANNER_BYTES:
        return forking(server)
    return spawning(call, server, terms, path, environ, forking)


def spawning(call, server, terms, path, environ, forking):
    """Return the way of a foreign program for which nothing is to be waited for."""
    from pyqmail.tcp.spawning import Spawning

    def way(of, *others):
        return Spawning(of, terms, call.program, path, environ, forking(of), *others)

    def make_starters():
        from pyqmail.tcp.residents import Residents
        from pyqmail.tcp.starter import Starter

        return Residents(server, count, lambda sock: Starter(call.verbosity, way).serve(sock), None, call.limit)

    count = max(0, worker_count(call) - 1)
    return way(server, count, make_starters)


def worker_count(call) -> int:
    """Return how many processes share the work unless --workers says it."""
    if call.workers is not None:
        return call.workers
    return max(1, min(len(os.sched_getaffinity(0)), call.limit))


def find_module(word: str, path: bytes | None):
    """Return the module of the program a word leads to, None if that is not ours."""
    name = find_ours(os.fsencode(word), path)
    try:
        return None if name is None else load(name)
    except LookupError:
        return None


def residents(call, server, terms, module, environ):
    """Return the way of resident sessions."""
    import gc

    from pyqmail.tcp.residents import Residents
    from pyqmail.tcp.worker import serve as serve_sessions

    count = worker_count(call)
    most = max(1, raise_descriptor_limit() - _SPARE_DESCRIPTORS)
    if count * most < call.limit and call.verbosity >= ERRORS:
        log(f"tcpserver: warning: descriptors for {count * most} connections only, of {call.limit}")
    resolve = None
    if terms.looks_up_name or terms.local_host is None:
        resolver = load("pyresolve")

        def resolve(sock):
            os.dup2(sock.fileno(), 0)
            os.dup2(sock.fileno(), 1)
            sock.close()
            return resolver.main([resolver.PROGRAM.name])

    gc.freeze()  # what is here now stays shared with the workers
    return Residents(
        server,
        count,
        lambda sock: serve_sessions(sock, terms, module, call.program, environ, call.verbosity),
        resolve,
        most,
        module.PROGRAM.name,
    )


def _identity(text):
    """Convert the value of -u or -g.  A name is refused: as the original's 0 it would keep root's rights."""
    if not count_digits(text):
        raise ValueError(f"not a number: {text}")
    return leading_number(text) % UINT32


def _from_environment(call):
    for field, name in (("uid", b"UID"), ("gid", b"GID")):
        if name in call.environ:
            setattr(call, field, _identity(os.fsdecode(call.environ[name])))


def _patience(text):
    return min(leading_number(text), 86400)  # beyond that the kernel's own clocks overflow


def _count(text):
    if not is_number(text):
        raise ValueError(f"not a number: {text}")
    return int(text)


PROGRAM = Program(
    name="pytcpserver",
    summary="accept connections and run a program for each",
    original="tcpserver",
    usage="tcpserver [ -1UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] [ -u uid ] "
    "[ -b backlog ] [ -l localname ] [ -t timeout ] host port program",
    options=[
        Flag("q", "verbosity", "say nothing", QUIET),
        Flag("Q", "verbosity", "say what goes wrong (default)", ERRORS),
        Flag("v", "verbosity", "say everything", EVERYTHING),
        Flag("1", "prints_port", "write the port to descriptor 1 once it is open"),
        Value("c", "limit", "LIMIT", "most connections at once; default 40", leading_number),
        Value("b", "backlog", "BACKLOG", "most connections the kernel holds back; default 20", leading_number),
        Value("x", "rules", "RULES.CDB", "follow the rules that pytcprules compiled"),
        Flag("X", "absent_rules_allow", "with -x: rules that do not exist allow everybody"),
        Value("B", "banner", "BANNER", "write BANNER to the client before anything else"),
        Value("g", "gid", "GID", "become group GID", _identity),
        Value("u", "uid", "UID", "become user UID", _identity),
        Act("U", _from_environment, "become user $UID and group $GID"),
        Flag("o", "keeps_options", "leave IP options alone"),
        Flag("O", "keeps_options", "remove IP options: a client cannot choose the way of our answers (default)", False),
        Flag("d", "has_no_delay", "leave Nagle's algorithm on (default)", False),
        Flag("D", "has_no_delay", "turn Nagle's algorithm off"),
        Flag("h", "looks_up_name", "look up the client's name (default)"),
        Flag("H", "looks_up_name", "do not look up the client's name", False),
        Flag("p", "is_paranoid", "forget the client's name unless one of its addresses is the client's"),
        Flag("P", "is_paranoid", "believe the client's name (default)", False),
        Value("l", "local_host", "NAME", "our own name; otherwise it is looked up"),
        Flag("r", "asks_ident", "ask the client's ident server (default)"),
        Flag("R", "asks_ident", "do not ask it", False),
        Value("t", "ident_seconds", "SECONDS", "how long to wait for the ident server; default 26", _patience),
        Value(
            None,
            "workers",
            "N",
            "worker processes; default one for each processor; 0: a process for each connection",
            _count,
            "workers",
        ),
    ],
    arguments=[
        Argument("host", "the address to listen on", optional=True),
        Argument("port", "the port to listen on", optional=True),
        Rest("program", "the program and its arguments"),
    ],
    defaults={
        "verbosity": ERRORS,
        "prints_port": False,
        "limit": 40,
        "backlog": 20,
        "rules": None,
        "absent_rules_allow": False,
        "banner": "",
        "gid": 0,
        "uid": 0,
        "keeps_options": False,
        "has_no_delay": False,
        "looks_up_name": True,
        "is_paranoid": False,
        "local_host": None,
        "asks_ident": True,
        "ident_seconds": 26,
        "workers": None,
    },
    exits={0: "ended by TERM; connections go on", 100: "wrong usage", 111: "try again later"},
    environment=[
        "PROTO",
        "TCPLOCALIP",
        "TCPLOCALPORT",
        "TCPLOCALHOST",
        "TCPREMOTEIP",
        "TCPREMOTEPORT",
        "TCPREMOTEHOST",
        "TCPREMOTEINFO",
        "UID",
        "GID",
        "PATH",
        "PYQMAIL_DNS",
        "DNSCACHEIP",
    ],
    see=["pytcprules(8)", "pytcprulescheck(8)"],
)
