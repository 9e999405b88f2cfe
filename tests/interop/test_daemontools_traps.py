"""Each of daemontools' traps, numbered, has a test, with the original or with ours or, mostly, with both.

TRAPS says which; those that stand nowhere else are here, their names begin with the trap's number.

What stays untested: two files that the original finishes in the same microsecond.
"""

import ast
import os
import re
import resource
import shutil
import signal
import subprocess
import time

import pytest

from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ORIGINALS = ("supervise", "svscan", "svc", "multilog", "tai64n", "tai64nlocal")
needs_originals = pytest.mark.skipif(not all(map(shutil.which, ORIGINALS)), reason="daemontools is not installed")
BOTH = pytest.mark.parametrize("prefix", [pytest.param("", marks=needs_originals), "py"], ids=["theirs", "ours"])

HERE = "interop/test_daemontools_traps.py"
SUPERVISE = "interop/test_supervise.py"
CONTROL = "interop/test_daemontools_control.py"
SVSCAN = "interop/test_svscan.py"
MULTILOG = "interop/test_multilog.py"
TOOLS = "interop/test_daemontools_tools.py"
OUR_SUPERVISE = "programs/test_pysupervise.py"
OUR_SVSCAN = "programs/test_pysvscan.py"
OUR_MULTILOG = "programs/test_pymultilog.py"
LOGGER = "supervise/logs/test_logger.py"
OUR_TAI64NLOCAL = "programs/test_pytai64nlocal.py"
OUR_SOFTLIMIT = "programs/test_pysoftlimit.py"

