"""Who a local part belongs to: users/cdb first, then the password database.

users/assign is the source that pynewu compiles into users/cdb.  A key of the cdb is `!` and the local part in lower
case, with a NUL at its end for an exact entry, without for a prefix; the empty key holds the last bytes of all
prefixes.  Data is user, uid, gid, home, dash, ext with NULs between.  Source: nughde_get() of qmail-lspawn
"""

import errno
import os

from pyqmail.base.failure import is_temporary
from pyqmail.base.numbers import leading_number

BREAK = b"-"
NAME_LIMIT = 32  # a user name is shorter
ALIAS = "alias"

# exit codes between qmail-getpw, qmail-lspawn and qmail-local
BUG, ROOT, NFS, NO_ALIAS, CDB, SYSTEM, NO_GETPW = 112, 113, 115, 116, 117, 118, 121


class Unknown(Exception):
    """No user could be found.  code: the exit code of qmail-getpw or qmail-lspawn that says why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class BadFormat(Exception):
    """users/assign breaks its format; str() says where."""


class Account:
    """The user that a delivery goes to: user, uid, gid, home, and the rest of the address, split into dash and ext."""

    __slots__ = ("user", "uid", "gid", "home", "dash", "ext")

    def __init__(self, user: bytes, uid: int, gid: int, home: bytes, dash: bytes, ext: bytes) -> None:
        self.user, self.uid, self.gid, self.home, self.dash, self.ext = user, uid, gid, home, dash, ext

    def pack(self) -> bytes:
        """Return the six fields, each ended by NUL, as qmail-getpw prints them."""
        return b"%s\0%d\0%d\0%s\0%s\0%s\0" % (self.user, self.uid, self.gid, self.home, self.dash, self.ext)


def unpack(fields: bytes) -> Account:
    """Return the account in six NUL-ended fields; what follows them is ignored.  Raises Unknown."""
    parts = fields.split(b"\0")
    if len(parts) < 7:
        raise Unknown(BUG)
    user, uid, gid, home, dash, ext = parts[:6]
    return Account(user, leading_number(uid), leading_number(gid), home, dash, ext)


def find_assigned(get, local: bytes) -> Account | None:
    """Return the account users/cdb has for a local part, None if it has none.

    get(key) returns the first data under a key or None.  Raises Unknown if the cdb is not a compiled users/assign.
    """
    breaks = get(b"")
    if breaks is None:
        raise Unknown(CDB)
    key = b"!" + local.lower()
    data = get(key + b"\0")
    if data is not None:
        return unpack(data + b"\0")
    for end in range(len(key), 0, -1):
        if end == 1 or key[end - 1] in breaks:
            data = get(key[:end])
            if data is not None:
                return unpack(data + local[end - 1 :] + b"\0")
    return None


def find_in_passwd(local: bytes, getpwnam, stat=os.stat) -> Account:
    """Return the account the password database has for a local part, else the alias user's.

    The whole local part counts as a name, then what precedes each dash, longest first.  A name counts if it is
    not root's and its home is there and its own.  getpwnam is pwd's.  Raises Unknown: home out of reach for now,
    database busy, no alias user.
    """
    for end in range(len(local), -1, -1):
        if end < NAME_LIMIT and (end == len(local) or local[end : end + 1] == BREAK):
            entry = _entry(getpwnam, os.fsdecode(local[:end].lower()))
            if entry is not None and entry.pw_uid and _owns_home(entry, stat):
                rest = local[end + 1 :]
                return _account(entry, b"" if end == len(local) else b"-", rest)
    entry = _entry(getpwnam, ALIAS)
    if entry is None:
        raise Unknown(NO_ALIAS)
    return _account(entry, b"-", local)


def find_in_private_home(home, local: bytes) -> Account:
    """Return the account of everybody who is not in users/cdb of a private home: its owner, in alias/.

    Raises OSError.
    """
    seen = os.stat(f"{home.path}/private")
    return Account(b"alias", seen.st_uid, seen.st_gid, os.fsencode(os.path.abspath(home.alias)), b"-", local)


def compile_assign(text: bytes) -> list[tuple[bytes, bytes]]:
    """Return the cdb's records, in order, for the text of users/assign.  Raises BadFormat.

    A line that begins with a dot ends it, and must be there.
    """
    records: list[tuple[bytes, bytes]] = []
    breaks, at = b"", 0
    while not text.startswith(b".", at):
        end = text.find(b"\n", at)
        if end < 0:
            raise BadFormat("the last line is not a dot")
        name, fields = _split_line(text[at : end + 1], len(records) + 1)
        at = end + 1
        key = b"!" + name[1:].lower()
        if not name.startswith(b"+"):
            key += b"\0"
        elif len(name) > 1 and name[-1:] not in breaks:
            breaks += name[-1:]
        records.append((key, b"\0".join(fields)))
    return [*records, (b"", breaks)]


def _split_line(line, number):
    """Return (sign and local part, six fields) of a line of users/assign.  Raises BadFormat."""
    name, colon, rest = line.partition(b":")
    fields = rest.split(b":", 6)
    if not name or not colon or len(fields) < 7 or b"\0" in line:
        raise BadFormat(f"line {number} is not of the form =local:user:uid:gid:home:dash:ext:")
    return name, fields[:6]


def _entry(getpwnam, name):
    try:
        return getpwnam(name)
    except KeyError:
        return None
    except OSError as error:
        if error.errno == errno.ETXTBSY:
            raise Unknown(SYSTEM) from None
        return None


def _owns_home(entry, stat):
    try:
        return stat(entry.pw_dir).st_uid == entry.pw_uid
    except OSError as error:
        if is_temporary(error):
            raise Unknown(NFS) from None
        return False


def _account(entry, dash, ext):
    return Account(os.fsencode(entry.pw_name), entry.pw_uid, entry.pw_gid, os.fsencode(entry.pw_dir), dash, ext)
