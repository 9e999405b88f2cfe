"""Accept connections and run a program for each.

Listens on HOST and PORT.  The program has the connection on descriptors 0 and 1, and its environment describes it.
HOST is an address, 0 for all, a name, or several of the words below; PORT a number, 0 for any, or a service's name.

A session program of ours, for example pysmtpd, runs as thousands of sessions in each of a few workers: the accepted
socket is handed to one of them, and no process is started for it.  The numbers in the log lines are then the sessions'
own, above those of processes, and the status is the session's exit code times 256.  --workers 0 gives each connection a
process, as for all other programs.  pyrblsmtpd, pyenvdir and pyfixcrio before such a program do their work in the
worker, too; with any other program before it each connection has a process.

The server itself starts foreign programs.  When connections come faster than one process can start programs, as many
processes as the machine has processors share that, or as many as --workers names.
"""

import os

from pyqmail.base.numbers import leading_number, whole_number
from pyqmail.base.options import Act, Argument, Flag, Rest, Value
from pyqmail.programs.registry import load, load_ahead
from pyqmail.system import libc
from pyqmail.system.command_line import Program
from pyqmail.system.processes import find_ahead, find_ours
from pyqmail.tcp.access.log_lines import ERRORS, EVERYTHING, LABEL, QUIET, unless_quiet
from pyqmail.tcp.client.addresses import is_another_number, port_number
from pyqmail.tcp.listener import option_values as values
from pyqmail.tcp.listener.bind import BOTH, IP4, IP6, Binder, has_path, has_port, shown_port
from pyqmail.tcp.listener.configure import (
    limit_words,
    odd_limits,
    policy_of,
    readiness,
    server_of,
    short_backlog,
    status_socket,
)
from pyqmail.tcp.listener.limit_files import LimitFiles, digits_of
from pyqmail.tcp.listener.process_setup import drop_rights, leave_standard_descriptors, set_up_process
from pyqmail.tcp.serving.choose import ServingModes


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    return unless_quiet(call, serve)


def serve(call) -> int:
    port = checked_port(call)
    set_up_process(call)
    binder = Binder(call.backlog, call.kinds, call.interface, call.socket_mode)
    hooks = readiness(call)
    sockets = binder.bind(call.host, port, call.environ)
    hooks += status_socket(call)
    policy, limit = policy_of(call), int(digits_of(call.limit))
    load_programs(call, policy)
    drop_rights(call)
    if call.prints_port:
        os.write(1, shown_port(sockets) + b"\n")
    leave_standard_descriptors()
    hooks.append(LimitFiles(call.limit, limit_words(call), policy.limits))
    call.oddities += [*odd_limits(call), *short_backlog(call)]
    server = server_of(call, sockets, limit, policy, hooks)
    server.run(ServingModes(server, policy, call.program, find_module, load, call.workers).choose())
    return 0


def checked_port(call) -> int:
    """Return the port that is asked for.  Raises Failure if the words do not make a server."""
    if call.host is None or call.port is None:
        raise PROGRAM.wrong()
    port = port_of(call)
    if not call.program:
        raise PROGRAM.wrong()
    if call.socket_mode is not None and not has_path(call.host):
        raise PROGRAM.wrong(PROGRAM.line("--socket-mode needs a UNIX socket"))
    return port


def port_of(call) -> int:
    """Return the port that the word PORT means; it is `-` where nothing listens on one.  Raises Failure."""
    if has_port(call.host):
        port = port_number(call.port)
        if is_another_number(call.port, port):
            call.oddities.append(f"port {call.port[:64]} is read as {port}")
        return port
    if call.port != "-":
        raise PROGRAM.wrong(PROGRAM.line("nothing listens on a port: write - for it"))
    return 0


def load_programs(call, policy) -> None:
    """Import the programs that the server becomes, with the rights we still have: those we get may not suffice.

    Nothing is imported later on, so that a server that runs is not mixed with an installation that came after it.
    """
    modules = find_ahead(call.program, call.environ.get(b"PATH"), load_ahead)
    if policy.looks_up or any(module.PROGRAM.name == "pyrblsmtpd" for module in modules):
        load_ahead("pyresolve")
    libc.load()


def find_module(word: str, path: bytes | None):
    """Return the module of the program that a word means, None if that is not ours."""
    name = find_ours(os.fsencode(word), path)
    try:
        return None if name is None else load(name)
    except LookupError:
        return None