# trap: (what it is, [(file, test, or a case that one of its tables has; in brackets one of its parameters)])
TRAPS = {
    1: ("svc exits 0 whatever it reached, strict only if asked", [
        (SUPERVISE, "svc_exits_0"), ("programs/test_pysvc.py", "test_the_exit_code_tells_if_asked")]),
    2: ("status: pid and time have different byte orders", [
        (SUPERVISE, "byte_order_of_the_status"), ("supervise/test_status.py", "test_the_bytes_of_the_reference")]),
    3: ("the age is that of the pid", [(SUPERVISE, "age_counts_from_the_change_of_pid")]),
    4: ("deaf for a second after a start", [(SUPERVISE, "deaf_for_a_second"), (CONTROL, "test_a_life")]),
    5: ("one command a round: dx sends its TERM", [(SUPERVISE, "one_byte_a_round")]),
    6: ("x stops nothing, d continues too, o lets it run", [
        (SUPERVISE, "x_does_not_stop"), (SUPERVISE, "d_sends_term_and_cont"),
        (HERE, "test_06_d_ends_what_somebody_else_has_stopped"),
        (CONTROL, "test_it_restarts_and_leaves_the_same_way")]),
    7: ("`normally` is the down file, the wish is in the status", [(SUPERVISE, "normally_is_the_file_now")]),
    8: ("the status appears whole", [(SUPERVISE, "the_status_is_never_half")]),
    9: ("control is never at its end", [(SUPERVISE, "no_spinning_after_a_command")]),
    10: ("first the status, then ok, then the service", [
        (HERE, "test_10_the_status_then_ok_then_the_service"), (SUPERVISE, "ok_comes_before_the_service"),
        (OUR_SUPERVISE, "test_nothing_stands_between_control_and_ok")]),
    11: ("whoever opens the FIFOs does not wait", [(SUPERVISE, "writers_do_not_wait")]),
    12: ("locks are those of flock", [
        (SUPERVISE, "locks_are_flocks"), (CONTROL, "test_they_lock_each_other_out"),
        (MULTILOG, "test_a_log_in_use_is_refused"), (TOOLS, "test_setlock_holds_it_against_the_other")]),
    13: ("a lock that is held is a temporary failure", [
        (SUPERVISE, "locks_are_flocks"), (MULTILOG, "test_a_log_in_use_is_refused"),
        (TOOLS, "test_setlock_holds_it_against_the_other")]),
    14: ("run has no group of its own, signals are for it alone", [
        (SUPERVISE, "what_run_starts_with"), (HERE, "test_14_signals_reach_the_process_and_not_its_children")]),
    15: ("no state of our interpreter reaches what is run", [
        (SUPERVISE, "what_run_starts_with"), (SUPERVISE, "ignored_signals_reach_run"),
        (SVSCAN, "test_what_is_inherited"), (MULTILOG, "test_what_a_processor_finds"),
        (TOOLS, "test_the_state_goes_through"),
        (TOOLS, "test_what_every_interpreter_ignores_is_not_ignored_by_the_program")]),
    16: ("run is executed: no shell, no PATH", [
        (SUPERVISE, "no_shell_no_path"), (HERE, "test_16_run_is_not_searched"),
        (CONTROL, "test_the_same_line_for_a_run_that_cannot_be_executed")]),
    17: ("a service is its directory, not its name", [
        (SVSCAN, "test_the_first_pass[links]"), (SVSCAN, "test_the_first_pass[two names]"),
        (HERE, "test_17_behind_a_link_it_works_in_the_target"), (OUR_SVSCAN, "test_another_target_of_a_link"),
        (OUR_SUPERVISE, "test_a_dangling_link_is_filled")]),
    18: ("the log's pipe outlives both ends", [
        (SVSCAN, "test_later_passes"), (HERE, "test_18_lines_wait_for_the_log"),
        (OUR_SVSCAN, "test_a_restarted_log_goes_on_reading")]),
    19: ("a log that is a plain file", [
        (SVSCAN, "test_the_first_pass[a log that is a file]"),
        (OUR_SVSCAN, "test_the_faults_of_a_service_are_its_own")]),
    20: ("what has its name still comes back", [
        (HERE, "test_20_what_was_told_to_leave_comes_back"),
        (OUR_SVSCAN, "test_what_was_told_to_leave_comes_back_while_its_name_is_there")]),
    21: ("the order is the directory's", [
        (HERE, "test_21_services_start_in_the_order_of_the_directory"), (SVSCAN, "test_the_first_pass[many troubles]"),
        (TOOLS, "test_envdir_in_the_order_of_the_directory")]),
    22: ("a log is complete if its owner may execute it", [
        (HERE, "test_22_only_the_owners_execute_bit_counts"), (MULTILOG, "test_takes_over_what_was_left")]),
    23: ("current is one of the files; opening removes none", [
        (MULTILOG, "test_opening_does_not_prune"), (LOGGER, "test_only_so_many_files_are_kept")]),
    24: ("only names that can be labels are removed", [(HERE, "test_24_which_names_are_removed")]),
    25: ("t is the first word or nothing", [
        (MULTILOG, "test_files_words_and_code[e]"), (LOGGER, "test_script")]),
    26: ("patterns see the label", [(MULTILOG, "test_files_words_and_code[+* a*]")]),
    27: ("a star takes the first chance only", [
        (MULTILOG, "test_patterns[* one]"), ("supervise/logs/test_selection.py", "test_pattern")]),
    28: ("written before it waits, synced when it is full", [
        (MULTILOG, "test_nothing_waits_in_the_logger"), (MULTILOG, "test_what_is_synced")]),
    29: ("a full disk is waited for, nothing is read meanwhile", [
        (HERE, "test_29_nothing_is_read_or_lost_while_nothing_can_be_written"),
        (OUR_MULTILOG, "test_a_full_disk_is_waited_for_and_every_line_is_there"),
        (OUR_MULTILOG, "test_term_on_a_full_disk_ends_it_when_all_that_was_read_is_written")]),
    30: ("TERM leaves what comes after the line in the pipe", [
        (HERE, "test_30_term_leaves_what_comes_after_the_line"),
        (MULTILOG, "test_term_at_a_line_end_leaves_the_rest_unread"),
        (MULTILOG, "test_term_in_a_line_reads_to_its_end_and_not_beyond"),
        (MULTILOG, "test_turn_by_turn_on_one_pipe_under_load")]),
    31: ("signals interrupt a read that waits", [
        (MULTILOG, "test_signals_that_are_blocked_from_the_start"),
        (MULTILOG, "test_alarm_starts_a_new_file_in_every_log_that_is_not_empty"),
        (MULTILOG, "test_term_at_a_line_end_leaves_the_rest_unread")]),
    32: ("a processor that crashed is run from its old state", [
        (HERE, "test_32_a_crashed_processor_starts_anew"), (MULTILOG, "test_trouble_is_said_and_survived"),
        (LOGGER, "test_processor_that_is_tried_again_finds_the_old_state_and_nothing_of_its_own")]),
    33: ("two links: it is finished already", [
        (HERE, "test_33_what_has_its_label_gets_no_second"), (MULTILOG, "test_takes_over_what_was_left[linked]"),
        (LOGGER, "test_nothing_is_lost_by_rotation")]),
    34: ("labels: 10 seconds more, half a microsecond more", [
        (HERE, "test_34_labels_are_the_time"), ("programs/test_pytai64n.py", "test_a_label_is_the_time")]),
    35: ("tai64nlocal and what is no label; local time", [
        (HERE, "test_35_what_is_no_label_passes"), (OUR_TAI64NLOCAL, "test_as_the_original")]),
    36: ("envdir: empty is not a line that is empty", [(TOOLS, "test_envdir_reads_a_file")]),
    37: ("envdir's usage error is the only 111", [(TOOLS, "test_the_codes_of_a_wrong_line")]),
    38: ("a new PATH or UID is for the program, not for finding it", [
        (TOOLS, "test_a_program_that_cannot_be_run"), (TOOLS, "test_the_program_finds_the_same"),
        (TOOLS, "test_envuidgid_needs_no_rights_and_sets_gid_then_uid")]),
    39: ("setuidgid leaves one group", [
        (TOOLS, "test_setuidgid_leaves_one_group"), ("programs/test_pysetuidgid.py", "test_one_group_is_left")]),
    40: ("softlimit: what -m is, what kills, what we need ourselves", [
        (TOOLS, "test_softlimit_sets_the_same"), (TOOLS, "test_softlimit_kills_by_signal"),
        (OUR_SOFTLIMIT, "test_too_little_for_an_interpreter_is_said"),
        (OUR_SOFTLIMIT, "test_others_are_run_under_any_limit")]),
    41: ("a lock is held by all children", [(TOOLS, "test_setlock_holds_it_against_the_other")]),
    42: ("readproctitle writes where its arguments are", [
        (TOOLS, "test_readproctitle_shows_the_same"),
        ("programs/test_pyreadproctitle.py", "test_ps_shows_the_last_words")]),
    43: ("svstat's troubles are answers", [(CONTROL, "test_svstat_and_svok_say_the_same_of_everything")]),
    44: ("a killed supervisor leaves an orphan", [
        (SUPERVISE, "killed_by_term_it_leaves_an_orphan"), (SUPERVISE, "started_beside_an_orphan"),
        (OUR_SUPERVISE, "test_killed_it_leaves_its_service_and_the_next_takes_it_over")]),
}  # fmt: skip


