"""What edgeface keeps of its own accord: measurements and engines. All of it can be made again."""

import contextlib
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path


@dataclass(frozen=True, slots=True)
class Cache:
    """One kind of things that are kept.

    Attributes:
        what: in words.
        path: the folder they lie in.
        files: how many.
        bytes: all together.
    """

    what: str
    path: Path
    files: int
    bytes: int


def list_caches() -> tuple[Cache, ...]:
    """Return what is kept, and how large it is."""
    root = user_cache_path("edgeface")
    return (
        _sized("how fast bundles are here", root, sorted(root.glob("speed-*.json"))),
        _sized("TensorRT engines", root / "tensorrt", sorted((root / "tensorrt").rglob("*"))),
    )


def clear_caches() -> int:
    """Remove all of it; returns how many bytes that freed. Engines that a process has loaded go on running."""
    freed = sum(cache.bytes for cache in list_caches())
    root = user_cache_path("edgeface")
    for path in root.glob("speed-*.json"):
        with contextlib.suppress(OSError):  # what cannot be removed is no file of ours
            path.unlink(missing_ok=True)
    shutil.rmtree(root / "tensorrt", ignore_errors=True)
    return freed


def _sized(what: str, path: Path, found: list[Path]) -> Cache:
    sizes = []
    for entry in found:
        with contextlib.suppress(OSError):  # another process may remove it just now
            status = entry.lstat()
            if stat.S_ISREG(status.st_mode):
                sizes.append(status.st_size)
    return Cache(what, path, len(sizes), sum(sizes))
