"""Control files: defaults, changes, and what cannot be read."""

import os

import pytest

from pyqmail.system.controls import Controls


@pytest.fixture
def control(tmp_path):
    def write(name, data):
        (tmp_path / name).write_bytes(data)

    write.controls = Controls(str(tmp_path))
    write.path = tmp_path
    return write


def test_defaults_without_me(control):
    get = control.controls.get
    names = ("me", "locals", "bouncehost", "bouncefrom", "rcpthosts", "databytes", "virtualdomains")
    assert [get(name) for name in names] == [
        None, None, b"bouncehost", b"MAILER-DAEMON", None, 0, {},
    ]  # fmt: skip


def test_defaults_from_me(control):
    control("me", b"h.example\n")
    get = control.controls.get
    assert (get("locals"), get("bouncehost"), get("helohost"), get("bouncefrom")) == (
        [b"h.example"],
        b"h.example",
        b"h.example",
        b"MAILER-DAEMON",
    )


def test_present_but_empty_is_not_absent(control):
    control("me", b"h.example\n")
    control("locals", b"")
    control("helohost", b"")
    assert (control.controls.get("locals"), control.controls.get("helohost")) == ([], b"")


def test_an_integer_without_digits_is_absent(control):
    control("databytes", b"none\n")
    assert control.controls.get("databytes") == 0


def test_a_change_is_seen_at_once(control):
    for number in range(50):
        control("me", b"%d.example" % (number % 10))
        assert control.controls.get("me") == b"%d.example" % (number % 10)
    os.unlink(control.path / "me")
    assert control.controls.get("me") is None


def test_an_unchanged_old_file_is_not_read_again(control):
    control("me", b"a\n")
    assert control.controls.get("me") == b"a"
    control.controls._known["me"] = (control.controls._stamp("me"), b"kept")
    assert control.controls.get("me") == b"kept"


def test_what_cannot_be_read_is_no_default(control):
    os.mkdir(control.path / "me")
    with pytest.raises(IsADirectoryError):
        control.controls.get("me")
    os.symlink("loop", control.path / "loop")
    os.symlink(control.path / "loop", control.path / "rcpthosts")
    with pytest.raises(OSError):
        control.controls.get("rcpthosts")


READERS = [
    # what reads                                            a file it depends on
    (lambda controls: controls.get("rcpthosts"),            "rcpthosts"),
    (lambda controls: controls.get("helohost"),             "helohost"),
    (lambda controls: controls.get("helohost"),             "me"),
    (lambda controls: controls.path("morercpthosts.cdb"),   "morercpthosts.cdb"),
]  # fmt: skip


@pytest.mark.parametrize("read, name", READERS)
@pytest.mark.parametrize("is_there", [False, True])
def test_whatever_was_read_is_seen_to_change(control, read, name, is_there):
    """Nobody has to list it: what decides is what the reader asked for."""
    if is_there:
        control(name, b"before")
    value, stamps = control.controls.reading(read)
    assert not control.controls.have_changed(stamps)
    control("badmailfrom", b"nobody asked for this one")
    assert not control.controls.have_changed(stamps)
    control(name, b"afterwards")
    assert control.controls.have_changed(stamps)
    os.unlink(control.path / name)
    assert control.controls.have_changed(stamps) is is_there


def test_a_change_while_files_are_read_is_seen(control):
    control("me", b"before")

    def read(controls):
        value = controls.get("me")
        control("me", b"afterwards")
        return value

    value, stamps = control.controls.reading(read)
    assert value == b"before" and control.controls.have_changed(stamps)


def test_what_a_program_does_not_declare_it_cannot_read(control):
    controls = Controls(str(control.path), ["helohost", "locals"])
    control("helohost", b"a")
    assert controls.get("helohost") == b"a"
    for ask, name in ((controls.get, "rcpthosts"), (controls.path, "morercpthosts.cdb"), (controls.get, "locals")):
        with pytest.raises(LookupError):  # the last one for want of me, its default
            ask(name)


ODD = [
    # file, value, what is said
    (b"12\n", 12, []),
    (b"0012 \t\n# twelve\n", 12, []),
    (b"0\n", 0, []),
    (b"abc\n", 10, ["control/concurrencylocal: abc is no number, so the default counts"]),
    (b"", 10, ["control/concurrencylocal:  is no number, so the default counts"]),
    (b"-1\n", 10, ["control/concurrencylocal: -1 is no number, so the default counts"]),
    (b"12x\n", 12, ["control/concurrencylocal: 12x is read as 12"]),
    (b"12 from\x07\n", 12, ["control/concurrencylocal: 12?from? is read as 12"]),
    (b"4294967297\n", 1, ["control/concurrencylocal: 4294967297 is read as 1"]),
    (
        b"9" * 5000,
        int("9" * 64) % (1 << 32),
        [f"control/concurrencylocal: {'9' * 64} is read as {int('9' * 64) % (1 << 32)}"],
    ),
]


@pytest.mark.parametrize("data, value, said", ODD)
def test_a_number_that_becomes_another_is_said_once(control, data, value, said):
    lines = []
    controls = Controls(str(control.path), complain=lines.append)
    control("concurrencylocal", data)
    assert [controls.get("concurrencylocal") for _ in range(3)] == [value] * 3
    assert lines == said
    control("concurrencylocal", b"x" + data)
    controls.get("concurrencylocal")
    assert len(lines) == len(said) + 1


def test_only_numbers_are_looked_at(control):
    lines = []
    control("me", b"abc\n")
    assert Controls(str(control.path), complain=lines.append).get("me") == b"abc" and lines == []
