"""Losses that teach a network to tell identities apart. A new one is a file here and a line in `LOSSES`."""

from typing import Final, Protocol

from edgeface.errors import UnknownNameError
from edgeface.losses.arcface import ArcFace
from edgeface.losses.cosface import CosFace
from edgeface.losses.distillation import Distillation
from edgeface.losses.head import IGNORED, CosineHead, Head
from edgeface.losses.softmax import NormSoftmax, Softmax

__all__ = [
    "IGNORED",
    "LOSSES",
    "ArcFace",
    "CosFace",
    "CosineHead",
    "Distillation",
    "Head",
    "NormSoftmax",
    "Softmax",
    "build_loss",
]


class HeadBuilder(Protocol):
    """How a head is made."""

    def __call__(self, classes: int, embedding_size: int, *, scale: float, margin: float | None) -> Head:
        """Build a head for that many identities."""


LOSSES: Final[dict[str, HeadBuilder]] = {
    "arcface": ArcFace,
    "cosface": CosFace,
    "norm-softmax": NormSoftmax,
    "softmax": Softmax,
}
"""Name of each loss, and what builds it."""


def build_loss(
    name: str, classes: int, embedding_size: int, *, scale: float = 30.0, margin: float | None = None
) -> Head:
    """Build a loss of `LOSSES` with freshly drawn parameters (torch's global generator).

    Args:
        name: a key of `LOSSES`.
        classes: number of identities.
        embedding_size: D.
        scale: factor s before the softmax.
        margin: in the unit of that loss (radians for `arcface`, cosine for `cosface`); None takes its
            default.

    Raises:
        UnknownNameError: there is no such loss.
        ConfigError: the margin is out of range.
    """
    if name not in LOSSES:
        raise UnknownNameError("loss", name, LOSSES)
    return LOSSES[name](classes, embedding_size, scale=scale, margin=margin)
