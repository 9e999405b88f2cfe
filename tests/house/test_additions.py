"""What is added is red until it stands everywhere: a control file, a long option, a kind of frame, a .qmail line.

CONTRIBUTING.md lists the places.  The others are held elsewhere: an option's use by test_declarations.py, a control
file's by test_controls.py, the pages by test_layers.py and test_controls.py, a program's files by test_layers.py.
"""

import ast
import codecs
import os
import re

import pytest

from pyqmail.base.controls import CONTROLS
from pyqmail.mail.local import dotqmail
from pyqmail.programs import registry

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def texts_of(folder, ends):
    """Return the text of each file of a folder and of those below it."""
    texts = []
    for place, _, names in os.walk(os.path.join(ROOT, folder)):
        if "house" not in place.split(os.sep):
            texts += [read(os.path.join(place, name)) for name in sorted(names) if name.endswith(ends)]
    return texts


def read_folder(folder, ends):
    return "\n".join(texts_of(folder, ends))


def without_comments(source):
    """Return a module as its syntax tree has it: what a comment names is not tried."""
    return ast.unparse(ast.parse(source))


def page(name):
    """Return a manual page as it reads, but for its macros."""
    return re.sub(r"\\f[BIR]", "", read(f"man/{name}")).replace("\\-", "-")


