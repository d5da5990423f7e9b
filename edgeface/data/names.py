"""File names for faces, safe and unique, from keys and identities that anybody may have chosen."""

from collections.abc import Sequence

from edgeface.data.faceset import Sample


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
        while unique.casefold() in taken:  # file systems may not tell the case
            number += 1
            unique = f"{name}-{number}"
        taken.add(unique.casefold())
        names[index] = unique
    return names


def _join(sample: Sample, name: str) -> str:
    folders = [sample.split, *(sample.identity or "").split("/")]
    return "/".join([*(_clean(folder) for folder in folders if folder), name])


def _clean(part: str, *, dots: bool = True) -> str:
    """Replace what a file system or a tar reader would take for something else."""
    safe = "".join("_" if letter in '\\/:*?"<>|' or ord(letter) < 32 else letter for letter in part)
    safe = safe.lstrip(".") if dots else safe.lstrip(".").replace(".", "_")
    return safe.strip()[:120] or "_"
