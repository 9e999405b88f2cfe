"""Telling a process from a later one that got its number."""

import os
import subprocess

import pytest

from pyqmail.system.process_start import begun


def test_a_process_keeps_it_and_no_two_share_it():
    process = subprocess.Popen(["sleep", "600"])
    try:
        ticks, boot = begun(process.pid)
        assert (ticks, boot) == begun(process.pid)
        assert ticks >= begun(os.getpid())[0] and boot == begun(os.getpid())[1] and len(boot) == 36
    finally:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            begun(process.pid)  # it has ended, but was not waited for
        process.wait()
    with pytest.raises(FileNotFoundError):
        begun(process.pid)
