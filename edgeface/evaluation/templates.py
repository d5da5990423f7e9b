"""Templates of several faces and pairs of them, as the 1:1 protocol of IJB-B and IJB-C has them, from CSV files."""

from collections import Counter
from pathlib import Path

import numpy as np

from edgeface.data.faceset import FaceSet
from edgeface.data.pairs import Pairs
from edgeface.errors import DataError
from edgeface.evaluation.items import Items, Membership, common_label, face_items
from edgeface.evaluation.listing import look_up, read_flag, read_rows

FOLDS = 10
"""For accuracy; IJB has no folds, so pairs of both kinds are dealt to them in turn."""


def read_templates(path: Path, faces: FaceSet) -> Items:
    """Read a CSV file with the columns `template`, `key` and, if it likes, `media`.

    A row says that the face `key` belongs to `template`; rows of a template with the same `media` are averaged
    first. A face without a medium is one of its own.

    Raises:
        DataError: the file cannot be used, names a face that is not in `faces`, or repeats a row.
    """
    rows = read_rows(path, ("template", "key"))
    again = [row for row, count in Counter((row["template"], row["key"]) for row in rows).items() if count > 1]
    if again:
        raise DataError(f"{path} puts {again[0][1]!r} into template {again[0][0]!r} twice; keep one of the rows")
    face = np.array(look_up((row["key"] for row in rows), face_items(faces).places(), path, "faces"), np.int64)
    numbers: dict[str, int] = {}
    template = np.array([numbers.setdefault(row["template"], len(numbers)) for row in rows], np.int64)
    media: dict[tuple[str, str | int], int] = {}
    medium = np.array(
        [media.setdefault((row["template"], row.get("media") or line), len(media)) for line, row in enumerate(rows)],
        np.int64,
    )
    order = np.argsort(template, kind="stable")
    membership = Membership(template[order], face[order], medium[order])
    first = np.searchsorted(membership.template, np.arange(len(numbers)))
    members = np.split(membership.face, first[1:])
    labels = np.array([common_label(faces.labels[own]) for own in members], np.int64)
    return Items(faces, tuple(numbers), labels, membership.face[first], membership)


def read_template_pairs(path: Path, templates: Items) -> Pairs:
    """Read a CSV file with the columns `first`, `second` (templates) and `same` (1 or 0).

    Raises:
        DataError: the file cannot be used, names a template that has no faces, repeats a pair, or has pairs of one
            kind only.
    """
    rows = read_rows(path, ("first", "second", "same"))
    places = templates.places()
    first = look_up((row["first"] for row in rows), places, path, "templates")
    second = look_up((row["second"] for row in rows), places, path, "templates")
    same = np.array([read_flag(row["same"], path) for row in rows])
    seen = set[frozenset[int]]()
    for row, a, b in zip(rows, first, second, strict=True):
        pair = frozenset((a, b))
        if a == b or pair in seen:
            what = "compares a template with itself" if a == b else "lists a pair twice"
            raise DataError(f"{path} {what}: {row['first']!r}, {row['second']!r}; keep distinct pairs")
        seen.add(pair)
    genuine, impostors = int(same.sum()), int((~same).sum())
    if genuine < 2 or impostors < 4:
        raise DataError(f"{path} has {genuine} genuine and {impostors} impostor pairs; give at least 2 and 4")
    turn = np.where(same, np.cumsum(same), np.cumsum(~same)) - 1
    folds = turn % min(FOLDS, genuine, impostors)
    return Pairs(np.array(first, np.int64), np.array(second, np.int64), same, folds.astype(np.int64))
