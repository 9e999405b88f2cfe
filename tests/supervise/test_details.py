"""The details beside a status: written, read, and read from garbage."""

import pytest

from pyqmail.supervise.details import Details, details_of, read_details
from pyqmail.supervise.status import Status, pack_status

LABEL = bytes.fromhex("400000006b0475290c38519c")
TEXT = b"""label @400000006b0475290c38519c
state waiting
starts 3
wait 8
ended 256 15
ready @400000006b0475300000016b
begun 12345 e3b0c442-98fc
script 77 12346 e3b0c442-98fc
place 64769 18446744073709551615
supervisor 76 12340 e3b0c442-98fc
"""


def everything(details):
    return {name: getattr(details, name) for name in details.__slots__}


def test_the_bytes():
    details = read_details(TEXT)
    assert everything(details) == {
        "label": LABEL,
        "state": "waiting",
        "starts": 3,
        "wait": 8,
        "ended": (256, 15),
        "ready": 0x6B047530 - 10,
        "begun": (12345, b"e3b0c442-98fc"),
        "script": (77, 12346, b"e3b0c442-98fc"),
        "place": (64769, 18446744073709551615),
        "supervisor": (76, 12340, b"e3b0c442-98fc"),
    }
    assert details.pack().replace(b"00000000\nbegun", b"0000016b\nbegun") == TEXT


def test_little_is_known_at_first():
    details = Details()
    details.label, details.state, details.starts = LABEL, "down", 0
    assert details.pack() == b"label @400000006b0475290c38519c\nstate down\nstarts 0\n"
    assert everything(read_details(details.pack())) == everything(details)


GARBAGE = [
    b"",
    b"\0" * 500,
    b"\xff\xfe\nstate \xff\n",
    b"label\nstate\xff\nstarts\nwait\nended\nready\nbegun\nscript",
    b"label @\nstarts x\nwait 1.5\nended 1\nready soon\nbegun now\nscript 1 2\nplace 1\nsupervisor 1",
    b"label @4000\nstarts "
    + b"9" * 5000
    + b"\nended 1 2 3\nready @\nbegun 1\nscript x 1 y\nplace 18446744073709551616 1\n",
    b"state \033[2J\nstarts -5\nwait 1_0\nended 1 -9\nbegun -1 x\nplace 1 -1",
    TEXT[:5],
]


@pytest.mark.parametrize("data", GARBAGE)
def test_garbage_is_nothing_known(data):
    known = {name: value for name, value in everything(read_details(data)).items() if value not in (None, "")}
    assert known == {}


def test_what_is_not_known_is_skipped():
    assert read_details(b"colour blue\n" + TEXT + b"\nmore 1 2 3\n").pack() == read_details(TEXT).pack()


def test_they_belong_to_one_status(tmp_path):
    status = Status(pack_status(LABEL, 7, False, b"u"))
    assert details_of(status, str(tmp_path)) is None
    (tmp_path / "details").write_bytes(TEXT)
    assert details_of(status, str(tmp_path)).starts == 3
    assert details_of(Status(bytes(18)), str(tmp_path)) is None
    (tmp_path / "details").unlink()
    (tmp_path / "details").mkdir()
    assert details_of(status, str(tmp_path)) is None
