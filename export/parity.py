"""Does the exported network still say the same about faces?"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import ExportError
from edgeface.metrics import cosine_scores
from edgeface.runtime.embedder import open_embedder

FP32_MIN_COSINE: Final = 0.99999
"""Below this an fp32 export is not the same network, and is refused."""

INT8_MIN_COSINE: Final = 0.999
"""The same of a network that was in int8 when it came: there a rounding the other way is a whole step."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Cosines between the embeddings of two forms of a network on the same faces."""

    images: int
    min_cosine: float
    mean_cosine: float


def compare(reference: npt.NDArray[np.floating], candidate: npt.NDArray[np.floating]) -> Parity:
    """Compare two (N, D) embedding matrices row by row.

    Raises:
        ExportError: the candidate has values that are not finite.
    """
    if not np.isfinite(candidate).all():
        raise ExportError("the exported network gives embeddings that are not finite; quantize with other faces")
    cosines = cosine_scores(reference, candidate)
    return Parity(len(cosines), float(cosines.min()), float(cosines.mean()))


def assert_same(parity: Parity, what: str, least: float = FP32_MIN_COSINE) -> None:
    """Refuse an export that differs from its source.

    Raises:
        ExportError: the smallest cosine is below `least`.
    """
    if parity.min_cosine < least:
        raise ExportError(
            f"{what}: minimum cosine {parity.min_cosine:.6f} over {parity.images} faces, "
            f"at least {least} is asked; the export is not the same network"
        )


def assert_same_network(
    fp32: bytes, faces: npt.NDArray[np.uint8], reference: npt.NDArray[np.float32], stored: str = "fp32"
) -> None:
    """Refuse a graph that is not the original network, on a batch of faces and on single ones.

    Args:
        fp32: the graph as a file.
        stored: its precision. A foreign network that is in int8 already may differ by a rounding, as far as
            `INT8_MIN_COSINE`.
        faces: (N, 112, 112, 3) uint8 RGB.
        reference: (N, D) embeddings of the original.

    Raises:
        ExportError: it is not.
    """
    embedder = open_embedder(fp32, provider="cpu", threads=0, name=f"the {stored} network")
    embeddings = embedder.embed(faces)
    least = FP32_MIN_COSINE if stored == "fp32" else INT8_MIN_COSINE
    assert_same(compare(reference, embeddings), f"{stored} against the original network", least)
    single = np.concatenate([embedder.embed(face[None]) for face in faces[:4]])
    assert_same(compare(embeddings[:4], single), f"{stored} one by one against a batch", least)