def tree_of(place):
    with open(f"{ROOT}/tests/{place}", encoding="utf-8") as file:
        return ast.parse(file.read())


def functions_of(tree):
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_trap_is_held():
    assert list(TRAPS) == list(range(1, 45))
    assert all(words and held for words, held in TRAPS.values())


@pytest.mark.parametrize("place, name", sorted({one for _, held in TRAPS.values() for one in held}))
def test_what_holds_it_is_there(place, name):
    tree = tree_of(place)
    function, _, parameter = name.rstrip("]").partition("[")
    assert function in functions_of(tree)
    tables = [inner for node in tree.body if isinstance(node, ast.Assign) for inner in ast.walk(node)]
    if not function.startswith("test_"):
        assert function in {node.id for node in tables if isinstance(node, ast.Name)}
    assert not parameter or parameter in {node.value for node in tables if isinstance(node, ast.Constant)}


def test_those_here_hold_the_trap_of_their_number():
    named = {(number, name) for number, (_, held) in TRAPS.items() for place, name in held if place == HERE}
    found = {(int(name[5:7]), name) for name in functions_of(tree_of(HERE)) if re.match(r"test_\d\d_", name)}
    assert named == found


# --- supervise


@BOTH
def test_06_d_ends_what_somebody_else_has_stopped(stage, prefix):
    folder = stage.service("a")
    stage.start(f"{prefix}supervise", "a")
    pid = stage.up(folder)
    os.kill(pid, signal.SIGSTOP)
    assert b"paused" not in stage.run(f"{prefix}svstat", "a").out
    stage.run(f"{prefix}svc", "-d", "a")
    until(lambda: stage.pid(folder) == 0)


@BOTH
def test_10_the_status_then_ok_then_the_service(stage, tmp_path, strace_path, prefix):
    folder, trace = stage.service("a"), tmp_path / "trace"
    command = stage.command(f"{prefix}supervise")
    calls = "trace=open,openat,rename,renameat,renameat2,execve"
    stage.start("strace", "-D", "-f", "-qq", "-o", trace, "-e", calls, *command, "a")
    stage.up(folder)
    until(lambda: b'execve("./run"' in trace.read_bytes())
    text = trace.read_bytes()
    places = [
        re.search(pattern, text).start()
        for pattern in (
            rb'rename[^\n]*"(?:supervise/)?status"\)? += 0',
            rb'open[^\n]*"supervise/ok"',
            rb'execve\("./run"',
        )
    ]
    assert places == sorted(places)


