"""The environment variables our programs read or set, declared once: name -> meaning, and what counts without it.

Manual pages quote this.

And the order in which additions to an environment leave it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VARIABLES = {
    "DATABYTES": "overrides control/databytes; no leading digit means 0, no limit",
    "DEFAULT": "the part of EXT that `default` in the .qmail file's name stood for; set only then",
    "DIEMSG": "what a client above a limit is told before it is denied; DIEMSG_MAXCONNIP and its like for one limit",
    "DNSCACHEIP": "DNS servers to ask instead of /etc/resolv.conf's: dotted addresses, joined by dots if several",
    "DNSREWRITEFILE": "the rules that host names are rewritten by",
    "DTLINE": "the Delivered-To line of this delivery, its newline included",
    "EARLYTALKER": "1 if a client that was held back talked, or left, before its time; else not set",
    "EXT": "the address extension of this delivery; EXT2, EXT3, EXT4 its ends after the first, second, third dash",
    "GID": "group id, decimal",
    "GREETDELAY": "for how many seconds a client waits for its greeting",
    "GREETHOLD": "for how many seconds a client is held back before the program; from a rule",
    "HOME": "home directory of the user",
    "HOST": "domain part of the recipient; HOST2, HOST3, HOST4 without its last one, two, three labels",
    "LISTEN_FDS": "how many sockets were passed on, from descriptor 3 up",
    "LISTEN_PID": "the process they were passed on to",
    "LOCAL": "local part of the recipient",
    "LOCALDOMAIN": "domains, separated by blanks, to complete host names with, if there are no rules",
    "MAXCONNC": "most connections from one network, /24 or /64; a rule may set it",
    "MAXCONNIP": "most connections from one address; a rule may set it",
    "MAXCONNRATE": "most new connections from one address, of IPv6 one /64, within 60 seconds; a rule may set it",
    "MAXLOAD": "deny everybody while the load average of a minute, times 100, is above it; a rule may set it",
    "NEWSENDER": "the sender of what is forwarded",
    "NOTIFY_SOCKET": "the datagram socket where a service manager hears that connections are served, or no more",
    "PATH": "where programs are searched",
    "PROTO": "the protocol of the connection: TCP, TCP6 or UNIX",
    "PYQMAIL_DNS": "DNS servers to ask before any other setting: address:port, several separated by blanks",
    "PYQMAIL_HOME": "the qmail home",
    "QMAILQUEUE": "the program to queue a message with, relative to the qmail home, instead of our own; its exit code "
    "0 counts only if it has read descriptor 0, the message, to its end",
    "QMAILREMOTE": "the program to deliver remotely with, instead of our own",
    "RBLSMTPD": "empty: the client is welcome; else why it is refused, for good after a `-`; no list is asked then",
    "RECIPIENT": "the envelope recipient of this delivery",
    "RELAYCLIENT": "if set, every recipient is accepted and its value, usually empty, is appended to it",
    "RPLINE": "the Return-Path line of this delivery, its newline included",
    "SENDER": "the envelope sender, empty for a bounce",
    "SMTP_ADDRESS": "where SMTP listens: a word like the host of pytcpserver",
    "SMTP_PORT": "the port of SMTP",
    "SUPERVISEDIR": "where supervisors have their files, instead of supervise/ in the directory of each service",
    "TCPLOCALHOST": "name of the local end of the connection; unset when unknown",
    "TCPLOCALIP": "address of the local end of the connection",
    "TCPLOCALPORT": "port of the local end of the connection",
    "TCPREMOTEHOST": "name of the client, in lower case; unset when unknown",
    "TCPREMOTEINFO": "what the client's ident server says; unset when there is none",
    "TCPREMOTEIP": "address of the client",
    "TCPREMOTEPORT": "port of the client",
    "TMPDIR": "where a message over 1 MB stays while it is collected, in a file without a name",
    "TZ": "the time zone of local times, as the C library reads it",
    "UFLINE": "the From_ line of this delivery, its newline included",
    "UID": "user id, decimal",
    "UNIXREMOTEEUID": "user id of the client of a UNIX socket",
    "USER": "name of the user delivered to",
}

# name -> what counts where it is not set, for those for which that can be said in a word
DEFAULTS = {
    "DNSREWRITEFILE": "/etc/dnsrewrite",
    "PYQMAIL_HOME": "/var/qmail",
    "SMTP_ADDRESS": "127.0.0.1",
    "SMTP_PORT": "2525",
    "TMPDIR": "/tmp",
}


def merged(environ: "Mapping[bytes, bytes]", additions: "Iterable[tuple[bytes, bytes | None]]") -> dict[bytes, bytes]:
    """Return environ with additions, pairs of (name, value), in the order the originals' programs see.

    A value of None removes the name.  Each addition takes the place away from an entry of its name, which the
    last entry then fills, and stands at the end itself.  A name that is empty cannot be passed on and is left out.
    Source: pathexec of ucspi-tcp
    """
    names, values = list(environ), dict(environ)
    for name, value in additions:
        if name in values:
            names[names.index(name)] = names[-1]
            names.pop()
            del values[name]
        if value is not None and name:
            names.append(name)
            values[name] = value
    return {name: values[name] for name in names}
