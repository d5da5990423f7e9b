"""File names for faces, safe and unique, from keys and identities that anybody may have chosen."""

import unicodedata
from collections.abc import Sequence
from typing import Final

from edgeface.data.faceset import Sample
from edgeface.files import readable_name

LETTERS: Final = 120
LONGEST: Final = 180
"""Letters and bytes of a part of a path; file systems take 255 bytes, and a number and the suffix are added."""


def file_names(samples: Sequence[Sample]) -> list[str]:
    """Return a relative path without suffix for each face: [SPLIT/][IDENTITY/]NAME, as identity folders have it.

    NAME is the last part of the key, or the whole key with `_` for `/` where that would be taken already. Nothing
    leaves the folder or is hidden, and there is no dot in NAME, at which readers of WebDataset would cut it.
    """
    names = [_join(sample, _clean(sample.key.rpartition("/")[2], dots=False)) for sample in samples]
    if len(set(names)) != len(names):
        names = [_join(sample, _clean(sample.key.replace("/", "_"), dots=False)) for sample in samples]
    taken = set[str]()
    for index, name in enumerate(names):
        unique, number = name, 1
        while _seen(unique) in taken:
            number += 1
            unique = f"{name}-{number}"
        taken.add(_seen(unique))
        names[index] = unique
    return names


def _seen(name: str) -> str:
    """Return what a file system may see of a name: not the case, nor how an accented letter is coded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _join(sample: Sample, name: str) -> str:
    folders = [sample.split, *(sample.identity or "").split("/")]
    return "/".join([*(_clean(folder) for folder in folders if folder), name])


def _clean(part: str, *, dots: bool = True) -> str:
    """Replace what a file system or a tar reader would take for something else."""
    part = readable_name(part)
    safe = "".join("_" if letter in '\\/:*?"<>|' or ord(letter) < 32 else letter for letter in part)
    safe = safe.lstrip(".") if dots else safe.lstrip(".").replace(".", "_")
    return _shortened(safe.strip()).strip() or "_"


def _shortened(part: str) -> str:
    """Cut a name to `LETTERS` and `LONGEST` bytes, not within a letter."""
    return part[:LETTERS].encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore")
