import os
import stat

import pytest

from bdd_tf import files
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import check_output, complete_file, replace_atomically, write_atomically


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    target, link, chain = tmp_path / "a" / "t.txt", tmp_path / "link", tmp_path / "chain"
    link.symlink_to("a/t.txt")
    chain.symlink_to("link")
    for content in (b"new", b"replaced"):  # the target is missing at first
        write_atomically(chain, content)
        assert target.read_bytes() == content
        assert link.is_symlink()
        assert chain.is_symlink()
    assert list((tmp_path / "a").iterdir()) == [target]


def test_a_link_that_leads_nowhere_is_an_error(tmp_path):
    for name, target in (("loop", "loop"), ("lost", "nowhere/t.txt")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(BddError, match="cannot be written"), complete_file(tmp_path / name):
            pass
        assert (tmp_path / name).is_symlink()


def test_only_regular_files_are_replaced(tmp_path, monkeypatch):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(UsageError, match=r"is a pipe, not a regular file; give the path"):
            write_atomically(path, b"x")
        with pytest.raises(UsageError, match=r"--output: .* is a pipe, not a regular file; .*> FILE"):
            check_output("--output", str(path))
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()
    with pytest.raises(UsageError, match="is a folder"), replace_atomically(tmp_path):
        pass
    monkeypatch.setattr(files, "_KINDS", ())
    with pytest.raises(UsageError, match="is a device"):
        write_atomically(pipe, b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_follows_the_umask_and_an_old_one_keeps_its_mode(tmp_path, umask, mode):
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch()
    old.chmod(0o640)
    before = os.umask(umask)
    try:
        write_atomically(new, b"x")
        write_atomically(old, b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(new.stat().st_mode) == mode
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
