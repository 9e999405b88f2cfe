"""`pyqmail limits` as a program, in a home and under limits of its own: nothing depends on this machine's."""

import json
import os
import resource
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHORT = "descriptors of each session process (pyrspawn)"


def limits(home, *options, hard=None, **environ):
    """Return the finished process; hard: its limit of descriptors."""
    environ = {"PATH": os.environ["PATH"], "PYQMAIL_HOME": home, **environ}
    argv = [sys.executable, f"{ROOT}/bin/pyqmail", "limits", *options]
    before = None if hard is None else lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return subprocess.run(argv, env=environ, capture_output=True, text=True, preexec_fn=before, timeout=60)


def rows(done):
    return {(row["what"], row["from"]): row for row in json.loads(done.stdout)["limits"]}


def test_what_is_short_is_said_with_its_command(home):
    with open(f"{home.control}/concurrencyremote", "w") as file:
        file.write("200\n")
    done = limits(home.path, hard=128)
    assert (done.returncode, done.stderr) == (1, "")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(SHORT)]
    assert line.removeprefix(SHORT).split(maxsplit=5) == ["440", "128", "ulimit", "-n", "short", "ulimit -n 440"]


def test_json_has_the_same(home):
    with open(f"{home.control}/concurrencylocal", "w") as file:
        file.write("50\n")
    done = limits(home.path, "--json", "--sessions", "2", hard=128)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["enough"]) == (1, False)
    assert (answer["numbers"]["remote"], answer["numbers"]["local"], answer["numbers"]["sessions"]) == (20, 50, 2)
    assert rows(done)["descriptors of pylspawn", "ulimit -n"] == {
        "what": "descriptors of pylspawn",
        "needed": 240,
        "present": 128,
        "from": "ulimit -n",
        "state": "short",
        "command": "ulimit -n 240",
    }
    assert rows(done)[SHORT, "ulimit -n"]["state"] == "enough"
    assert rows(done)[SHORT, "ulimit -n"]["command"] == ""  # it would lower it
    assert done.returncode == int(any(row["state"] == "short" for row in answer["limits"]))


def test_an_agent_needs_a_process_for_each_session(home):
    done = limits(home.path, "--json", "--agent")
    assert rows(done)[SHORT, "ulimit -n"]["needed"] == 40 + 4 * 20
    assert rows(done)["processes", "kernel.pid_max"]["needed"] > 40


@pytest.mark.parametrize("options, environ", [(["--clients", "70", "--backlog", "7"], {}), ([], True)])
def test_the_front_door_is_that_of_the_service(home, options, environ):
    environ = {"SMTP_LIMIT": "70", "SMTP_BACKLOG": "7"} if environ else {}
    numbers = json.loads(limits(home.path, "--json", *options, **environ).stdout)["numbers"]
    assert (numbers["clients"], numbers["backlog"]) == (70, 7)


def test_without_words_the_numbers_are_those_of_the_services_script(home):
    numbers = json.loads(limits(home.path, "--json", "--sources", "3").stdout)["numbers"]
    with open(f"{ROOT}/services/pysmtpd/run", encoding="utf-8") as file:
        script = file.read()
    assert f'-b "${{SMTP_BACKLOG:-{numbers["backlog"]}}}" -c "${{SMTP_LIMIT:-{numbers["clients"]}}}"' in script
    assert numbers["sources"] == 3


def test_a_place_that_is_no_home(tmp_path):
    done = limits(str(tmp_path))
    assert (done.returncode, done.stdout) == (100, "")
    assert done.stderr == f"pyqmail: fatal: no home at {tmp_path}: it has no queue\n"


def test_a_control_file_that_cannot_be_read(home):
    os.mkdir(f"{home.control}/concurrencyremote")
    done = limits(home.path)
    assert (done.returncode, done.stdout) == (111, "")
    assert done.stderr.startswith(f"pyqmail: fatal: unable to read control files of {home.path}: ")


def test_a_wrong_number_is_wrong_usage(home):
    assert limits(home.path, "--sessions", "65").returncode == 2
