"""The tour that README offers: it must see what it promises, where the machine allows it."""

import subprocess
import sys

import pytest

from bench.machine import ROOT

SECONDS = 200


def test_the_tour_sees_what_it_promises():
    words = [sys.executable, "-m", "bench.tour"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode == 111:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ceiling" in done.stdout and "next probe in" in done.stdout and "alive after" in done.stdout