@BOTH
def test_14_signals_reach_the_process_and_not_its_children(stage, prefix):
    run = "#!/bin/sh\nsleep 600 &\necho $! >>children\nwait\n"
    folder = stage.service("a", run)
    stage.start(f"{prefix}supervise", "a")
    children = folder / "children"
    for number, letter in enumerate("tkd", 1):
        until(lambda number=number: children.exists() and len(children.read_text().split()) == number)
        pid = until(lambda: stage.pid(folder))
        stage.run(f"{prefix}svc", f"-{letter}", "a")
        until(lambda pid=pid: stage.pid(folder) != pid)
    for child in children.read_text().split():
        with open(f"/proc/{child}/stat", encoding="ascii") as file:
            assert file.read().rpartition(") ")[2][0] in "SR"


@BOTH
def test_16_run_is_not_searched(stage, tmp_path, prefix):
    stage.service("a", None)
    elsewhere = stage.service("elsewhere", "#!/bin/sh\necho not me >../notes\n")
    environ = {**stage.environ(), "PATH": f"{elsewhere}:{stage.environ()['PATH']}"}
    process = stage.start(f"{prefix}supervise", "a", env=environ)
    line = b"supervise: fatal: unable to start a/run: file does not exist\n"
    until(lambda: stage.err().startswith(line))
    stage.run("pysvc", "-dx", "a")
    assert process.wait(10) == 0
    assert set(stage.err().splitlines(True)) == {line} and not (stage.place / "notes").exists()


@BOTH
def test_17_behind_a_link_it_works_in_the_target(stage, prefix):
    target = stage.service("sets/a")
    for name in ("a", "b"):
        (stage.place / name).symlink_to(target)
    stage.start(f"{prefix}supervise", "a")
    stage.up(target)
    assert set(os.listdir(target / "supervise")) >= {"control", "lock", "ok", "status"}
    said = b"supervise: fatal: unable to acquire b/supervise/lock: temporary failure\n"
    assert stage.run(f"{prefix}supervise", "b") == (111, b"", said)


# --- svscan


@BOTH
def test_18_lines_wait_for_the_log(stage, prefix):
    """Nobody reads, the service goes on; nobody writes, the log does."""
    repeats = "#!/bin/sh\nexec 9<>../hold\nwhile read line <&9; do echo $$ $line; done\n"
    folder = stage.service("a", repeats, log="#!/bin/sh\nexec cat >>lines\n")
    os.mkfifo(stage.place / "hold")
    lines = folder / "log/lines"
    stage.start(f"{prefix}svscan", env={**stage.environ(), "PATH": os.environ["PATH"]})
    first = stage.up(folder)
    stage.up(folder / "log")
    stage.run("pysvc", "-d", folder / "log")
    until(lambda: stage.pid(folder / "log") == 0)
    with open(stage.place / "hold", "r+b", buffering=0) as hold:
        hold.write(b"one\ntwo\n")
        until(lambda: stage.unread_bytes(os.getpid(), hold.fileno()) == 0)
        assert stage.pid(folder) == first
        stage.run("pysvc", "-u", folder / "log")
        wanted = f"{first} one\n{first} two\n"
        until(lambda: lines.exists() and lines.read_text() == wanted)
        log = until(lambda: stage.pid(folder / "log"))
        stage.run("pysvc", "-k", folder)
        second = until(lambda: (pid := stage.pid(folder)) not in (0, first) and pid)
        hold.write(b"three\n")
        until(lambda: lines.read_text() == f"{wanted}{second} three\n")
    assert stage.pid(folder / "log") == log


@BOTH
def test_20_what_was_told_to_leave_comes_back(stage, prefix):
    folder = stage.service("a")
    stage.start(f"{prefix}svscan", env={**stage.environ(), "PATH": os.environ["PATH"]})
    first = stage.up(folder)
    assert stage.run(f"{prefix}svc", "-dx", "a") == (0, b"", b"")
    until(lambda: stage.is_supervised(folder) and stage.pid(folder) not in (0, first))


