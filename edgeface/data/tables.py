"""Lists of picture files: CSV with the columns path, identity and perhaps split, and the `.lst` of MXNet's tools."""

import csv
import logging
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgeface.data.faceset import Extent, Sample, Skipped, StoredFaces
from edgeface.errors import DataError

log = logging.getLogger(__name__)

MAX_LINE: Final = 65536
"""A line that is longer belongs to another kind of file."""

Row = tuple[str, str | None, str]
"""Path, identity, split."""


def open_csv(path: Path) -> StoredFaces:
    """Open the pictures that a CSV file lists; paths are relative to its folder.

    Columns: `path`, `identity` (empty: not known) and, if it likes, `split`; others are ignored. Pictures that
    are not there are skipped and counted.

    Raises:
        DataError: the file is not UTF-8 CSV, lacks a column or lists a path twice, or none of its pictures exists.
    """
    return _open(path, _csv_rows(path))


def open_lst(path: Path) -> StoredFaces:
    """Open the pictures that a `.lst` file lists, tab-separated; paths are relative to its folder.

    Both orders in use are read: `index, label ..., path` of im2rec, whose first label is the identity, and
    `aligned, path, label` of insightface.

    Raises:
        DataError: as `open_csv`.
    """
    return _open(path, _lst_rows(path))


def _open(table: Path, rows: Iterator[Row]) -> StoredFaces:
    folder = table.parent
    listed: dict[str, Row] = {}
    for row in rows:
        if row[0] in listed:
            raise DataError(f"{table} lists {row[0]!r} twice; keep one line for each picture")
        listed[row[0]] = row
    if not listed:
        raise DataError(f"{table} lists no pictures")
    places = {path: place for path in listed if (place := _find(folder, path)) is not None}
    present = {path: row for path, row in listed.items() if path in places}
    if not present:
        raise DataError(
            f"none of the {len(listed)} pictures that {table} lists exists; the first: {folder / next(iter(listed))}"
        )
    skipped = [
        Skipped(path, f"{path} is listed in {table} and not there", "missing file")
        for path in listed
        if path not in present
    ]
    if skipped:
        log.warning("%d of %d pictures that %s lists are not there", len(skipped), len(listed), table)
    stems = {path: os.path.splitext(path)[0] for path in present}
    unique = len(set(stems.values())) == len(stems)
    samples = [Sample(stems[path] if unique else path, row[1], row[2]) for path, row in present.items()]
    return StoredFaces(str(table), samples, [Extent(places[path]) for path in present], skipped)


def _find(folder: Path, path: str) -> Path | None:
    """Return where a listed file lies, also where its accented letters are coded in the other way; None if nowhere."""
    forms = (path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path))
    return next((folder / form for form in dict.fromkeys(forms) if os.path.isfile(folder / form)), None)


def _csv_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            columns = rows.fieldnames or []
            if "path" not in columns or "identity" not in columns:
                hint = "; it labels shards, so give its folder" if "key" in columns else ""
                raise DataError(
                    f"{path} needs the columns path and identity; it has: {', '.join(columns)[:200] or 'none'}{hint}"
                )
            for row in rows:
                if not row["path"] or row["identity"] is None or "\0" in row["path"]:
                    raise DataError(f"{path}, line {rows.line_num}: a row needs a path and an identity, got {row}")
                yield row["path"], row["identity"] or None, row.get("split") or ""
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _lst_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8") as file:
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                fields = line.rstrip("\r\n").split("\t")
                if fields == [""]:
                    continue
                if len(fields) < 3 or "\0" in line or len(line) == MAX_LINE:
                    raise DataError(
                        f"{path}, line {number}: expected index, label and path, got {line[:80].rstrip()!r}"
                    )
                if _class(fields[1]) is not None:
                    yield fields[-1], _class(fields[1]), ""
                else:
                    yield fields[1], _class(fields[2]) or fields[2], ""
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a list in UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _class(label: str) -> str | None:
    """Name a class by its number, without the fraction that im2rec writes; None if it is no number."""
    try:
        number = float(label)
        return str(int(number)) if number == int(number) else str(number)
    except (ValueError, OverflowError):
        return None
