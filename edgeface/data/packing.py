"""WebDataset shards from any face set: large files that are read in one go, the same bytes each time."""

import contextlib
import io
import json
import os
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edgeface.data.faceset import FaceSet, Skipped, left_out
from edgeface.data.names import file_names
from edgeface.data.parallel import in_order
from edgeface.errors import ConfigError, DataError, EdgefaceError
from edgeface.files import new_folder, open_private
from edgeface.image_kinds import picture_kind
from edgeface.images import decode_photograph

SUFFIXES: Final = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WebP": ".webp",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "GIF": ".gif",
    "AVIF": ".avif",
    "HEIC": ".heic",
    "PNM": ".ppm",
    "JPEG 2000": ".jp2",
}
"""How the files in a shard end, by the kind of picture."""

DEFAULT_SHARD_BYTES: Final = 256 << 20
"""Large enough for long reads, small enough to shuffle and to copy again."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PackReport:
    """What was written.

    Attributes:
        faces: number of pictures.
        shards: names of the files.
        size: bytes of all shards.
        unreadable: pictures that cannot be read and were left out.
    """

    faces: int
    shards: tuple[str, ...]
    size: int
    unreadable: tuple[Skipped, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


def pack_faces(
    faces: FaceSet,
    out: Path,
    *,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    shuffle: int | None = None,
    prefix: str = "faces",
    workers: int = 0,
    progress: Progress | None = None,
) -> PackReport:
    """Write `PREFIX-000000.tar`, ... with a `KEY.webp` (`.jpg`, `.png`, ...) and a `KEY.json` for each face.

    Pictures go in as they are, byte for byte. The folder appears when all of it is written. The same set gives the
    same bytes on every machine: the shards hold no times, owners or permissions.

    Args:
        faces: the set.
        out: folder to make.
        shard_bytes: no shard is larger, except for a single picture that is.
        shuffle: seed of a random order, which training from sequential reads needs; None keeps the set's order.
        prefix: of the shards' names.
        workers: threads that read; 0 is one a core.
        progress: told how many of how many pictures are done.

    Raises:
        ConfigError: the size is no size, or the prefix no file name.
        DataError: the folder exists, no picture can be read, or the disk cannot be written.
    """
    if shard_bytes < 1:
        raise ConfigError(f"a shard has at least one byte, got {shard_bytes}; use for example {DEFAULT_SHARD_BYTES}")
    if not prefix or prefix.startswith(".") or not set(prefix).isdisjoint("/\\"):
        raise ConfigError(f"the prefix {prefix!r} is no file name; use for example 'faces'")
    with new_data_folder(out) as folder:
        return pack_shards(
            faces,
            folder,
            shard_bytes=shard_bytes,
            shuffle=shuffle,
            prefix=prefix,
            workers=workers,
            progress=progress,
        )


@contextlib.contextmanager
def new_data_folder(out: Path) -> Iterator[Path]:
    """Give an empty temporary folder for a data set; `out` appears when the block ends without an error.

    Raises:
        DataError: `out` exists, or the disk cannot be written.
    """
    if out.exists():
        raise DataError(f"{out} exists already; give a new folder, so that nothing is overwritten")
    try:
        with new_folder(out, private=True) as folder:
            yield folder
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror}") from error


def pack_shards(
    faces: FaceSet,
    folder: Path,
    *,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    shuffle: int | None = None,
    prefix: str = "faces",
    workers: int = 0,
    progress: Progress | None = None,
) -> PackReport:
    """Write the shards of `pack_faces` into a folder that is there.

    Raises:
        DataError: no picture can be read.
        OSError: the disk cannot be written.
    """
    order = list(range(len(faces)))
    if shuffle is not None:
        random.Random(shuffle).shuffle(order)
    writer = _Shards(folder, prefix, shard_bytes)
    bad = _write(faces, order, writer, workers, progress)
    sizes = writer.close()
    if not sizes:
        raise DataError(f"no picture in {faces.name} can be read: {left_out(bad)}")
    return PackReport(len(faces) - len(bad), tuple(sizes), sum(sizes.values()), (*faces.skipped, *bad))


def _write(
    faces: FaceSet, order: Sequence[int], writer: "_Shards", workers: int, progress: Progress | None
) -> list[Skipped]:
    names = file_names(faces.samples)

    def load(place: int) -> bytes | Skipped:
        try:
            data = faces.encoded(order[place])
            decode_photograph(data, f"{faces.samples[order[place]].key} in {faces.name}")
        except EdgefaceError as error:
            return Skipped(faces.samples[order[place]].key, str(error), error.kind)
        return data

    bad = []
    for place, data in enumerate(in_order(load, len(order), workers)):
        sample = faces.samples[order[place]]
        if isinstance(data, Skipped):
            bad.append(data)
        else:
            # Always there, so that a face of unknown identity is not given its folder's name.
            facts = {"identity": sample.identity, "key": sample.key, "split": sample.split}
            label = json.dumps(facts, ensure_ascii=False, sort_keys=True).encode()
            writer.add(((names[order[place]] + _suffix(data), data), (names[order[place]] + ".json", label)))
        if progress:
            progress(place + 1, len(order))
    return bad


class _Shards:
    """Tar files that follow one another."""

    def __init__(self, folder: Path, prefix: str, limit: int) -> None:
        self._folder = folder
        self._prefix = prefix
        self._limit = limit
        self._tar: tarfile.TarFile | None = None
        self._size = 0
        self._sizes: dict[str, int] = {}

    def add(self, members: Sequence[tuple[str, bytes]]) -> None:
        """Add files that belong together, to a new shard if they would not fit."""
        infos = [_info(name, data) for name, data in members]
        needed = sum(len(info.tobuf(tarfile.PAX_FORMAT)) + -(-info.size // 512) * 512 for info in infos)
        # 1024 bytes of zeros end a tar file, and it is filled up to records of 10240.
        if (
            self._tar is not None
            and -(-(self._size + needed + 1024) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE > self._limit
        ):
            self._end()
        if self._tar is None:
            path = self._folder / f"{self._prefix}-{len(self._sizes):06}.tar"
            os.close(open_private(path, os.O_WRONLY | os.O_CREAT))
            self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  # closed by _end
            self._size = 0
        for info, (_, data) in zip(infos, members, strict=True):
            self._tar.addfile(info, io.BytesIO(data))
        self._size += needed

    def close(self) -> dict[str, int]:
        """End the last shard; returns the size of each by its name."""
        if self._tar is not None:
            self._end()
        return self._sizes

    def _end(self) -> None:
        assert self._tar is not None
        path = Path(str(self._tar.name))
        self._tar.close()
        self._tar = None
        self._sizes[path.name] = path.stat().st_size


def _info(name: str, data: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    return info


def _suffix(data: bytes) -> str:
    """Tell the format of a picture from its first bytes; it was decoded before, so it has one of these."""
    return SUFFIXES[picture_kind(data)]
