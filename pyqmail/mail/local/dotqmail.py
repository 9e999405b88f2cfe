"""The .qmail file: which one a delivery uses, and what its lines say.  Source: qmesearch() and main() of qmail-local"""

FILE, MAILDIR, PROGRAM, FORWARD, LIST, BLANK = "mbox", "maildir", "program", "forward", "list", "blank"


def file_extension(ext: bytes) -> bytes:
    """Return ext as file names carry it: lower case, a colon for each dot."""
    return ext.lower().replace(b".", b":")


def candidates(dash: bytes, ext: bytes) -> list[tuple[bytes, int | None]]:
    """Return the file names to try in order, each with where in ext DEFAULT begins, None if it is not set.

    Dash and ext both empty give `.qmail`, then `.qmaildefault`.
    """
    base, safe = b".qmail" + dash, file_extension(ext)
    exact = len(safe) - 7 if safe.endswith(b"default") else None
    names = [(base + safe, exact)]
    for end in range(len(safe), -1, -1):
        if end == 0 or safe[end - 1] == 45:
            names.append((base + safe[:end] + b"default", end))
    return names


def owner_files(dash: bytes, ext: bytes) -> tuple[bytes, bytes]:
    """Return the files whose presence changes the sender of what is forwarded: the owner's, and the VERP request's."""
    base = b".qmail" + dash + file_extension(ext)
    return base + b"-owner", base + b"-owner-default"


def instructions(text: bytes):
    """Yield (kind, value) for each line that is an instruction; value is a path, a command or an address.

    LIST and BLANK have no value; BLANK is a first line without anything in it.  Comments and later blank lines
    are not yielded.  A NUL ends its line.
    """
    for number, line in enumerate(text.removesuffix(b"\n").split(b"\n")):
        line = line.rstrip(b" \t").partition(b"\0")[0]
        first = line[:1]
        if not line:
            if number == 0:
                yield BLANK, b""
        elif first in (b".", b"/"):
            yield MAILDIR if line.endswith(b"/") else FILE, line
        elif first == b"|":
            yield PROGRAM, line[1:]
        elif first == b"+":
            if line == b"+list":
                yield LIST, b""
        elif first != b"#":
            yield FORWARD, line[1:] if first == b"&" else line
