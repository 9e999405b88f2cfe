"""pyqmail-tuning(7): each program, option, control file and key of ours that it names exists, and defaults are true."""

import os
import re

import pytest

from pyqmail.base.controls import CONTROLS
from pyqmail.mail.destinations.rules.defaults import UNBUILT
from pyqmail.mail.destinations.rules.items import KEYS
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.programs import pyqmail, registry

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def page():
    with open(os.path.join(ROOT, "man/pyqmail-tuning.7"), encoding="utf-8") as file:
        return file.read().replace("\\-", "-")


BOLD = sorted(set(re.findall(r"\\fB(.*?)\\fR", page())))
OURS = [words.split() for words in BOLD if words.split()[0] in registry.names()]


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_a_program_and_its_options_exist(words):
    if words[0] == "pyqmail":
        assert len(words) == 1 or words[1] in pyqmail.command.commands
        return
    options = registry.load(words[0]).PROGRAM.options
    known = {option.long_form.split()[0] for option in options if option.long_form}
    known |= {f"-{option.letter}" for option in options if option.letter}
    named = {letter for word in words[1:] if re.fullmatch(r"-\w+", word) for letter in (f"-{one}" for one in word[1:])}
    named |= {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    assert named <= known


def test_every_word_that_looks_like_a_program_is_one():
    assert {word for word in re.findall(r"\bpy[a-z0-9@]+\b", page()) if word not in registry.names()} == set()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"control/([a-z.-]+)", page()))))
def test_a_control_file_exists(name):
    assert name.rstrip(".") in CONTROLS


# the line says `control/NAME, default NUMBER`
DEFAULTS = sorted(set(re.findall(r"\\fBcontrol/([a-z]+)\\fR, default (\d+)", page())))


@pytest.mark.parametrize("name, default", DEFAULTS)
def test_a_default_is_the_declared_one(name, default):
    assert CONTROLS[name].default == int(default)


def test_defaults_are_named():
    assert len(DEFAULTS) >= 5


# a rule or a part of one: \\fBc=\\fR, \\fBexample.com:c=20,i=2\\fR, \\fBlearn=no\\fR
ITEMS = sorted(
    {
        key
        for words in BOLD
        if not words.startswith(("-", "control/"))
        for key in re.findall(r"(?:^|[:,])([a-z]+|C|R)=", words)
    }
)


@pytest.mark.parametrize("key", ITEMS)
def test_a_key_of_rules_exists(key):
    assert key.encode() in KEYS.keys() - UNBUILT or key in ("mx", "ip", "from", "rcpt")


def test_every_key_of_rules_is_named():
    named = set(ITEMS) | set(re.findall(r"\\fB(hold|spill)\\fR", page()))
    assert {key.decode() for key in KEYS.keys() - UNBUILT} - named == set()


RECIPES = re.findall(r"\.SS (.*)\n.*\n\.PP\n\.nf\n((?:.*\n)*?)\.fi", page().partition(".SH RECIPES")[2])


def test_there_is_a_recipe_for_each_kind_of_sender():
    names = [name.partition(":")[0] for name, _ in RECIPES]
    assert names == ["A mailing list", "Mass mail 1-1", "A high-volume relay", "A small server"]


@pytest.mark.parametrize("name, lines", RECIPES, ids=lambda value: value.partition("\n")[0])
def test_the_lines_of_a_recipe_are_rules(name, lines):
    items = {
        item.partition(b"=")[0] for line in lines.encode().splitlines() for item in line.rpartition(b":")[2].split(b",")
    }
    assert not items & UNBUILT
    assert RuleSet.of_text(lines.encode()).for_site(b"example.com").limits
