"""Complete and rewrite host names of a command line before DNS is asked.

A rule is a sign, what it matches, a colon, and the replacement.  Upper and lower case are the same.

    *X:Y    a name that ends in X: Y replaces X
    ?X:Y    likewise, if there is neither dot nor bracket before X
    =X:Y    the name X: Y
    -X:Y    a name that ends in X: Y replaces all of it

All rules are applied in turn; lines of another form do nothing.  A `+` in the result is before each of several ends to
try.  Source: ucspi-tcp
"""

import os

from pyqmail.base.environment import DEFAULTS
from pyqmail.system.descriptors import read_file

_SIGNS = (b"*", b"?", b"=", b"-")
_NO_DOT_AT_THE_END = b"*.:"  # so that a dot there means: do not complete the name


def alternatives(name: bytes, rules: list[bytes]) -> list[bytes]:
    """Return the names to look up, in order, until one has addresses: usually one; for `a+.x+.y` a.x and a.y."""
    for rule in rules:
        name = _applied(rule, name)
    start, *ends = name.split(b"+")
    return [start + end for end in ends] if ends else [start]


def find_rules(environ, resolv_conf: str = "/etc/resolv.conf", machine: str | None = None) -> list[bytes]:
    """Return the rules of this machine, from the first of these that exists.  Raises OSError.

    The file DNSREWRITEFILE (base/environment.py has its default), one rule per line; LOCALDOMAIN; the first search or
    domain line of resolv.conf; the domain in the name of the machine (None: ask the system).  All but the file end in
    `*.:`.
    """
    text = _content(environ.get(b"DNSREWRITEFILE", DEFAULTS["DNSREWRITEFILE"].encode()))
    if text is not None:
        return [rule for line in text.split(b"\n") for rule in line.rstrip(b" \t\r").split(b"\0")]
    if b"LOCALDOMAIN" in environ:
        return _completion(environ[b"LOCALDOMAIN"].split(b" "))
    for line in (_content(resolv_conf) or b"").split(b"\n"):
        if line[:7] in (b"search ", b"search\t", b"domain ", b"domain\t"):
            return _completion([word for word in line[7:].replace(b"\t", b" ").split(b" ") if word])
    dot, domain = os.fsencode(os.uname().nodename if machine is None else machine).partition(b".")[1:]
    return [b"?:" + dot + domain, _NO_DOT_AT_THE_END] if dot else [_NO_DOT_AT_THE_END]


def _applied(rule, name):
    sign, (end, colon, replacement) = rule[:1], rule[1:].partition(b":")
    if sign not in _SIGNS or not colon or not name.lower().endswith(end.lower()):
        return name
    start = name[: len(name) - len(end)]
    if sign == b"=" and start or sign == b"?" and any(c in start for c in b".[]"):
        return name
    return replacement if sign == b"-" else start + replacement


def _completion(domains):
    return [b"?:" + b"".join(b"+." + domain for domain in domains), _NO_DOT_AT_THE_END]


def _content(path):
    try:
        return read_file(path)
    except FileNotFoundError:
        return None
