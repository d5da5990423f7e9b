"""Pictures in folders: one folder for each identity, or all in one."""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edgeface.data.faceset import Extent, Sample, Skipped, StoredFaces, left_out
from edgeface.errors import DataError
from edgeface.files import readable_name
from edgeface.image_kinds import unread_kind

log = logging.getLogger(__name__)

SPLITS: Final = frozenset({"train", "val", "test"})
"""Folders of these names, above the identities, are splits when there is nothing else beside them."""


def open_folder(folder: Path) -> StoredFaces:
    """List the pictures under a folder; nothing is decoded.

    The identity of a picture is the path of its folder below `folder`: `Alice/1.jpg` is Alice. Pictures
    directly in `folder` have no identity. What a file is says its content, whatever its name; pictures of a kind that
    is not read, and files that are none, are skipped and counted. Links to folders, hidden files, broken links and
    pipes are ignored; folders with nothing in them are skipped and counted.

    Names that are not UTF-8 are escaped, and those that differ in how an accented letter is coded only are one
    identity.

    Raises:
        DataError: there is no picture, or the folder cannot be read.
    """
    found: list[tuple[str, ...]] = []
    empty: list[str] = []
    passed: list[Skipped] = []

    def refuse(error: OSError) -> None:
        raise DataError(f"cannot read the folder {readable_name(str(error.filename))}: {error.strerror}") from error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        parts = Path(root).relative_to(folder).parts
        before = len(found)
        for name in files:
            path = os.path.join(root, name)
            if name.startswith(".") or not os.path.isfile(path):  # a pipe would block its reader
                continue
            kind = unread_kind(path)
            if kind is None:
                found.append((*parts, name))
            elif kind:
                plain = readable_name(path)
                passed.append(Skipped(plain, f"{plain} is no picture that can be read here but {kind}", kind))
        if parts and not folders and len(found) == before:
            empty.append(readable_name("/".join(parts)))
    if not found:
        what = f"; left out: {left_out(passed)}" if passed else ""
        raise DataError(
            f"no pictures under {readable_name(str(folder))}; expected IDENTITY/PICTURE.jpg, pictures, or tar "
            f"shards{what}"
        )
    found.sort()
    if empty:
        log.warning(
            "%d folders under %s have no picture; the first: %s", len(empty), readable_name(str(folder)), min(empty)
        )
    skipped = [
        Skipped(name, f"the folder {name} of {readable_name(str(folder))} has no picture", "empty folder")
        for name in sorted(empty)
    ]
    passed.sort(key=lambda one: one.key)
    return _labelled(folder, found, [*skipped, *passed])


def plain_names(parts: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return paths as text that can be written anywhere, accented letters coded in one way (NFC)."""
    return [tuple(unicodedata.normalize("NFC", readable_name(part)) for part in path) for path in parts]


def unique_keys(paths: Sequence[str]) -> list[str]:
    """Return a key for each path: without its suffix if all are told apart so, and never one key twice."""
    stems = [path.rpartition(".")[0] if "." in path.rpartition("/")[2] else path for path in paths]
    # Alice/1.jpg beside Alice/1.png: keep the suffix.
    keys = stems if len(set(stems)) == len(set(paths)) else list(paths)
    counts = Counter(keys)
    taken = {key for key in keys if counts[key] == 1}
    for index, key in enumerate(keys):
        number = 1
        while counts[key] > 1 and keys[index] in taken:
            number += 1
            keys[index] = f"{key}-{number}"
        taken.add(keys[index])
    return keys


def _labelled(folder: Path, found: list[tuple[str, ...]], skipped: list[Skipped]) -> StoredFaces:
    """Name the pictures and their identities by where they lie."""
    names = plain_names(found)
    has_splits = all(len(parts) >= 3 and parts[0] in SPLITS for parts in names)
    keys = unique_keys(["/".join(parts) for parts in names])
    samples = [
        Sample(
            key,
            "/".join(parts[1:-1] if has_splits else parts[:-1]) or None,
            parts[0] if has_splits else "",
        )
        for key, parts in zip(keys, names, strict=True)
    ]
    return StoredFaces(
        readable_name(str(folder)), samples, [Extent(folder.joinpath(*parts)) for parts in found], skipped
    )
