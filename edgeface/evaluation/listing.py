"""CSV files that say how to evaluate: templates, pairs of templates, galleries, labels."""

import csv
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from edgeface.errors import DataError

FLAGS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
"""What may stand where a yes or no is needed, in any case."""


def read_rows(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Read a CSV file with a header, one dict for each row; cells are stripped of spaces around them.

    Accented letters come in one coding (NFC), as `Items.places` has them.

    Args:
        path: UTF-8, with or without a byte order mark.
        columns: those that it must have, and whose cells must not be empty.

    Raises:
        DataError: the file is missing, not CSV in UTF-8 or without rows, lacks a column or a cell, or names a column
            twice.
    """
    needed = tuple(columns)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = [name.strip() for name in reader.fieldnames or ()]
            missing = [name for name in needed if name not in names]
            if missing:
                raise DataError(
                    f"{path} needs the columns {', '.join(needed)}; it has: {', '.join(names)[:200] or 'none'}"
                )
            if len(set(names)) != len(names):
                raise DataError(f"{path} names a column twice: {', '.join(names)[:200]}; give each its own name")
            reader.fieldnames = names
            rows = []
            for row in reader:
                if None in row or None in row.values() or not all(row[name].strip() for name in needed):
                    cells = [str(cell) for cell in row.values() if cell is not None]
                    raise DataError(
                        f"{path}, line {reader.line_num}: a row needs {len(names)} cells, of which {', '.join(needed)} "
                        f"are not empty; got {','.join(cells)[:120]!r}"
                    )
                rows.append({name: unicodedata.normalize("NFC", cell.strip()) for name, cell in row.items()})
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if not rows:
        raise DataError(f"{path} has a header and no rows; list at least one")
    return rows


def read_flag(text: str, path: Path) -> bool:
    """Read 1 or 0, true or false, yes or no.

    Raises:
        DataError: it is something else.
    """
    if text.lower() not in FLAGS:
        raise DataError(f"{path}: {text!r} is where 1 (one person) or 0 (two people) belongs")
    return FLAGS[text.lower()]


def look_up(names: Iterable[str], places: Mapping[str, int], path: Path, kind: str) -> list[int]:
    """Return the place of each name.

    Args:
        names: to look for.
        places: what there is.
        path: the file that names them, for the error.
        kind: of what is named, in the plural.

    Raises:
        DataError: some are not there.
    """
    wanted = tuple(names)
    unknown = dict.fromkeys(name for name in wanted if name not in places)
    if unknown:
        raise DataError(
            f"{len(unknown)} of the {len(set(wanted))} {kind} that {path} names are not there; the first: "
            f"{next(iter(unknown))!r}; a name that is there: {next(iter(places), 'none')!r}"
        )
    return [places[name] for name in wanted]
