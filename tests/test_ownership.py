"""What others can change is told, wherever on the way to it they can; what they cannot is left alone."""

import os
import stat
from pathlib import Path

import pytest

from edgeface.errors import ConfigError
from edgeface.ownership import readable_by_others, writable_by_others
from edgeface.runtime.signature import read_public_key
from edgeface.runtime.signing import make_key

pytestmark = pytest.mark.skipif(os.name != "posix", reason="rights of another kind")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")

STRANGER = 54321


@pytest.fixture
def tree(tmp_path):
    """A file two folders down, and a link to it in a folder of its own."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").write_text("?")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "link").symlink_to("../outer/inner/file")
    for folder in (tmp_path / "outer", inner, tmp_path / "links"):
        folder.chmod(0o755)
    (inner / "file").chmod(0o644)
    return tmp_path


PLACES = ["outer", "outer/inner", "outer/inner/file"]


def test_what_is_ours_is_ours(tree):
    assert writable_by_others(tree / "outer" / "inner" / "file") is None
    assert writable_by_others(tree / "links" / "link") is None
    assert writable_by_others(tree / "outer") is None


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("through", ["outer/inner/file", "links/link"])
@pytest.mark.parametrize("mode", [0o757, 0o777])
def test_rights_to_write_anywhere_on_the_way(tree, place, through, mode):
    (tree / place).chmod(mode)
    assert writable_by_others(tree / through) == (
        f"{tree / place} can be written by others (mode {mode:04o}); chmod go-w {tree / place}"
    )


def test_a_link_that_others_can_replace(tree):
    (tree / "links").chmod(0o777)
    assert writable_by_others(tree / "outer" / "inner" / "file") is None
    assert f"{tree / 'links'} can be written" in str(writable_by_others(tree / "links" / "link"))


def test_a_sticky_folder_is_no_danger(tree):
    (tree / "outer").chmod(0o777 | stat.S_ISVTX)
    assert writable_by_others(tree / "outer" / "inner" / "file") is None


@as_root
@pytest.mark.parametrize("place", [*PLACES, "links/link", "links"])
def test_what_belongs_to_another_user(tree, place):
    os.chown(tree / place, STRANGER, STRANGER, follow_symlinks=False)
    said = writable_by_others(tree / "links" / "link")
    assert said is not None and said.startswith(f"{tree / place} belongs to the user {STRANGER}, who could change")


@as_root
@pytest.mark.parametrize("place", PLACES)
def test_a_sticky_folder_does_not_help_its_owner(tree, place):
    (tree / "outer").chmod(0o777 | stat.S_ISVTX)
    os.chown(tree / "outer", STRANGER, STRANGER)
    assert "belongs to the user" in str(writable_by_others(tree / "outer" / "inner" / "file"))


def test_root_and_this_user_are_trusted_and_nobody_else(tree, monkeypatch):
    file = tree / "outer" / "inner" / "file"
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    said = writable_by_others(file)
    assert (said is None) == (file.stat().st_uid == 0)


@pytest.mark.parametrize(
    ("owner", "group", "members", "refused"),
    [
        ("ann", "ann", [], False),
        ("ann", "ann", ["ann"], False),
        ("ann", "ann", ["bob"], True),
        ("ann", "users", [], True),
        ("root", "root", [], True),
    ],
)
def test_a_group_of_its_owner_alone_is_not_others(tree, monkeypatch, owner, group, members, refused):
    """Many systems give each user a group, and new files are open to it."""
    import grp
    import pwd
    from types import SimpleNamespace

    uid = 0 if owner == "root" else 1000
    real = os.stat_result
    ours = os.geteuid()
    monkeypatch.setattr(pwd, "getpwuid", lambda number: SimpleNamespace(pw_name=owner, pw_gid=7))
    monkeypatch.setattr(grp, "getgrgid", lambda number: SimpleNamespace(gr_name=group, gr_mem=members))
    lstat = os.lstat

    def pretend(path, **options):
        status = lstat(path, **options)
        if status.st_uid == ours and str(path).startswith(str(tree)):
            return real((status.st_mode, *status[1:4], uid, 7, *status[6:]))
        return status

    monkeypatch.setattr(type(tree), "lstat", lambda self: pretend(self))
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    (tree / "outer" / "inner" / "file").chmod(0o664)
    assert (writable_by_others(tree / "outer" / "inner" / "file") is not None) == refused


def test_links_in_a_circle_and_nothing_there(tree):
    (tree / "round").symlink_to("round")
    with pytest.raises(OSError, match="symbolic links"):
        writable_by_others(tree / "round")
    with pytest.raises(FileNotFoundError):
        writable_by_others(tree / "none" / "file")


def test_a_pipe_that_the_process_was_given():
    read, write = os.pipe()
    try:
        assert writable_by_others(Path(f"/dev/fd/{read}")) is None
        assert readable_by_others(read) is None
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize(("mode", "fit"), [(0o600, True), (0o400, True), (0o640, False), (0o604, False)])
def test_who_can_read(tree, mode, fit):
    path = tree / "outer" / "inner" / "file"
    path.chmod(mode)
    with path.open("rb") as file:
        assert (readable_by_others(file.fileno()) is None) == fit


@pytest.mark.parametrize("place", ["file", "folder"])
def test_public_keys_that_others_can_write_are_refused(tmp_path, place):
    folder = tmp_path / "keys"
    make_key(folder / "k")
    read_public_key(folder / "k.pub")
    (folder if place == "folder" else folder / "k.pub").chmod(0o777)
    with pytest.raises(ConfigError, match=r"k\.pub is refused.* can be written by others .*; chmod go-w ") as error:
        read_public_key(folder / "k.pub")
    assert "\n" not in str(error.value)


def test_a_new_public_key_is_for_its_owner_to_write(tmp_path):
    before = os.umask(0)
    try:
        (tmp_path / "keys").mkdir(mode=0o700)
        make_key(tmp_path / "keys" / "k")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys" / "k.pub").stat().st_mode) == 0o644