_EXAMPLE = """\
The script run of a service for pysvscan:

    #!/bin/sh
    exec 2>&1
    exec pytcpserver -vRH -l mail.example.org -b 1024 -c /etc/smtp/limit \\
        --per-address 20 --per-network 100 --rate 60 --max-load 2000 \\
        --excess-reply '421 too busy, try again later (#4.3.2)' \\
        --greet-delay 1 --drain 30 --ready-fd 9 --status-socket /run/smtp.status \\
        -x /etc/smtp/rules.cdb -u "$(id -u qmaild)" -g "$(id -g qmaild)" :0 25 pysmtpd

Beside it are `notification-fd` with 9, so that pysupervise opens that descriptor, and `timeout-kill` with 35000, \
more than the time of --drain.  /etc/smtp/limit, which qmaild may read, has 1000.  A rule can set other limits: \
`10.:allow,MAXCONNIP="200",GREETHOLD="0"`.  Then:

    pysvwait -U -t 10 /service/smtp   # until clients are served
    pytcptop /run/smtp.status         # who is connected
    pysvc -h /service/smtp            # /etc/smtp/limit has changed: read it
    pysvc -d /service/smtp            # no more clients; connected ones have 30 seconds
    pysvwait -d -t 40 /service/smtp   # until it has ended"""

