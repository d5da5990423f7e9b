"""Which data a run learns from, in a few hashes: enough to notice other data, and to say what is other about it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from edgeface.data import FaceSet
from edgeface.files import sha256

LISTS: Final = {
    "people": "its people have other names",
    "pictures": "its pictures have other names",
    "order": "its pictures come in another order",
    "labels": "its pictures are of other people",
}
"""What is hashed, and what another hash means; the first one that differs says most."""


def fingerprint(faces: FaceSet) -> dict[str, str]:
    """Return hashes of the names of people and pictures, and of who is on which picture; pixels are not read."""
    keys = [sample.key for sample in faces.samples]
    return {
        "people": _hash(faces.identities),
        "pictures": _hash(sorted(keys)),
        "order": _hash(keys),
        "labels": _hash(f"{sample.key}\t{sample.identity}" for sample in faces.samples),
    }


def list_fingerprint(names: Sequence[str]) -> dict[str, str]:
    """Return hashes of the names of pictures alone."""
    return {"pictures": _hash(sorted(names)), "order": _hash(names)}


def what_differs(before: Mapping[str, str] | None, now: Mapping[str, str]) -> str | None:
    """Return in words what is other about the data now; None where nothing is, or where it was not kept."""
    kept = before if isinstance(before, Mapping) else {}
    return next((words for key, words in LISTS.items() if key in kept and kept[key] != now.get(key)), None)


def _hash(names: Iterable[str]) -> str:
    return sha256("\n".join(names).encode(errors="surrogatepass"))
