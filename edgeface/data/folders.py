"""Pictures in folders: one folder for each identity, or all in one."""

import logging
import os
from pathlib import Path
from typing import Final

from edgeface.data.faceset import Extent, Sample, Skipped, StoredFaces
from edgeface.errors import DataError
from edgeface.images import IMAGE_SUFFIXES

log = logging.getLogger(__name__)

SPLITS: Final = frozenset({"train", "val", "test"})
"""Folders of these names, above the identities, are splits when there is nothing else beside them."""


def open_folder(folder: Path) -> StoredFaces:
    """List the pictures under a folder; nothing is decoded.

    The identity of a picture is the path of its folder below `folder`: `Alice/1.jpg` is Alice. Pictures
    directly in `folder` have no identity. Links to folders, hidden files, broken links and
    pipes are ignored; folders with nothing in them are skipped and counted.

    Raises:
        DataError: there is no picture, or the folder cannot be read.
    """
    found: list[tuple[str, ...]] = []
    empty: list[str] = []

    def refuse(error: OSError) -> None:
        raise DataError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        parts = Path(root).relative_to(folder).parts
        before = len(found)
        for name in files:
            is_picture = not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
            if is_picture and os.path.isfile(os.path.join(root, name)):  # a pipe would block its reader
                found.append((*parts, name))
        if parts and not folders and len(found) == before:
            empty.append("/".join(parts))
    if not found:
        raise DataError(f"no pictures under {folder}; expected IDENTITY/PICTURE.jpg, pictures, or tar shards")
    found.sort()
    has_splits = all(len(parts) >= 3 and parts[0] in SPLITS for parts in found)
    samples, extents, stems = [], [], {"/".join(parts).rpartition(".")[0] for parts in found}
    for parts in found:
        path = "/".join(parts)
        # Alice/1.jpg beside Alice/1.png: keep the suffix, since keys are unique.
        key = path.rpartition(".")[0] if len(stems) == len(found) else path
        identity = "/".join(parts[1:-1] if has_splits else parts[:-1]) or None
        samples.append(Sample(key, identity, parts[0] if has_splits else ""))
        extents.append(Extent(folder.joinpath(*parts)))
    if empty:
        log.warning("%d folders under %s have no picture; the first: %s", len(empty), folder, min(empty))
    skipped = [Skipped(name, f"the folder {name} of {folder} has no picture") for name in sorted(empty)]
    return StoredFaces(str(folder), samples, extents, skipped)
