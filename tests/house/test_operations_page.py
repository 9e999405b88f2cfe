"""pyqmail-operations(7): its commands and their options exist, and the log lines it quotes are written by the code.

Untested here: what the commands of the system do, and systemd's.
"""

import ast
import os
import re
import shlex

import pytest

from pyqmail.programs import pyqmail, registry

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SYSTEM = {
    "cat", "df", "du", "echo", "find", "git", "grep", "mv", "pip", "python3", "systemctl", "tail", "tar", "touch", "wc",
}  # fmt: skip
ESCAPED = re.compile(r"\\f[BRI]|\\")


def page():
    with open(os.path.join(ROOT, "man/pyqmail-operations.7"), encoding="utf-8") as file:
        return file.read()


def blocks():
    """Return the lines of the examples, without those of DESCRIPTION, which are tables."""
    text = page().partition(".SH INSTALL")[2]
    return [
        ESCAPED.sub("", line).strip()
        for block in re.findall(r"\.nf\n(.*?)\.fi", text, re.DOTALL)
        for line in block.splitlines()
    ]


COMMANDS = sorted({part for line in blocks() if line[:2] == "# " for part in re.split(r" \| ", line[2:])})
LINES = sorted({line for line in blocks() if line[:2] != "# "})
QUOTED = sorted(ESCAPED.sub("", line) for line in re.findall(r"^\.B (.*/)$", page(), re.MULTILINE))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_exists(command):
    words = shlex.split(re.split(r" [<>]+ ", command)[0])
    name = os.path.basename(words[0])
    if name in SYSTEM:
        return
    options = [word for word in words[1:] if word.startswith("-")]
    if name == "pyqmail":
        known = {form for one in pyqmail.command.commands[words[1]].params for form in one.opts}
        assert set(options) <= known
        return
    program = registry.load(name).PROGRAM
    long = {option.long_form.split()[0] for option in program.options if option.long_form}
    letters = {option.letter for option in program.options if option.letter}
    assert {one for one in options if one.startswith("--")} <= long
    assert set("".join(one[1:] for one in options if not one.startswith("--"))) <= letters


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\\fB(py[a-z0-9]+)[ \\]", page()))))
def test_a_name_in_bold_is_a_program(name):
    assert name in registry.names()


@pytest.fixture(scope="module")
def written():
    """Return a pattern for each string in the code that has words; what is filled in is a group."""
    found = set()
    for folder, _, files in os.walk(os.path.join(ROOT, "pyqmail")):
        for file in files:
            if file.endswith(".py"):
                with open(os.path.join(folder, file), encoding="utf-8") as source:
                    found |= set(patterns(ast.parse(source.read())))
    return [re.compile(pattern) for pattern in sorted(found)]


def patterns(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            pieces = re.split(r"%[bsd]", text.removesuffix("\n"))
        elif isinstance(node, ast.JoinedStr):
            pieces = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            pieces = "".join("%s" if piece is None else piece for piece in pieces).removesuffix("\n").split("%s")
        else:
            continue
        literal = "".join(pieces)
        pieces += [""] if literal.endswith(" ") and pieces[-1] else []  # what comes behind is added
        if "\n\n" not in literal and (re.search("[a-z]{2}", literal) or len(pieces) > 6):
            # without the letter of a report to pysend
            yield "(.*)".join(map(re.escape, [re.sub("^[ZDK](?=[A-Z])", "", pieces[0]), *pieces[1:]]))


def is_written(text, written, is_filled_in=False):
    """Return whether a string of the code has the text, and others what is filled in, unless that is one word."""
    if is_filled_in and " " not in text:
        return True
    for pattern in written:
        match = pattern.fullmatch(text)
        if match and all(is_written(part, written, True) for part in match.groups()):
            return True
    cuts = [match.start() for match in re.finditer(": ", text)]
    parts = [(text[:cut], text[cut + 2 :]) for cut in cuts]
    return any(all(is_written(part, written, is_filled_in) for part in pair) for pair in parts)


def as_said(line):
    """Return a log line with the blanks that a delivery's text has lost."""
    head, mark, text = line.rpartition(": ") if line.startswith("delivery ") else ("", "", line)
    return head + mark + (text.replace("_", " ").rstrip("/") if mark or line in QUOTED else text)


@pytest.mark.parametrize("line", LINES + QUOTED)
def test_a_quoted_line_is_written_by_the_code(line, written):
    assert is_written(as_said(line), written)


@pytest.mark.parametrize("line", ["end parcel 12", "delivery 1: failure: Sorry,_no_such_mailbox._(#5.1.1)/"])
def test_a_line_of_nobodys_is_found_out(line, written):
    assert not is_written(as_said(line), written)
