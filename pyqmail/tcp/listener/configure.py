"""Build the parts of the server from the options of pytcpserver; import only what an option asks for.

call is what base/options.py makes of the command line; its fields are those of the program's declaration.
"""

import os

from pyqmail.base.numbers import leading_number, says_just
from pyqmail.base.printable import printable
from pyqmail.base.shortages import raising_command
from pyqmail.system.listener import first_session_number
from pyqmail.system.loop import Loop
from pyqmail.system.rlimits import number_in, sysctl_path
from pyqmail.tcp.access.connection_counts import ConnectionCounts
from pyqmail.tcp.access.decide import ConnectionPolicy
from pyqmail.tcp.access.limits import NAMES, REPLY, VARIABLES, Limits
from pyqmail.tcp.listener.bind import is_inherited
from pyqmail.tcp.listener.limit_files import digits_of
from pyqmail.tcp.listener.server import Server


def policy_of(call) -> ConnectionPolicy:
    """Return what the command line says about connections."""
    rules = None
    if call.rules is not None:
        from pyqmail.tcp.rules.lookup import Rules

        rules = Rules(call.rules, call.absent_rules_allow)
    return ConnectionPolicy(
        local_host=None if call.local_host is None else os.fsencode(call.local_host),
        looks_up_name=call.looks_up_name,
        is_paranoid=call.is_paranoid,
        asks_ident=call.asks_ident,
        ident_seconds=call.ident_seconds,
        greet_seconds=call.greet_seconds,
        keeps_options=call.keeps_options,
        has_no_delay=call.has_no_delay,
        banner=os.fsencode(call.banner),
        rules=rules,
        rules_name=call.rules or "",
        limits=limits_of(call),
    )


def limits_of(call):
    """Return the Limits of the options, and of the environment where an option is missing; None if nothing can limit.

    Raises Temporary.
    """
    settings = {name: call.environ[name] for name in VARIABLES if name in call.environ}
    settings |= {name: digits_of(word) for name, word in limit_words(call).items()}
    if call.excess_reply is not None:
        settings[REPLY] = os.fsencode(call.excess_reply)
    if not settings and call.rules is None:
        return None
    return Limits(settings, exempt=None if call.exempt is None else os.fsencode(call.exempt))


def odd_limits(call) -> list[str]:
    """Return a text for each limit in the environment that is not a number, and is read as its first digits."""
    found = {name: call.environ[name] for name in NAMES if name in call.environ and name not in limit_words(call)}
    return [
        f"{name.decode()}={printable(value[:64]).replace(' ', '?')} is read as {leading_number(value)}"
        for name, value in found.items()
        if not says_just(value, leading_number(value))
    ]


def short_backlog(call) -> list[str]:
    """Return a text if the kernel lets fewer connections wait than -b asks for; it cuts that down and says nothing.

    Nothing for sockets that were passed on: they have a backlog of their own.
    """
    most = number_in(sysctl_path("net.core.somaxconn"))
    if most is None or call.backlog <= most or all(map(is_inherited, call.host.split(","))):
        return []
    command = raising_command("net.core.somaxconn", call.backlog)
    return [f"backlog for {most} connections only, of {call.backlog}; to raise it: {command}"]


def limit_words(call) -> dict[bytes, str]:
    """Return the limits of the options: variable -> a number, or a file that has it."""
    words = zip(NAMES, (call.most_load, call.per_address, call.per_network, call.rate), strict=True)
    return {name: word for name, word in words if word is not None}


def server_of(call, sockets, limit: int, policy, hooks) -> Server:
    """Return the server, on a loop of its own."""
    loop = Loop()
    return Server(
        loop,
        sockets,
        limit,
        call.verbosity,
        first_session_number(),
        counts=policy.limits and ConnectionCounts(),
        proxies=proxy_clients(loop, call.is_proxy),
        drain_seconds=call.drain_seconds,
        hooks=hooks,
        oddities=call.oddities,
    )


def proxy_clients(loop, is_proxy):
    """Return what reads the headers of proxies, None if no proxy is listed."""
    if is_proxy is None:
        return None
    from pyqmail.tcp.listener.proxy_clients import ProxyClients

    return ProxyClients(loop, is_proxy)


def readiness(call) -> list:
    """Return the hook that notifies a service manager, if there is one; before we open what might get its number."""
    if call.ready_fd is None and b"NOTIFY_SOCKET" not in call.environ:
        return []
    from pyqmail.tcp.listener.readiness import Readiness

    return [Readiness(call.ready_fd, call.environ)]


def status_socket(call) -> list:
    """Return the hook of the status socket, if one is wanted; before rights are dropped."""
    if call.status_socket is None:
        return []
    from pyqmail.tcp.listener.status import StatusHook

    return [StatusHook(call.status_socket)]
