"""Whom root trusts on the way to a file."""

import os

import pytest

from pyqmail.system.files import Changeable

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
SOMEBODY = 12345


def reason(path):
    return Changeable().reason(os.fsencode(path))


@pytest.fixture
def run(tmp_path):
    """a/b/run, nobody's but root's."""
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    (folder / "run").touch(0o755)
    return folder / "run"


@as_root
def test_what_only_root_can_change(run):
    assert reason(run) is None
    assert reason(run.parent / "missing") is None
    (run.parent / "loop").symlink_to("loop")
    assert reason(run.parent / "loop") is None
    run.parent.chmod(0o1777)  # sticky: only the owners of names can replace them
    assert reason(run) is None
    os.chown(run.parent, 0, SOMEBODY)
    run.parent.chmod(0o1775)
    assert reason(run) is None
    os.chown(run, 0, 0)
    run.chmod(0o775)  # root's group
    assert reason(run) is None


@as_root
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_what_others_can_change(run, depth):
    place = [run, *run.parents][depth]
    os.chown(place, SOMEBODY, 0)
    assert reason(run) == f"{place} belongs to uid {SOMEBODY}"
    os.chown(place, 0, SOMEBODY)
    assert reason(run) is None
    place.chmod(0o775)
    assert reason(run) == f"{place} can be changed by group {SOMEBODY}"
    place.chmod(0o757)
    assert reason(run) == f"{place} can be changed by everybody"


@as_root
def test_a_link_counts_with_all_it_leads_through(run, tmp_path):
    elsewhere = tmp_path / "elsewhere/c"
    elsewhere.mkdir(parents=True)
    (elsewhere / "run").touch()
    for target in ("../../elsewhere/c/run", elsewhere / "run", "../../through/c/run"):
        run.unlink()
        run.symlink_to(target)
        if str(target).startswith("../../through"):
            (tmp_path / "through").symlink_to("elsewhere")
        assert reason(run) is None
        os.chown(run, SOMEBODY, SOMEBODY, follow_symlinks=False)  # nobody can write to a link
        assert reason(run) is None
        os.chown(elsewhere.parent, SOMEBODY, SOMEBODY)
        assert reason(run) == f"{elsewhere.parent} belongs to uid {SOMEBODY}"
        os.chown(elsewhere.parent, 0, 0)
    run.parent.chmod(0o1777)  # but there its owner can replace it
    assert reason(run) == f"{run} belongs to uid {SOMEBODY}"