@BOTH
def test_21_services_start_in_the_order_of_the_directory(stage, tmp_path, prefix):
    starter = tmp_path / "bin/supervise"
    starter.parent.mkdir()
    starter.write_text("#!/bin/sh\n: >../started.$1.$$\nexec sleep 600\n")
    starter.chmod(0o755)
    for number in range(40):
        stage.service(f"s{number * 7919 % 100}")
    options = ["--supervise", "supervise"] if prefix else []
    environ = {**stage.environ(), "PATH": f"{starter.parent}:{stage.environ()['PATH']}"}
    scanner = stage.start(f"{prefix}svscan", *options, env=environ)
    names = until(lambda: len(found := started(tmp_path)) == 40 and found)
    with open(f"/proc/{scanner.pid}/task/{scanner.pid}/children", encoding="ascii") as file:
        pids = file.read().split()  # the eldest first
    services = [name for name in os.listdir(stage.place) if name != "err" and not name.startswith(".")]
    assert [names[pid] for pid in pids] == services


def started(place):
    """Return pid -> name of the service."""
    return {path.name.split(".")[2]: path.name.split(".")[1] for path in place.glob("started.*")}


# --- multilog


def finished(log):
    return sorted(path for path in log.iterdir() if path.name.startswith("@"))


@BOTH
@pytest.mark.parametrize("mode", [0o744, 0o700, 0o755, 0o644, 0o600, 0o655, 0o611, 0o677], ids=oct)
def test_22_only_the_owners_execute_bit_counts(stage, prefix, mode):
    log = stage.place / "a"
    log.mkdir()
    (log / "current").write_text("old\n")
    (log / "current").chmod(mode)
    assert stage.run(f"{prefix}multilog", "./a", input=b"new\n") == (0, b"", b"")
    assert (log / "current").stat().st_mode & 0o777 == 0o744
    if mode & 0o100:
        assert (log / "current").read_text() == "old\nnew\n" and not finished(log)
    else:
        (old,) = finished(log)
        assert (old.suffix, old.read_text(), old.stat().st_mode & 0o777) == (".u", "old\n", mode)
        assert (log / "current").read_text() == "new\n"


LABEL = "@" + "0" * 24


@BOTH
def test_24_which_names_are_removed(stage, prefix):
    log = stage.place / "a"
    log.mkdir()
    gone = [LABEL, f"{LABEL[:-1]}1.s", f"{LABEL[:-1]}2.u", "@" + " " * 24, f"{LABEL[:-1]}3" + "." * 200]
    kept = ["@", LABEL[:-1], LABEL.replace("@", "0"), f".{LABEL}", f"x{LABEL}.s", "0" * 200]
    for name in gone + kept:
        (log / name).touch()
    assert stage.run(f"{prefix}multilog", "s4096", "n2", "./a", input=b"x" * 4095 + b"\n") == (0, b"", b"")
    names = {name for name in os.listdir(log) if not name.startswith("@4000")}
    assert names == {*kept, "current", "lock", "state"}
    assert len(os.listdir(log)) == len(names) + 1


@BOTH
def test_29_nothing_is_read_or_lost_while_nothing_can_be_written(stage, prefix):
    """The limit of a file's size is the disk that is full."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, unlimited))

    reading, writing = os.pipe()
    logger = stage.start(f"{prefix}multilog", "./a", stdin=reading, stderr=subprocess.PIPE, bufsize=0, preexec_fn=limit)
    given = b"".join(b"line %d\n" % number for number in range(1000))
    os.write(writing, given)
    line = logger.stderr.readline()
    assert line == b"multilog: warning: unable to write to ./a/current, pausing: file too big\n"
    before = stage.unread_bytes(os.getpid(), reading)
    os.write(writing, b"more\n")
    logger.send_signal(signal.SIGTERM)  # no reason to give up
    assert logger.stderr.readline() == line
    assert stage.unread_bytes(os.getpid(), reading) == before + 5 and logger.poll() is None
    resource.prlimit(logger.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    os.close(writing)
    assert logger.wait(30) == 0
    with open(reading, "rb") as rest:
        text = (stage.place / "a/current").read_bytes()
        assert text.endswith(b"\n") and text + rest.read() == given + b"more\n"


@BOTH
@pytest.mark.parametrize("begun, ended", [(b"one\n", b""), (b"one\nbegun", b", ended\n"), (b"b", b"\n")])
def test_30_term_leaves_what_comes_after_the_line(stage, prefix, begun, ended):
    """What follows is written after TERM was heard."""
    reading, writing = os.pipe()
    logger = stage.start(f"{prefix}multilog", "./a", stdin=reading)
    os.write(writing, begun)
    current = stage.place / "a/current"
    until(lambda: current.exists() and current.read_bytes() == begun[: begun.rfind(b"\n") + 1])
    until(lambda: is_waiting(logger.pid))
    logger.send_signal(signal.SIGTERM)
    until(lambda: is_waiting(logger.pid) if ended else logger.poll() is not None)
    os.write(writing, ended + b"for the next\n")
    assert logger.wait(30) == 0
    os.close(writing)
    with open(reading, "rb") as rest:
        assert (current.read_bytes(), rest.read()) == (begun + ended, b"for the next\n")


def is_waiting(pid):
    """Return whether a process sleeps and has heard all its signals."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        found = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    return found["State"][0] == "S" and int(found["ShdPnd"], 16) == 0


