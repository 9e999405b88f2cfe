"""Who is at the other end, with a uid of more than 31 bits too (needs root)."""

import os
import socket

import pytest

from pyqmail.system.credentials import peer_credentials


def test_both_ends_of_a_pair_are_ourselves():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_credentials(ours) == (os.getpid(), os.geteuid(), os.getegid())


@pytest.mark.parametrize("uid, gid", [(2**31, 2**31 + 7), (2**32 - 2, 5), (70_000, 2**32 - 2)])
def test_a_number_of_32_bits_is_not_negative(tmp_path, monkeypatch, uid, gid):
    if os.geteuid():
        pytest.skip("only root can be somebody else")
    place = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)
    place.bind("s")
    os.chmod("s", 0o666)
    os.chmod(tmp_path, 0o755)
    place.listen(1)
    pid = os.fork()
    if not pid:
        code = 99
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            client = socket.socket(socket.AF_UNIX)
            client.connect("s")
            client.recv(1)
            code = 0
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    place.settimeout(20)
    try:
        sock, _ = place.accept()
        found = peer_credentials(sock)
        sock.close()
    except TimeoutError:
        found = None
    place.close()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 22:
        pytest.skip("this user namespace has no such number")
    assert (code, found) == (0, (pid, uid, gid))
