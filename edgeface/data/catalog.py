"""Opening whatever `--data` names."""

import glob
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edgeface.data.bin import open_bin
from edgeface.data.faceset import FaceSet, StoredFaces
from edgeface.data.folders import open_folder
from edgeface.data.recordio import open_record
from edgeface.data.shards import open_shards
from edgeface.data.tables import open_csv, open_lst
from edgeface.errors import DataError

FILES: Final[dict[str, Callable[[Path], StoredFaces]]] = {
    ".tar": lambda path: open_shards(str(path), [path], _table(path.parent)),
    ".rec": open_record,
    ".bin": lambda path: open_bin(path)[0],
    ".csv": open_csv,
    ".lst": open_lst,
}
"""What a single file is, by its ending."""


def open_faces(path: str | Path, *, split: str | None = None) -> FaceSet:
    """Open a set of aligned faces. Fast: pictures are listed, not decoded.

    Args:
        path: a folder of identity folders, a folder of pictures, a tar file, a pattern such as
            `faces-*.tar`, a folder of tar files with perhaps a CSV file of labels, a `.rec` (or its
            folder) or `.bin` of insightface, or a `.csv` or `.lst` that lists picture files.
        split: only the faces of this split.

    Raises:
        DataError: nothing is there, it holds no picture, it is malformed, or it has no such split.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        shards = sorted(p for p in place.glob("*.tar") if p.is_file() and not p.name.startswith("."))
        records = [] if shards else sorted(place.glob("*.rec"))
        if len(records) > 1:
            raise DataError(f"{place} has {len(records)} .rec files; name one of them, such as {records[0]}")
        faces: FaceSet
        if shards:
            faces = open_shards(str(place), shards, _table(place))
        else:
            faces = open_record(records[0]) if records else open_folder(place)
    elif place.is_file():
        if place.suffix not in FILES:
            raise DataError(f"{place} is not a data set; give a folder or a file of: {', '.join(FILES)}")
        faces = FILES[place.suffix](place)
    else:
        shards = sorted(p for p in map(Path, glob.glob(str(place))) if p.is_file())
        if not shards:
            raise DataError(f"no faces at {place}: there is no such file or folder, and no file matches the pattern")
        wrong = [p for p in shards if p.suffix != ".tar"]
        if wrong:
            raise DataError(f"the pattern {place} matches {wrong[0].name}, which is not a .tar file; narrow it")
        faces = open_shards(str(place), shards, _table(shards[0].parent))
    return faces if split is None else faces.split(split)


def _table(folder: Path) -> Path | None:
    """Return the CSV file of labels in a folder of shards."""
    tables = sorted(p for p in folder.glob("*.csv") if not p.name.startswith("."))
    if len(tables) > 1:
        raise DataError(
            f"{folder} has {len(tables)} CSV files, so the labels are ambiguous; keep one beside the shards"
        )
    return tables[0] if tables else None
