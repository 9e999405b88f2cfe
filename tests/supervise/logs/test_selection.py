import pytest

from pyqmail.supervise.logs.selection import LineChoice, matcher

PATTERNS = [
    # pattern     matches                                     does not
    (b"", [b""], [b"a"]),
    (b"abc", [b"abc"], [b"ab", b"abcd", b"Abc"]),
    (b"*", [b"", b"a\0\xff*"], []),
    (b"a*", [b"a", b"abc"], [b"", b"ba"]),
    (b"*: warning*", [b"x: warning: y", b": warning"], [b"a:b: warning", b"warning"]),
    (b"* one", [b"x one"], [b"x  one", b"x one "]),
    (b"*a*b", [b"ab", b"xxayyb"], [b"abb", b"xa", b"b"]),
    (b"**", [b"*", b"ab*cd", b"**"], [b"", b"abcd"]),
    (b"**x", [b"ab*x", b"a*zx"], [b"ab*", b"x"]),
    (b"**cd", [b"ab*cd"], [b"ab*c*d", b"cd"]),
    (b"a.[b*", [b"a.[b", b"a.[bc"], [b"axxb"]),
    (b"*]^-\\", [b"xx]^-\\"], [b"xx]^-"]),
    (b"a*\nb", [b"axx\nb"], [b"ab"]),
]


@pytest.mark.parametrize("pattern, matching, others", PATTERNS)
def test_pattern(pattern, matching, others):
    matches = matcher(pattern)
    assert [line for line in matching if not matches(line)] == []
    assert [line for line in others if matches(line)] == []


def test_choices_change_only_what_they_can():
    lines = [b"one", b"two", b"three"]
    assert LineChoice(b"t*", wanted=True).choose(lines, None) is None
    assert LineChoice(b"t*", wanted=False).choose(lines, None) == [True, False, False]
    assert LineChoice(b"*", wanted=False).choose(lines, None) == [False, False, False]
    assert LineChoice(b"*", wanted=True).choose(lines, [False, True, False]) is None
    assert LineChoice(b"*e", wanted=True).choose(lines, [False, True, False]) == [True, True, False]
    assert LineChoice(b"tw*", wanted=False).choose(lines, [False, True, True]) == [False, False, True]
