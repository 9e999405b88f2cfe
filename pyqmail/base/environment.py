"""The environment variables our programs read or set, declared once: name -> meaning, and what counts without it.

Manual pages quote this.

And the order in which additions to an environment leave it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LIMIT = "overrides control/%s for a client; a rule may set it, and a value that is no number has no effect"
_LIST = "overrides control/%s for a client: entries separated by blanks; empty: none"

VARIABLES = {
    "BADHELO": _LIST % "badhelo",
    "BADRCPTTO": _LIST % "badrcptto",
    "BRTLIMIT": _LIMIT % "brtlimit",
    "CLIENTCONNECTIONS": _LIMIT % "clientconnections",
    "CLIENTMESSAGES": _LIMIT % "clientmessages",
    "CLIENTNETWORK": _LIMIT % "clientnetwork",
    "CLIENTRATE": _LIMIT % "clientrate",
    "CLIENTRECIPIENTS": _LIMIT % "clientrecipients",
    "DATABYTES": "overrides control/databytes; no leading digit means 0, no limit",
    "DEFAULT": "the part of EXT that `default` in the .qmail file's name stood for; set only then",
    "DIEMSG": "reply to a client above a limit before it is denied; DIEMSG_MAXCONNIP and its like: for one limit",
    "DNSCACHEIP": "DNS servers to ask instead of /etc/resolv.conf's: dotted addresses, joined by dots if several",
    "DNSREWRITEFILE": "the file of rules to rewrite host names with",
    "DTLINE": "the Delivered-To line of this delivery, its newline included",
    "EARLYTALKERS": _LIMIT % "earlytalkers",
    "EARLYTALKER": "1 if a client that was held back sent something, or left, too early; otherwise not set",
    "ERRORDELAY": _LIMIT % "errordelay",
    "ERRORLIMIT": _LIMIT % "errorlimit",
    "EXT": "the address extension of this delivery; EXT2, EXT3, EXT4 its ends after the first, second, third dash",
    "GID": "group id, decimal",
    "GREETDELAY": "seconds that a client waits for its greeting",
    "GREETHOLD": "seconds that a client is held back before the program starts; set by a rule",
    "HOME": "home directory of the user",
    "HOST": "domain part of the recipient; HOST2, HOST3, HOST4 without its last one, two, three labels",
    "JUNKLIMIT": _LIMIT % "junklimit",
    "LISTEN_FDS": "number of sockets that were passed on, from descriptor 3 up",
    "LISTEN_PID": "pid of the process that the sockets were passed on to",
    "LOCAL": "local part of the recipient",
    "LOCALDOMAIN": "domains, separated by blanks, to complete host names with, if rules are missing",
    "MAXCONNC": "maximum of connections from one network, /24 or /64; a rule may set it",
    "MAXCONNIP": "maximum of connections from one address; a rule may set it",
    "MAXCONNRATE": "maximum of new connections from one address, of IPv6 one /64, within 60 seconds; a rule may set it",
    "MAXLOAD": "deny all clients while the load average of a minute, times 100, is above it; a rule may set it",
    "MAXRCPT": _LIMIT % "maxrcpt",
    "MINDATARATE": _LIMIT % "mindatarate",
    "NEWSENDER": "envelope sender of forwarded messages",
    "NOTIFY_SOCKET": "the datagram socket of a service manager, to report that connections are served, or no longer",
    "PATH": "directories in which programs are searched",
    "PROTO": "the protocol of the connection: TCP, TCP6 or UNIX",
    "PYQMAIL_DNS": "DNS servers to ask before any other setting: address:port, several separated by blanks",
    "PYQMAIL_HOME": "the qmail home",
    "QMAILQUEUE": "the program to queue a message with, relative to the qmail home, instead of our own; its exit code "
    "0 counts only if it has read descriptor 0, the message, to its end",
    "QMAILREMOTE": "the program to deliver remotely with, instead of our own",
    "RBLSMTPD": "empty: the client is accepted; otherwise the reason to refuse it, permanently after a `-`; if it is "
    "set, no list is asked",
    "RECIPIENT": "the envelope recipient of this delivery",
    "RELAYCLIENT": "if set, every recipient is accepted and its value, usually empty, is appended to it",
    "RPLINE": "the Return-Path line of this delivery, its newline included",
    "SENDER": "the envelope sender, empty for a bounce",
    "SESSIONIDLE": _LIMIT % "sessionidle",
    "SMTP_ADDRESS": "the address where SMTP listens: a word like the host of pytcpserver",
    "SMTP_BACKLOG": "the backlog of the service pysmtpd: connections that wait to be accepted",
    "SMTP_LIMIT": "clients at once of the service pysmtpd",
    "SMTP_PORT": "the port of SMTP",
    "SOFTERRORLIMIT": _LIMIT % "softerrorlimit",
    "SUPERVISEDIR": "place of the supervisors' files, instead of supervise/ in the directory of each service",
    "TARPITCOUNT": _LIMIT % "tarpitcount",
    "TARPITDELAY": _LIMIT % "tarpitdelay",
    "TCPLOCALHOST": "name of the local end of the connection; unset if it is unknown",
    "TCPLOCALIP": "address of the local end of the connection",
    "TCPLOCALPORT": "port of the local end of the connection",
    "TCPREMOTEHOST": "name of the client, in lower case; unset if it is unknown",
    "TCPREMOTEINFO": "what the client's ident server reports; unset if it reports nothing",
    "TCPREMOTEIP": "address of the client",
    "TCPREMOTEPORT": "port of the client",
    "TMPDIR": "directory for messages over 1 MB while they are collected, in files without a name",
    "TZ": "time zone of local times, as the C library reads it",
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
    "SMTP_BACKLOG": "1024",
    "SMTP_LIMIT": "1000",
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
