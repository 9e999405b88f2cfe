import os

import pytest

from pyqmail.base.failure import Temporary
from pyqmail.supervise.variables import merge, read_directory

VALUES = [
    (b"", None),
    (b"\n", b""),
    (b" a b \t \nmore", b" a b"),
    (b"cr\r\n", b"cr\r"),
    (b"a\0b", b"a\nb"),
    (b"a \0 ", b"a \n"),
]


@pytest.mark.parametrize("content, value", VALUES)
def test_a_file_is_a_variable(tmp_path, content, value):
    (tmp_path / "NAME").write_bytes(content)
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "DANGLING").symlink_to("nowhere")
    here = os.getcwd()
    assert read_directory(str(tmp_path)) == [(b"NAME", value)]
    assert os.getcwd() == here


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir/sub").mkdir(parents=True)
    with pytest.raises(Temporary, match="^unable to read dir/sub: is a directory$"):
        read_directory("dir")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Temporary, match="^unable to switch to directory none: file does not exist$"):
        read_directory("none")


CHANGES = [
    # changes to A=1 B=2 C=3          result, in order
    ([], "A=1 B=2 C=3"),
    ([(b"A", b"x")], "C=3 B=2 A=x"),
    ([(b"C", b"x")], "A=1 B=2 C=x"),
    ([(b"A", None)], "C=3 B=2"),
    ([(b"D", None)], "A=1 B=2 C=3"),
    ([(b"D", b"4"), (b"A", None), (b"D", b"5")], "C=3 B=2 D=5"),
    ([(b"X=Y", b"v")], "A=1 B=2 C=3 X=Y=v"),
    ([(b"B=Y", None)], "A=1 C=3 B=Y"),
]


@pytest.mark.parametrize("changes, result", CHANGES)
def test_merge_keeps_the_originals_order(changes, result):
    merged = merge({b"A": b"1", b"B": b"2", b"C": b"3"}, changes)
    assert " ".join(f"{name.decode()}={value.decode()}" for name, value in merged.items()) == result