def test_32_a_crashed_processor_starts_anew(stage):
    """Both at the same time: the original pauses for five seconds, and once more."""
    command = """
        if test -e ../crashed; then cat; cat <&4 >../state; exit; fi
        echo half; echo half >&5; echo >../crashed; kill -KILL $$
    """
    running = []
    for prefix in ("", "py") if shutil.which("multilog") else ("py",):
        log = stage.service(f"{prefix}log", None) / "a"
        log.mkdir()
        (log / "current").write_text("old\n")
        (log / "current").chmod(0o744)
        (log / "state").write_text("remembered\n")
        pipe = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
        logger = stage.start(f"{prefix}multilog", "s4096", f"!{command}", "./a", cwd=log.parent, **pipe)
        logger.stdin.write(b"x" * 4091 + b"\nnew\n")
        logger.stdin.close()
        running.append((logger, log))
    for logger, log in running:
        first, second, *more = logger.stderr.read().splitlines()
        assert first.startswith(b"multilog: warning: processor crashed in ./a, pausing: ")
        assert second == b"multilog: warning: processor failed in ./a, pausing" and not more
        assert logger.wait(30) == 0
        assert [(path.suffix, path.read_text()) for path in finished(log)] == [(".s", f"old\n{'x' * 4091}\n")]
        assert (log / "current").read_text() == "new\n"
        assert ((log / "../state").read_text(), (log / "state").read_text()) == ("remembered\n", "")


@BOTH
@pytest.mark.parametrize(
    "name, mode, code", [("current", 0o644, "u"), ("previous", 0o744, "u"), ("processed", 0o744, "s")]
)
def test_33_what_has_its_label_gets_no_second(stage, prefix, name, mode, code):
    log = stage.place / "a"
    log.mkdir()
    (log / name).write_text("old\n")
    (log / name).chmod(mode)
    (log / f"{LABEL}.{code}").hardlink_to(log / name)
    assert stage.run(f"{prefix}multilog", "./a", input=b"new\n") == (0, b"", b"")
    assert sorted(os.listdir(log)) == [f"{LABEL}.{code}", "current", "lock", "state"]
    assert (log / f"{LABEL}.{code}").read_text() == "old\n"
    assert (log / "current").read_text() == "new\n"


# --- labels


@BOTH
@pytest.mark.parametrize("words", [["tai64n"], ["multilog", "t", "=line"], ["multilog", "t", "./a"]], ids=" ".join)
def test_34_labels_are_the_time(stage, prefix, words):
    before = time.time_ns()
    done = stage.run(f"{prefix}{words[0]}", *words[1:], input=b"x\n")
    after = time.time_ns()
    files = {"=line": "line", "./a": "a/current"}
    text = (stage.place / files[words[-1]]).read_bytes() if words[-1] in files else done.out
    seconds, nanoseconds = re.match(rb"@([0-9a-f]{16})([0-9a-f]{8}) x\n", text).groups()
    moment = (int(seconds, 16) - (1 << 62) - 10) * 10**9 + int(nanoseconds, 16)
    assert before - 1000 < moment < after + 1000
    assert moment % 1000 == 500


@needs_originals
@pytest.mark.parametrize(
    "line", [b"@\n", b"@ no label\n", b"@40 short\n", b"@root:x\n", b"@" + b"f" * 16 + b"0" * 8 + b"\n"]
)
def test_35_what_is_no_label_passes(stage, line):
    """Different on purpose: the original dies, with all that came before."""
    given = b"before\n" + line + b"@4000000037c219bf2ef02e94 after\n"
    environ = {**stage.environ(), "TZ": "XYZ-2"}
    assert stage.run("tai64nlocal", input=given, env=environ).code == -signal.SIGSEGV
    local = b"before\n" + line + b"1999-08-24 06:04:05.787492500 after\n"
    assert stage.run("pytai64nlocal", input=given, env=environ) == (0, local, b"")
