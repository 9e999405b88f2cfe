"""Option parsing as the originals do it, and what comes from a declaration."""

import pytest

from pyqmail.base.failure import Usage
from pyqmail.base.options import Act, Argument, Declaration, Flag, Rest, Value, with_default


def number(text):
    if not text.isdigit():
        raise ValueError(f"not a number: {text}")
    return int(text)


PROGRAM = Declaration(
    name="pything",
    summary="do a thing",
    original="thing",
    options=[
        Flag("v", "level", "say all", value=2, default=1),
        Flag("q", "level", "say nothing", value=0),
        Value("l", "name", "name", "our name"),
        Value(None, "workers", "N", "how many", number, long="workers", default=3),
        Flag(None, "calm", "slowly", long="calm"),
        Act("U", lambda call: setattr(call, "uid", call.environ[b"UID"]), "uid from the environment"),
        Act("r", lambda call, text: call.bases.append(text), "a base", metavar="base"),
    ],
    fields={"uid": None},
    arguments=[Argument("host"), Argument("port", optional=True, default="25"), Rest("program")],
)


def parse(*words):
    call = PROGRAM.parse(["bin/thing", *words], {b"UID": b"7"})
    return {field: value for field, value in vars(call).items() if field not in ("argv0", "environ")}


DEFAULT = {"level": 1, "name": None, "workers": 3, "calm": False, "uid": None, "host": "h", "port": "25", "program": []}

ACCEPTED = [
    (["h"], {}),
    (["-v", "h"], {"level": 2}),
    (["-vq", "h"], {"level": 0}),
    (["-qv", "h", "1", "p", "-v"], {"level": 2, "port": "1", "program": ["p", "-v"]}),
    (["-vlname", "h"], {"level": 2, "name": "name"}),
    (["-l", "-v", "h"], {"name": "-v"}),
    (["-l", "", "h"], {"name": ""}),
    (["-l", "a", "-lb", "h"], {"name": "b"}),
    (["-v", "--", "h"], {"level": 2}),
    (["--", "-v"], {"host": "-v"}),
    (["-", "1"], {"host": "-", "port": "1"}),
    (["-U", "h"], {"uid": b"7"}),
    (["--workers", "5", "h"], {"workers": 5}),
    (["--workers=6", "--calm", "h"], {"workers": 6, "calm": True}),
]


@pytest.mark.parametrize("words, changed", ACCEPTED)
def test_accepted(words, changed):
    assert parse(*words) == {**DEFAULT, **changed}


USAGE = "thing: usage: thing [ -vqU ] [ -l name ] [ -r base ] [ --workers N ] [ --calm ] host [ port ] [ program ... ]"

REFUSED = [
    ([], USAGE),
    (["-z", "h"], f"thing: illegal option -- z\n{USAGE}"),
    (["-vl"], f"thing: option requires an argument -- l\n{USAGE}"),
    (["--nothing", "h"], f"thing: illegal option -- -nothing\n{USAGE}"),
    (["--calm=1", "h"], f"thing: illegal option -- -calm\n{USAGE}"),
    (["--workers"], f"thing: option requires an argument -- -workers\n{USAGE}"),
    (["--workers", "x", "h"], f"thing: not a number: x\n{USAGE}"),
]


@pytest.mark.parametrize("words, text", REFUSED)
def test_refused(words, text):
    with pytest.raises(Usage) as refusal:
        parse(*words)
    assert str(refusal.value) == text


LETTERLESS = Declaration("pything", "do", options=[Flag(None, "calm", long="calm")], arguments=[Rest("words")])
WORDS = [
    # given                  calm   operands
    (["--calm", "-x"],       True,  ["-x"]),
    (["--*", "--calm"],      False, ["--*", "--calm"]),
    (["---calm"],            False, ["---calm"]),
    (["--calm", "--", "--"], True,  ["--"]),
    (["-", "--calm"],        False, ["-", "--calm"]),
]  # fmt: skip


@pytest.mark.parametrize("given, calm, words", WORDS)
def test_without_letters_only_names_are_options(given, calm, words):
    call = LETTERLESS.parse(["thing", *given], {})
    assert (call.calm, call.words) == (calm, words)


def test_an_act_acts_at_its_place():
    call = PROGRAM.parse(["thing", "h"], {})
    call.bases = []
    words = ["-ra", "-v", "-r", "b", "c"]
    PROGRAM._parse_options(call, words)
    assert (call.bases, words) == (["a", "b"], ["c"])


DEFAULTS = [
    # options                                                                     field   holds   without
    ([Flag("v", "a")],                                                             "a",    False),
    ([Flag("v", "a", value=2)],                                                    "a",    None),
    ([Flag("v", "a", value=2, default=1)],                                         "a",    1),
    ([Flag("V", "a"), Flag("v", "a", value=False, is_default=True)],               "a",    False),
    ([Flag("v", "a", value=False), Flag("V", "a", is_default=True)],               "a",    True),
    ([Flag("v", "a"), Flag("q", "a", value=0), Flag("Q", "a", value=1, is_default=True)], "a", 1),
    ([Value("l", "a", "A")],                                                       "a",    None),
    ([Value("l", "a", "A", default=0)],                                            "a",    0),
    ([Value("l", "a", "A", default="")],                                           "a",    ""),
]  # fmt: skip


def test_a_default_of_bytes_is_shown_as_its_text():
    assert with_default("a, b or c", b"a") == "a, b or c; default a"


@pytest.mark.parametrize("options, field, value", DEFAULTS)
def test_a_default_is_declared_with_its_option(options, field, value):
    call = Declaration("pything", "do", options=options).parse(["thing"], {})
    assert getattr(call, field) is value


EXPLAINED = [
    (Flag("v", "a", "say all"),                                     "say all"),
    (Flag("v", "a", "say all", value=2, default=1),                 "say all"),
    (Flag("v", "a", "say all", is_default=True),                    "say all (default)"),
    (Value("l", "a", "A", "lines"),                                 "lines"),
    (Value("l", "a", "A", "lines", default=40),                     "lines; default 40"),
    (Value("l", "a", "A", "lines", default=(2, 58)),                "lines; default 2+58"),
    (Value("l", "a", "A", "lines", default=0),                      "lines"),
    (Value("l", "a", "A", "lines", default=""),                     "lines"),
    (Argument("port", "the port", optional=True, default="25"),     "the port; default 25"),
    (Argument("port", "", optional=True, default="25"),             ""),
]  # fmt: skip


@pytest.mark.parametrize("declared, text", EXPLAINED)
def test_a_default_is_told_with_its_option(declared, text):
    assert declared.explanation == text


def test_the_environment_is_the_one_given():
    environ = {b"A": b"b"}
    assert PROGRAM.parse(["thing", "h"], environ).environ is environ