PROGRAM = Program(
    name="pytcpserver",
    summary="accept connections and run a program for each",
    original=LABEL,
    tells_oddities=False,
    usage="tcpserver [ -1UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] [ -u uid ] "
    "[ -b backlog ] [ -l localname ] [ -t timeout ] host port program",
    options=[
        Flag("q", "verbosity", "report nothing", QUIET),
        Flag("Q", "verbosity", "report errors", ERRORS, is_default=True),
        Flag("v", "verbosity", "report everything", EVERYTHING),
        Flag("1", "prints_port", "write the port to descriptor 1 once it is open"),
        Value(
            "c",
            "limit",
            "LIMIT",
            "maximum number of connections, or a file that has it",
            values.lenient_limit,
            is_lenient=True,
            default="40",
        ),
        Value("b", "backlog", "BACKLOG", "listen(2) backlog", leading_number, is_lenient=True, default=20),
        Value("x", "rules", "RULES.CDB", "follow the rules that pytcprules compiled"),
        Flag("X", "absent_rules_allow", "with -x: a missing file of rules allows all clients"),
        Value("B", "banner", "BANNER", "write BANNER to the client before anything else", default=""),
        Value("g", "gid", "GID", "become group GID", values.identity, is_lenient=True, default=0),
        Value("u", "uid", "UID", "become user UID", values.identity, is_lenient=True, default=0),
        Act("U", values.identities_from_environment, "become user $UID and group $GID"),
        Flag("o", "keeps_options", "leave IP options alone"),
        Flag(
            "O",
            "keeps_options",
            "remove IP options: a client cannot choose the route of our answers",
            False,
            is_default=True,
        ),
        Flag("d", "has_no_delay", "leave Nagle's algorithm on", False, is_default=True),
        Flag("D", "has_no_delay", "turn Nagle's algorithm off"),
        Flag("h", "looks_up_name", "look up the client's name", is_default=True),
        Flag("H", "looks_up_name", "do not look up the client's name", False),
        Flag("p", "is_paranoid", "forget the client's name unless one of its addresses is the client's"),
        Flag("P", "is_paranoid", "believe the client's name", False, is_default=True),
        Value("l", "local_host", "NAME", "our own name; otherwise it is looked up"),
        Flag("r", "asks_ident", "ask the client's ident server", is_default=True),
        Flag("R", "asks_ident", "do not ask it", False),
        Value(
            "t",
            "ident_seconds",
            "SECONDS",
            "how long to wait for the ident server",
            values.ident_seconds,
            is_lenient=True,
            default=26,
        ),
        Flag("4", "kinds", "IPv4 only: of names, and for 0 and :0", IP4, default=BOTH),
        Flag("6", "kinds", "IPv6 only: of names, and for 0 and :0", IP6),
        Value("I", "interface", "IFNAME", "the interface of link-local addresses", values.interface, default=""),
        Value(
            None,
            "socket_mode",
            "OCTAL",
            "mode of the file of a UNIX socket; default: from the umask",
            values.socket_mode,
            "socket-mode",
        ),
        Value(
            None,
            "is_proxy",
            "ADDRESSES",
            "clients whose connections start with a PROXY header; see below",
            values.proxies,
            "proxy",
        ),
        Value(
            None,
            "workers",
            "N",
            "number of workers; default one for each processor; 0: a process for each connection",
            whole_number,
            "workers",
        ),
        Value(None, "per_address", "N", "maximum of connections from one address at once", values.limit, "per-address"),
        Value(None, "per_network", "N", "maximum from one network, /24 or /64", values.limit, "per-network"),
        Value(
            None,
            "rate",
            "N",
            "maximum of new connections from one address, of IPv6 one /64, within 60 seconds",
            values.limit,
            "rate",
        ),
        Value(
            None,
            "most_load",
            "N",
            "deny all clients while the load average times 100 is above N",
            values.limit,
            "max-load",
        ),
        Value(
            None,
            "exempt",
            "NAME",
            "a client whose rule sets the variable NAME, for example RELAYCLIENT, is exempt from the last three, "
            "unless that rule sets them",
            str,
            "exempt",
        ),
        Value(
            None,
            "excess_reply",
            "TEXT",
            "reply to a client above a limit before it is denied, at most 510 bytes",
            str,
            "excess-reply",
        ),
        Value(
            None,
            "greet_seconds",
            "SECONDS",
            "delay the program by SECONDS, at most a day",
            values.seconds,
            "greet-delay",
            is_lenient=True,
            default=0,
        ),
        Value(
            None,
            "drain_seconds",
            "SECONDS",
            "at TERM let connections go on for SECONDS, at most a day",
            values.seconds,
            "drain",
            is_lenient=True,
        ),
        Value(
            None,
            "ready_fd",
            "N",
            "write a newline to descriptor N once connections are served",
            values.descriptor,
            "ready-fd",
        ),
        Value(
            None, "status_socket", "PATH", "report connections to pytcptop on a socket at PATH", str, "status-socket"
        ),
    ],
    arguments=[
        Argument("host", "where to listen; see below", optional=True),
        Argument("port", "the port to listen on; - if nothing listens on one", optional=True),
        Rest("program", "the program and its arguments"),
    ],
    exits={0: "ended by TERM; connections go on", 100: "wrong usage", 111: "try again later"},
    notes=[
        (
            "where to listen",
            [
                ("0", "all IPv4 addresses; the empty word is the same"),
                ("::", "all IPv6 addresses"),
                (
                    ":0",
                    "both, with one socket; an IPv4 client is treated as with 0.  Without IPv6 in the kernel: IPv4 "
                    "alone",
                ),
                ("ADDRESS", "192.0.2.1 or 2001:db8::1; one of link-local scope as fe80::1%eth0, or with -I"),
                ("NAME", "its first IPv4 address; if it has none, its first IPv6 address"),
                (
                    "PATH",
                    "a word with a slash: a UNIX socket, made there before rights are given up and removed at the end "
                    "if the rights suffice.  A socket file without a listener is replaced",
                ),
                (
                    "fd:N",
                    "descriptor N, a socket that already listens, with its own backlog.  If another process holds it "
                    "open, clients wait while the server is restarted: none is lost.  It becomes non-blocking for its "
                    "other holders, too",
                ),
                (
                    "fd:",
                    "all sockets of LISTEN_FDS, if LISTEN_PID is our process.  Programs do not get these variables",
                ),
                (
                    "WORD,WORD",
                    "all of these at once.  PORT is the port of all addresses, and 0 one that is free on each of "
                    "them.  A word that is written twice counts once",
                ),
            ],
        ),
        (
            "limits",
            "A rule may set the variable of a limit, which then counts instead of the option.  A client above a limit "
            "is denied; the deny line ends with LOAD: and the load, or with the variable, a colon and the limit.  A "
            "limit of 0 admits no client, except for the load, where it means no limit.  DIEMSG_MAXCONNIP and its like "
            "are the replies for one limit.\n\n"
            "N of each limit may be a file, with a slash in its name and the number in its first line.  HUP reads "
            "these files again, with the rights of that moment; connections are not changed.  Without such files HUP "
            "is not caught.\n\n"
            "For sessions in workers the server also counts what each client does over time, for all workers together, "
            "and answers them whether it may do more: control/clientrate and its like of pysmtpd(8).  Nothing is asked "
            "about those that are not limited.  These counts are lost when the server is restarted.",
        ),
        (
            "limits of the machine",
            "The server raises its soft limits of descriptors and processes as far as it may, for itself and not for "
            "foreign programs.  What is still too little for -c, and a net.core.somaxconn below -b, is a line in the "
            "log at the start, with the command that raises it: `ulimit` before the server in the script run, as "
            "root; `sysctl -w` for the whole machine.  For -c that is said again when HUP has raised it.\n\n"
            "    tcpserver: warning: descriptors for 960 connections only, of 2000; to raise it: ulimit -n 2064\n"
            "    tcpserver: warning: processes for 98 connections only, of 200; to raise it: ulimit -u 201\n"
            "    tcpserver: warning: backlog for 128 connections only, of 1024; to raise it: sysctl -w "
            "net.core.somaxconn=1024\n\n"
            "`pyqmail limits` shows all limits of a qmail home, see pyqmail(8).",
        ),
        (
            "life cycle",
            "Once connections are served, --ready-fd gets a newline, and READY=1 is sent to NOTIFY_SOCKET, a path or "
            "an abstract name after an @.  TERM ends the server at once, and connections go on.  With --drain the "
            "server stays until the last of them has ended, at most for the given seconds, then sends TERM to the rest "
            "and ends a second later.  A second TERM ends it at once.\n\n"
            "While it drains it does not listen: clients are refused until a successor has been started.  With fd: "
            "they wait, if another process holds the socket open.  Without --drain a successor can start beside the "
            "old connections.\n\n"
            "The status socket is made before rights are given up; only its owner can connect.",
        ),
        (
            "other clients",
            "For an IPv6 client PROTO is TCP6, and each variable that starts with TCP is also set with TCP6 in place "
            "of TCP; TCP6INTERFACE is the interface of a link-local address.  A client with an IPv4 address is an IPv4 "
            "client on every socket.\n\n"
            "In rules the address of a client of a UNIX socket is unix, and its uid takes the place of the ident "
            "server's answer: 1000@unix, then unix, then the empty address.  PROTO is UNIX; UNIXLOCALPATH, "
            "UNIXLOCALUID, UNIXLOCALGID, UNIXLOCALPID, UNIXREMOTEEUID, UNIXREMOTEEGID and UNIXREMOTEPID are set, and "
            "no TCP variable is.\n\n"
            "Session programs and the reader of PROXY headers take no descriptors from a client of a UNIX socket: the "
            "kernel refuses them (Linux 6.16); with an older kernel each such client has a process between it and the "
            "server.",
        ),
        (
            "proxies",
            "ADDRESSES are addresses and networks, 192.0.2.1,2001:db8::/32, and unix for all clients of UNIX "
            "sockets.  A connection from one of them must start with a header of the PROXY protocol, version 1 or 2; "
            "the client it names is then the client for rules, limits, variables and log lines, and so is the local "
            "address.  UNKNOWN and LOCAL mean the proxy itself.  A header that is malformed, or not complete within 3 "
            "seconds, ends the connection.  No header is read from other clients.\n\n"
            "A header of version 2 has at most 4096 bytes; extensions, a checksum among them, are skipped.  The "
            "program gets the bytes after the header.  TERM without --drain ends connections whose header is not "
            "complete.",
        ),
        ("a service with limits", _EXAMPLE),
    ],
    environment=[
        *("PROTO", "TCPLOCALIP", "TCPLOCALPORT", "TCPLOCALHOST", "TCPREMOTEIP", "TCPREMOTEPORT"),
        *("TCPREMOTEHOST", "TCPREMOTEINFO", "UID", "GID", "PATH", "LISTEN_FDS", "LISTEN_PID", "MAXCONNIP"),
        *("MAXCONNC", "MAXCONNRATE", "MAXLOAD", "DIEMSG", "GREETHOLD", "EARLYTALKER", "NOTIFY_SOCKET"),
        *("PYQMAIL_DNS", "DNSCACHEIP"),
    ],
    see=[
        *("pytcprules(8)", "pytcprulescheck(8)", "pytcptop(1)", "pysmtpd(8)"),
        "pyrblsmtpd(8)",
        "pysupervise(8)",
        "pyqmail-rules(5)",
        "pyqmail-wires(5)",
    ],
)
