"""Manual pages and --help: what a declaration becomes, and that no declaration leaves a user without an answer.

How a page looks is man's doing; here only that it finds nothing to complain of.
"""

import os
import shutil
import subprocess

import pytest

from pyqmail.base import manual
from pyqmail.base.controls import CONTROLS
from pyqmail.base.environment import VARIABLES
from pyqmail.base.options import Argument, Declaration, Flag, Rest, Value
from pyqmail.programs import registry

MAN = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "man")
PROGRAM = Declaration(
    name="pything",
    summary="do a thing",
    original="thing",
    usage="thing [ -v ] host program",
    options=[
        Flag("v", "level", "say all"),
        Value("l", "name", "NAME", "our `name`", long="label"),
        Value(None, "workers", "N", "how many", long="workers", default=4),
    ],
    arguments=[Argument("host", "where"), Rest("program", "what to run"), Rest("ignored")],
    notes=[("Words", [("-X", "a word")]), ("More", "one\n\ntwo")],
    controls=["me", "bouncehost"],
    environment=["PATH"],
    exits={0: "done", "others": "the program's own"},
    see=["pyother(8)"],
)
PAGE = r"""
.TH pything 8 "" pyqmail
.nh
.ad l
.SH NAME
pything \- do a thing
.SH SYNOPSIS
.B pything [ \-\-workers N ] [ \-l NAME ] [ \-v ] host program
.SH DESCRIPTION
.PP
Does it.
.PP
Takes the place of thing, whose name its messages carry.
.SH OPTIONS
.TP
.B \-v
say all
.TP
.B \-l NAME, \-\-label NAME
our \fBname\fR
.TP
.B \-\-workers N
how many; default 4
.SH ARGUMENTS
.TP
.I host
where
.TP
.I program
what to run
.SH WORDS
.TP
.B \-X
a word
.SH MORE
.PP
one
.PP
two
.SH CONTROL FILES
.TP
.I me
name of this host; the default of other files.  Default: none.
.TP
.I bouncehost
host of the From of bounces.  Default: control/me, otherwise bouncehost.
.SH ENVIRONMENT
.TP
.B PATH
directories in which programs are searched
.SH EXIT CODES
.TP
.B 0
done
.TP
.B others
the program's own
.SH SEE ALSO
pyother(8), pyqmail\-control(5), pyqmail\-differences(7)
"""


def test_a_page_has_all_that_is_declared():
    assert manual.page(PROGRAM, "Does it.\n") == PAGE.lstrip()


def test_help_has_it_too():
    assert manual.help_text(PROGRAM) == (
        "usage: pything [ --workers N ] [ -l NAME ] [ -v ] host program\n\n"
        "do a thing\n"
        "  -v                     say all\n"
        "  -l NAME, --label NAME  our `name`\n"
        "  --workers N            how many; default 4\n"
        "  host                   where\n"
        "  program                what to run\n"
    )


DESCRIPTIONS = [
    # docstring                           source
    ("a - b",                             ".PP\na \\- b"),
    ("a\\b",                              ".PP\na\\eb"),
    ("see\n.qmail\n'x",                   ".PP\nsee\n\\&.qmail\n\\&'x"),
    ("run `sh\n-c x` now",                ".PP\nrun \\fBsh\n\\-c x\\fR now"),
    ("`.qmail` is `.`",                   ".PP\n\\fB.qmail\\fR is \\fB.\\fR"),
    ("`a` .b\n.c",                        ".PP\n\\fBa\\fR .b\n\\&.c"),
    ("a ` alone",                         ".PP\na \\(ga alone"),
    ("~/x^2",                             ".PP\n\\(ti/x\\(ha2"),
    ("a\n\n    -b `c`\n      d\n\ne",     ".PP\na\n.PP\n.nf\n    \\-b \\(gac\\(ga\n      d\n.fi\n.PP\ne"),
]  # fmt: skip


@pytest.mark.parametrize("text, source", DESCRIPTIONS)
def test_what_the_formatter_would_take_for_its_own_is_escaped(text, source):
    page = manual.page(Declaration("pyx", "x"), text)
    assert page.partition(".SH DESCRIPTION\n")[2] == source + "\n"


SYNOPSES = [
    # usage                          long            source
    (None,                           ["calm"],       ".B pything [ \\-\\-calm ]"),
    ("thing",                        [],             ".B pything"),
    ("thing",                        ["calm"],       ".B pything [ \\-\\-calm ]"),
    ("thing [ --calm ] x",           ["calm"],       ".B pything [ \\-\\-calm ] x"),
    ("thing a [ b ] | thing c",      [],             ".B pything a [ b ]\n.br\n.B pything c"),
]  # fmt: skip


@pytest.mark.parametrize("usage, long, source", SYNOPSES)
def test_the_synopsis_is_the_originals_under_our_name_with_our_options(usage, long, source):
    options = [Flag(None, name, "so", long=name) for name in long]
    page = manual.page(Declaration("pything", "x", original="thing", usage=usage, options=options), "")
    assert page.partition(".SH SYNOPSIS\n")[2].partition("\n.SH")[0] == source


def test_the_synopsis_has_the_letters_that_the_usage_leaves_out():
    options = [Flag(letter, "so", "so") for letter in "va46"]
    options += [
        Value("l", "name", "NAME", "so"),
        Value("I", "interface", "IFNAME", "so"),
        Flag(None, "v", "v", long="v4"),
    ]
    page = manual.page(
        Declaration("pything", "x", original="thing", usage="thing [ -v ] [-l name] [ -a ] x", options=options), ""
    )
    synopsis = page.partition(".SH SYNOPSIS\n")[2].partition("\n.SH")[0]
    assert synopsis == r".B pything [ \-\-v4 ] [ \-46 ] [ \-I IFNAME ] [ \-v ] [\-l name] [ \-a ] x"


@pytest.mark.parametrize("name", registry.names())
def test_every_program_explains_itself(name):
    program = registry.load(name).PROGRAM
    assert registry.load(name).__doc__, "no DESCRIPTION"
    assert program.exits, "no EXIT CODES"
    unexplained = [option.letter or option.long for option in program.options if not option.meaning]
    unexplained += [one.field for one in program.arguments if not one.meaning and one.field not in ("ignored", "more")]
    assert not unexplained
    assert set(program.controls) <= set(CONTROLS) and set(program.environment) <= set(VARIABLES)
    assert all(os.path.exists(f"{MAN}/{word.replace('(', '.').rstrip(')')}") for word in program.see)


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
@pytest.mark.parametrize("name", sorted(os.listdir(MAN)))
def test_man_has_nothing_to_complain_of(name):
    shown = subprocess.run(
        ["man", "--warnings=all", "-l", f"{MAN}/{name}"], capture_output=True, timeout=30, stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "MANPAGER": "cat", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
    )  # fmt: skip
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"NAME" in shown.stdout
