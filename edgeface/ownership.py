"""Whose files are these? What decides over a device must not be in the hands of another user of it.

A program, a key that is trusted or a key that is secret counts as ours if nobody but root and this user can change it
or put another one in its place: the file, every folder above it and every link on the way belong to one of them, and
nobody else may write there. A folder in which everybody may write (`/tmp`) is no danger where its sticky bit is set.
On Windows, whose rights are of another kind, nothing is judged.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MAX_LINKS: Final = 40


def writable_by_others(path: Path) -> str | None:
    """Say how somebody else could change a file or folder, or put another one in its place.

    Args:
        path: what exists.

    Returns:
        What is wrong and the command that mends it, in one line without a full stop; None if all is well. The first
        fault on the way from the root of the file system counts.

    Raises:
        OSError: it does not exist, or cannot be looked at.
    """
    if os.name != "posix":
        return None
    for place in _way(path):
        status = place.lstat()
        if status.st_uid not in (0, os.geteuid()):
            return (
                f"{place} belongs to the user {_user(status.st_uid)}, who could change what lies there; "
                f"chown {_user(os.geteuid())} {place}"
            )
        if stat.S_ISLNK(status.st_mode) or (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
            continue
        others = stat.S_IWOTH | (0 if _private_group(status) else stat.S_IWGRP)
        if status.st_mode & others:
            return f"{place} can be written by others (mode {stat.S_IMODE(status.st_mode):04o}); chmod go-w {place}"
    return None


def readable_by_others(file: int) -> str | None:
    """Say whether somebody else may read a file that is open; see `writable_by_others`.

    Args:
        file: its descriptor. What is no regular file, such as a pipe, is taken as it is.
    """
    status = os.fstat(file)
    if os.name != "posix" or not stat.S_ISREG(status.st_mode):
        return None
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to the user {_user(status.st_uid)}"
    if status.st_mode & 0o077:
        return f"it can be read by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _way(path: Path) -> Iterator[Path]:
    """Yield all that lies on the way to a path, from the root on: folders, links, what those lead to, the file."""
    place, links = Path("/"), 0
    rest = [*path.absolute().parts[1:]][::-1]
    yield place
    while rest:
        part = rest.pop()
        if part == "..":
            place = place.parent
            continue
        place /= part
        yield place
        if not place.is_symlink():
            continue
        if place.parts[1] == "proc" and place.parent.name == "fd":  # opened by whoever started this process
            return
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = Path(os.readlink(place))
        place = Path("/") if target.is_absolute() else place.parent
        rest.extend([*target.parts[1 if target.is_absolute() else 0 :]][::-1])


def _private_group(status: os.stat_result) -> bool:
    """Say whether a file's group is that of its owner alone, as many systems give every user one of its own.

    Root's group is not: containers and administrators share it.
    """
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    return (
        status.st_uid != 0
        and user.pw_gid == status.st_gid
        and group.gr_name == user.pw_name
        and set(group.gr_mem) <= {user.pw_name}
    )


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
