"""Picture sheets: pairs of faces side by side, with score and names."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt

COLUMNS: Final = 4
LONGEST_NAME: Final = 34
"""Characters; of a longer name the last part of the path is shown, or its end, which tells pictures apart."""


@dataclass(frozen=True, slots=True)
class FacePair:
    """Two faces to show.

    Attributes:
        first: (H, W, 3) uint8 RGB; `second` has the same size.
        score: theirs.
        names: of both.
    """

    first: npt.NDArray[np.uint8]
    second: npt.NDArray[np.uint8]
    score: float
    names: tuple[str, str]


def picture_sheet(pairs: Sequence[FacePair]) -> bytes:
    """Draw at least one pair, four in a row; returns a PNG."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    columns = min(COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.15 * rows), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for cell in cells:
        cell.axis("off")
    for cell, pair in zip(cells, pairs, strict=False):
        gap = np.full((len(pair.first), 6, 3), 255, np.uint8)
        cell.imshow(np.hstack([pair.first, gap, pair.second]))
        # Names come from files: a dollar sign is no formula.
        text = "\n".join((f"{pair.score:.3f}", *(_shortened(name) for name in pair.names)))
        cell.set_title(text, fontsize=8, parse_math=False)
    data = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in a script that the font lacks
        figure.savefig(data, format="png", dpi=110)
    return data.getvalue()


def _shortened(name: str) -> str:
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    if len(printable) > LONGEST_NAME:
        printable = printable.rpartition("/")[2]
    return printable if len(printable) <= LONGEST_NAME else "…" + printable[1 - LONGEST_NAME :]
