"""Pictures in tar files, in the layout of WebDataset or with a folder for each identity.

A member `KEY.webp` (`.jpg`, `.png`, ...) is a picture. Its identity comes from the first of these that is
there: a row of the CSV file beside the shards (columns `key`, `identity` and perhaps `split`); a member
`KEY.json` with `identity` and perhaps `split`; a member `KEY.cls` with a class number; the folder of the
member. Only the headers are read; pictures are read later, by their place in the file, so nothing is ever
unpacked.
"""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeface.data.faceset import Extent, Sample, Skipped, StoredFaces
from edgeface.data.tar import TarError, members
from edgeface.errors import DataError
from edgeface.files import parse_json
from edgeface.images import IMAGE_SUFFIXES

MAX_LABEL_BYTES: Final = 65536
"""A `.cls` or `.json` member that is larger is not a label."""


@dataclass(frozen=True, slots=True)
class Label:
    """Identity and split of a key, from a CSV file or a member of the shard."""

    identity: str | None
    split: str = ""


def open_shards(name: str, shards: Sequence[Path], table: Path | None) -> StoredFaces:
    """List the pictures of tar files.

    Args:
        name: what to call the set.
        shards: uncompressed tar files.
        table: CSV file with the columns `key` and `identity`, or None.

    Raises:
        DataError: a shard is not a tar file or is cut short, a key occurs twice, a label cannot be read, or
            there is no picture at all.
    """
    labels = read_table(table) if table else {}
    samples: list[Sample] = []
    extents: list[Extent] = []
    skipped: list[Skipped] = []
    home: dict[str, Path] = {}
    for shard in shards:
        pictures, members = _scan(shard)
        for key, extent in pictures.items():
            if key in home:
                raise DataError(f"the key {key!r} is in {home[key]} and again in {shard}; keys must be unique")
            home[key] = shard
            # With a table, folders inside a shard are mere storage.
            default = Label(None) if table else Label(key.rpartition("/")[0] or None)
            label = labels.get(key) or members.get(key) or default
            samples.append(Sample(key, label.identity, label.split))
            extents.append(extent)
    if not samples:
        raise DataError(f"no pictures in {name}; expected members such as KEY.webp or NAME/NAME_0001.jpg")
    missing = [key for key in labels if key not in home]
    skipped += [Skipped(key, f"listed in {table}, but in no shard") for key in missing]
    return StoredFaces(name, samples, extents, skipped)


def read_table(path: Path) -> dict[str, Label]:
    """Read a CSV file with the columns `key`, `identity` (empty: not known) and, if it likes, `split`.

    Raises:
        DataError: a column is missing, a key occurs twice, or the file is not UTF-8 text.
    """
    labels: dict[str, Label] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            if "key" not in columns or "identity" not in columns:
                raise DataError(f"{path} needs the columns key and identity; it has: {', '.join(columns) or 'none'}")
            for row in rows:
                if row["key"] in labels:
                    raise DataError(f"{path}, line {rows.line_num}: the key {row['key']!r} occurs twice")
                labels[row["key"]] = Label(row["identity"] or None, row.get("split") or "")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return labels


def _scan(shard: Path) -> tuple[dict[str, Extent], Mapping[str, Label]]:
    """Return the pictures of one shard by key, in their order, and the labels that it holds itself."""
    pictures: dict[str, Extent] = {}
    labels: dict[str, Label] = {}
    last = "nothing"
    try:
        for member in members(shard):
            key, suffix = os.path.splitext(member.name.removeprefix("./"))
            hidden = os.path.basename(key).startswith(".")
            if not member.is_plain or hidden:
                continue  # links, devices, holes: nothing that a data set needs
            extent = Extent(shard, member.offset, member.size)
            if suffix.lower() in IMAGE_SUFFIXES:
                if key in pictures:
                    raise DataError(f"{shard} holds two pictures of the key {key!r}; keys must be unique")
                pictures[key] = extent
                last = member.name
            elif suffix in (".json", ".cls") and member.size <= MAX_LABEL_BYTES:
                label = _read_label(extent, member.name)
                if suffix == ".json" or key not in labels:
                    labels[key] = label
    except TarError as error:
        if not pictures:
            raise DataError(
                f"{shard} is not an uncompressed tar file ({error}); unpack .tar.gz with gunzip, or copy it again"
            ) from error
        raise DataError(
            f"{shard} is cut short after {len(pictures)} pictures (last: {last}); copy or download it again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {shard}: {error.strerror or error}") from error
    return pictures, labels


def _read_label(extent: Extent, name: str) -> Label:
    """Read the identity from a `.cls` or `.json` member."""
    try:
        text = extent.read().decode()
        if name.endswith(".cls"):
            return Label(str(int(text)))
        value = parse_json(text)
        identity, split = value.get("identity"), value.get("split") or ""
    except (ValueError, AttributeError) as error:
        raise DataError(f"{name} in {extent.path} is not a label: {error}") from error
    return Label(None if identity is None else str(identity), str(split))
