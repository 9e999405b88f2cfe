"""Decide whether a connection is served: options, banner, names, ident, rules, limits.

One coroutine for all serving modes: over the blocking driver in a child, over the event driver in a worker, and in the
listener itself if nothing in it can wait.
"""

import socket

from pyqmail.base.failure import reason
from pyqmail.base.numbers import leading_number
from pyqmail.system.channel import Gone
from pyqmail.system.coroutines import TimedOut
from pyqmail.tcp.access.client_names import Unable, ask_ident, find_name
from pyqmail.tcp.access.connection import TCP, UNIX, plain
from pyqmail.tcp.access.environment import tcp_variables, unix_variables

_MAX_GREET_SECONDS = 3600


class ConnectionPolicy:
    """What the command line says about connections, the same for all of them.

    local_host None: look it up.  banner may be empty.  rules: Rules or None; rules_name is what messages call them.
    limits: Limits (tcp/access/limits.py) or None.  greet_seconds: how long the program is delayed; 0: not at all.
    """

    def __init__(self, **settings):
        self.local_host = self.rules = self.limits = None
        self.looks_up_name = self.is_paranoid = self.asks_ident = False
        self.keeps_options, self.has_no_delay = False, False
        self.ident_seconds, self.greet_seconds, self.banner, self.rules_name = 0, 0, b"", ""
        self.__dict__.update(settings)

    @property
    def looks_up(self) -> bool:
        """Whether a connection has to wait for the answer of another server."""
        return self.local_host is None or self.looks_up_name or self.asks_ident


class Drop(Exception):
    """The connection cannot be served; str() is the text after `dropping connection, `.  The exit code is 111."""


class AccessDecision:
    """Whether the client is denied, and the variables to set (value None: to unset), in order.

    fields are those of the `ok` or `deny` line, remark what follows them.  is_usual: additions are those of every TCP
    client, in the order of NAMES, and no more.  greet_seconds: how long the program is delayed.
    """

    __slots__ = ("is_denied", "additions", "fields", "remark", "is_usual", "greet_seconds")

    def __init__(self, is_denied, additions, fields, remark=b"", is_usual=False, greet_seconds=0):
        self.is_denied, self.additions, self.fields, self.remark = is_denied, additions, fields, remark
        self.is_usual, self.greet_seconds = is_usual, greet_seconds


async def decide(policy, sock, peer, client, driver, names) -> AccessDecision:
    """Do all that comes before the program, and return the decision.

    peer writes to sock.  driver: blocking or event; names: BlockingNames or ChannelNames, None if nothing is looked up.
    Raises Drop.
    """
    if client.protocol == UNIX:
        if policy.banner:
            await _say(peer, policy.banner)
        uid = client.uid
        unix_fields = (b"", client.local_ip, b"", b"", client.ip, uid, b"")
        return await _judge(policy, peer, client, None, uid, unix_variables(client), unix_fields)
    if not policy.keeps_options and client.protocol == TCP:
        _try_option(sock, socket.IPPROTO_IP, socket.IP_OPTIONS, b"")
    if policy.has_no_delay:
        _try_option(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if policy.banner:
        await _say(peer, policy.banner)
    ip, local_ip = client.ip, client.local_ip or _own_address(sock)
    local_host = policy.local_host
    if local_host is None:
        local_host = await _found(None, find_name(names, local_ip, False))  # no rule asks for it
    host = info = None
    if policy.looks_up_name:
        host = await _found(policy.rules, find_name(names, ip, policy.is_paranoid))
    if policy.asks_ident:
        ends = ip, client.port, local_ip, client.local_port
        info = await _found(policy.rules, ask_ident(driver, ends, policy.ident_seconds))
    additions = tcp_variables(client, local_ip, local_host, host, info)
    fields = (local_host, local_ip, client.local_port, host, ip, info, client.port)
    return await _judge(policy, peer, client, host, info, additions, fields)


async def _found(rules, look_up):
    """Return what a look-up finds; None if it could not be made and there are no rules, which might deny that client.

    Raises Drop.
    """
    try:
        return await look_up
    except Unable as why:
        if rules is not None:
            raise Drop(f"unable to look up the client: {why}") from None
        return None


async def _judge(policy, peer, client, host, info, additions, fields):
    """Return the decision of rules and limits about a client of which all else is known."""
    rule, variables, is_usual = None, (), client.protocol == TCP
    if policy.rules is not None:
        try:
            rule = policy.rules.find(client.ip, host, info)
        except OSError as error:
            raise Drop(f"unable to read {policy.rules_name}: {reason(error)}") from None
    if rule is not None:
        if rule.is_denied:
            return AccessDecision(True, additions, fields)
        if rule.variables:
            variables, is_usual = rule.variables, False
            additions += variables
    if policy.limits is not None:
        excess = policy.limits.excess(client, variables)
        if excess is not None:
            if excess.reply:
                await _say(peer, excess.reply)
            return AccessDecision(True, additions, fields, excess.remark)
    return AccessDecision(False, additions, fields, b"", is_usual, _greet_seconds(policy, variables))


def _greet_seconds(policy, variables):
    for name, value in variables:
        if name == b"GREETHOLD":
            return min(leading_number(value), _MAX_GREET_SECONDS)
    return policy.greet_seconds


async def hold_greeting(decision, peer) -> None:
    """Delay the program as long as the decision says; EARLYTALKER is set for a client that sends something before.

    A client that has gone counts as one that sends.
    """
    if decision.greet_seconds:
        is_early = await peer.has_input_within(decision.greet_seconds)
        decision.additions.append((b"EARLYTALKER", b"1" if is_early else None))


def _try_option(sock, level, option, value):
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        pass


def _own_address(sock):
    try:
        return plain(sock.getsockname()[0]).encode()
    except OSError as error:
        raise Drop(f"unable to get local address: {reason(error)}") from None


async def _say(peer, banner):
    peer.put(banner)
    try:
        await peer.flush()
    except Gone as gone:
        error = gone.__context__
        raise Drop(f"unable to print banner: {reason(error if isinstance(error, OSError) else 0)}") from None
    except TimedOut:
        raise Drop("unable to print banner: timed out") from None