def names(text):
    """Return the words of a text, those with dashes and dots whole."""
    return set(re.findall(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*", text))


def words(text):
    return set(re.findall(r"\w+", text))


# control files and options

SOURCES = [without_comments(text) for text in texts_of("tests", ".py")]
TESTED = names("\n".join(SOURCES))
TRANSCRIPTS = read_folder("tests/transcripts", ".txt")
# an option that one of our programs gives to another, which tests start: option -> where
GIVEN = dict.fromkeys(("--starter", "--status-fd"), "pyqmail/programs/pystart.py")
LONG = sorted(
    (name, option.long_form.split()[0])
    for name in registry.names()
    for option in registry.load(name).PROGRAM.options
    if option.long
)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_file_is_tried_by_a_test(control):
    is_tried = control in TESTED or f"control {control}:" in TRANSCRIPTS
    assert is_tried, f"no test below tests/ gives control/{control}"


OURS = [control.name for control in CONTROLS.values() if not control.is_original]


@pytest.mark.parametrize("control", OURS)
def test_a_control_file_of_ours_is_a_difference_from_the_original(control):
    is_named = control in names(page("pyqmail-differences.7"))
    assert is_named, f"man/pyqmail-differences.7 does not name control/{control}"


@pytest.mark.parametrize("program, option", LONG)
def test_a_long_option_is_tried_by_a_test(program, option):
    text = read(GIVEN[option]) if option in GIVEN else ""
    if option not in GIVEN:
        own = f"tests/programs/test_{program.replace('-', '_').replace('@', '_at')}.py"
        text = "\n".join([read(own), *(text for text in SOURCES if program in names(text))])
    is_given = re.search(rf"(?<![\w-]){option}(?![\w-])", text) is not None
    assert is_given, f"no test below tests/ gives {option} to {program}"


# wires

WIRES = {
    # module, transcript    section of pyqmail-wires(5)
    "queue_wire":           ("queue-wire.txt", "THE QUEUE WIRE"),
    "handover_wire":        ("handover-wire.txt", "THE HAND-OVER"),
    "native_dialect":       ("native-wire.txt", "THE NATIVE DIALECT"),
    "local_wire":           ("local-wire.txt", "THE LOCAL WORKER WIRE"),
    "resolve_wire":         ("resolve-wire.txt", "THE RESOLVE WIRE"),
}  # fmt: skip


def test_every_wire_of_frames_is_here():
    folder = os.path.join(ROOT, "pyqmail/protocol/wires")
    paths = [name for name in os.listdir(folder) if name.endswith(".py")]
    framed = {path for path in paths if "wires import frames" in read(f"pyqmail/protocol/wires/{path}")}
    assert framed == {f"{wire}.py" for wire in WIRES}


def users(wire):
    """Return the text of all modules that name the wire's module, but for the wires themselves."""
    texts = []
    for layer in ("mail", "programs", "system", "tcp"):
        for place, _, files in os.walk(os.path.join(ROOT, "pyqmail", layer)):
            texts += [read(os.path.join(place, name)) for name in files if name.endswith(".py")]
    return "\n".join(text for text in texts if wire in text)


def tree_of(wire):
    return ast.parse(read(f"pyqmail/protocol/wires/{wire}.py"))


def kinds(wire):
    """Return name -> number of the kinds of a wire's frames: the names that its module assigns together."""
    found = {}
    for node in tree_of(wire).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            text = ast.unparse(node.value)
            if re.fullmatch(r"range\(\d+, \d+\)|\(\d+(, \d+)+\)", text):
                names_here = [target.id for target in node.targets[0].elts]
                found |= zip(names_here, eval(text), strict=True)
    return found


def frames_of(transcript):
    """Return the kinds of the frames that a transcript has, in either of the two notations."""
    for line in read(f"tests/transcripts/{transcript}").splitlines():
        if match := re.match(r"[A-Z]: [0-9a-f]{8} 01 ([0-9a-f]{2}) ", line):
            yield int(match[1], 16)
        elif match := re.match(r"[a-z]+ +\w+ +(\\.*)", line):
            yield codecs.escape_decode(match[1].encode())[0][5]


@pytest.mark.parametrize("wire", WIRES)
def test_a_kind_of_frame_stands_in_the_docstring(wire):
    rows = re.findall(r"^    ([A-Z][A-Z_0-9]+) +(\d+) ", ast.get_docstring(tree_of(wire), clean=False), re.MULTILINE)
    assert {name: int(number) for name, number in rows} == kinds(wire)


@pytest.mark.parametrize("wire", WIRES)
def test_a_kind_of_frame_stands_in_the_manual(wire):
    section = page("pyqmail-wires.5").partition(f"\n.SH {WIRES[wire][1]}\n")[2].partition("\n.SH ")[0]
    rows = re.findall(r"^    (\d+) ([A-Z][A-Z_0-9]+) ", section, re.MULTILINE)
    assert {name: int(number) for number, name in rows} == kinds(wire)


@pytest.mark.parametrize("wire", WIRES)
def test_a_kind_of_frame_stands_in_the_transcript(wire):
    assert set(frames_of(WIRES[wire][0])) == set(kinds(wire).values())


@pytest.mark.parametrize("wire", WIRES)
def test_a_kind_of_frame_is_spoken_by_a_test_that_has_only_the_page(wire):
    assert kinds(wire).keys() - words(read_folder("tests/interop/wires", ".py")) == set()


@pytest.mark.parametrize("wire", WIRES)
def test_a_kind_of_frame_is_used(wire):
    assert kinds(wire).keys() - words(users(wire)) == set()


# lines of .qmail files

DOT_QMAIL = ast.parse(read("pyqmail/mail/local/dotqmail.py"))
INSTRUCTIONS = next(node for node in DOT_QMAIL.body if getattr(node, "name", "") == "instructions")
KINDS = {name for name in vars(dotqmail) if name.isupper()}


def marks():
    """Return what instructions() compares the start of a line with."""
    compared = [part for node in ast.walk(INSTRUCTIONS) if isinstance(node, ast.Compare) for part in ast.walk(node)]
    return {part.value.decode() for part in compared if isinstance(part, ast.Constant) and part.value}


def test_a_kind_of_dot_qmail_line_comes_from_a_line():
    assert {node.id for node in ast.walk(INSTRUCTIONS) if isinstance(node, ast.Name)} >= KINDS


def test_a_kind_of_dot_qmail_line_is_followed_by_a_delivery():
    used = {ast.unparse(node) for node in ast.walk(ast.parse(read("pyqmail/mail/local/delivery.py")))}
    assert {f"dotqmail.{kind}" for kind in KINDS} - used == set()


def test_a_kind_of_dot_qmail_line_is_tried_by_a_test():
    assert KINDS - words(read("tests/mail/local/test_dotqmail.py").partition("\nLINES = [")[2]) == set()


def test_a_mark_of_dot_qmail_lines_stands_in_the_manual():
    section = page("pydot-qmail.5").partition("\n.SH LINES\n")[2].partition("\n.SH ")[0]
    entries = [word for line in re.findall(r"^\.B (.*)$", section, re.MULTILINE) for word in line.split(" or ")]
    assert len(marks()) > 5
    assert [mark for mark in sorted(marks()) if not any(entry.startswith(mark) for entry in entries)] == []


def test_an_address_cannot_begin_with_a_mark():
    """It stands in man/pydot-qmail.5, in one sentence."""
    sentence = re.search(r"An address that begins with (.*?) needs the &", page("pydot-qmail.5"))[1]
    assert set(sentence.replace(" or ", " ").split()) == {mark for mark in marks() if len(mark) == 1 and mark.strip()}
