"""From `--data`, `--pairs` and `--split` to labelled pairs; from preprocessing options to a foreign network's."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgeface.errors import ConfigError

if TYPE_CHECKING:
    from edgeface.data.faceset import FaceSet
    from edgeface.data.pairs import Pairs
    from edgeface.export.foreign import Preprocessing


def open_pairs(data: str, pairs: Path | None, split: str | None) -> "tuple[FaceSet, Pairs, str]":
    """Open faces and pairs, and name the protocol.

    The pairs are those of the list if one is given, those of a verification file, those of a `pairs.txt` that lies
    beside the faces, or else drawn.
    """
    from edgeface.data import make_pairs, open_bin, open_faces, read_lfw_pairs

    if Path(data).suffix == ".bin" and pairs is None:
        if split is not None:
            raise ConfigError(f"{data} is a verification file, which has no splits; leave out --split {split}")
        return *open_bin(Path(data).expanduser()), Path(data).stem
    faces = open_faces(data, split=split)
    folder = Path(data) if Path(data).is_dir() else Path(data).parent
    if pairs is None and split is None and (folder / "pairs.txt").is_file():
        pairs = folder / "pairs.txt"
    if pairs is not None:
        return faces, read_lfw_pairs(pairs, faces), "lfw" if pairs.name == "pairs.txt" else pairs.stem
    return faces, make_pairs(faces), "drawn from identities" + (f", split {split}" if split else "")


def foreign_preprocessing(
    layout: str | None, order: str | None, mean: float | None, scale: float | None
) -> "Preprocessing | None":
    """Return what a foreign network expects, None if nothing was said of it.

    Raises:
        ConfigError: only a part was said; nothing is guessed, because a wrong guess costs accuracy silently.
    """
    given = {"--input-layout": layout, "--channel-order": order, "--mean": mean, "--scale": scale}
    missing = [option for option, value in given.items() if value is None]
    if len(missing) == len(given):
        return None
    if layout is None or order is None or mean is None or scale is None:
        raise ConfigError(f"a foreign network needs its whole preprocessing; missing: {', '.join(missing)}")
    from edgeface.export.foreign import Preprocessing

    return Preprocessing(layout, order, mean, scale)  # type: ignore[arg-type]  # checked there
