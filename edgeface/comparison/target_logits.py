"""What a margin does to the logit of a face's own class, over the angle between the two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from edgeface.comparison.contenders import Contender
from edgeface.losses import AdaFace, CosineHead, MagFace, build_loss
from edgeface.training.config import TrainConfig

ANGLES_DEG: Final = np.linspace(0, 180, 361)
CUSTOMARY_LENGTH: Final = 20.0
"""Mean length of embeddings at which AdaFace's authors begin; only how a length stands to the mean matters."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A target-logit curve.

    Attributes:
        label: the contender, and the length of the embedding where the curve depends on it.
        values: what replaces the cosine of each of `ANGLES_DEG`, before the scale; (361,) float64.
    """

    label: str
    values: npt.NDArray[np.float64]


def target_logits(contender: Contender, config: TrainConfig) -> tuple[Curve, ...]:
    """Return the curves of a contender, in evaluation mode; none where its loss is not over cosines to classes.

    AdaFace and MagFace have three: a short, a middle and a long embedding. Short and long are where the margin stops
    to change: for AdaFace 1 / h standard deviations from the mean, for MagFace its two lengths.
    """
    head = build_loss(contender.name, 2, 2, **config.loss.given()).eval()
    if not isinstance(head, CosineHead):
        return ()
    lengths = {"": 1.0}
    if isinstance(head, AdaFace):
        head.length = torch.tensor([CUSTOMARY_LENGTH, 1.0, 1.0])
        reach = 1.01 / head.concentration  # the head adds a little to the standard deviation
        lengths = _three(CUSTOMARY_LENGTH - reach, CUSTOMARY_LENGTH + reach)
    elif isinstance(head, MagFace):
        lengths = _three(*head.lengths)
    return tuple(Curve(contender.label + name, _curve(head, length)) for name, length in lengths.items())


def merged(curves: Sequence[Curve]) -> tuple[Curve, ...]:
    """Return the curves with those that are equal as one, under all their labels."""
    found: list[Curve] = []
    for curve in curves:
        for place, other in enumerate(found):
            if np.allclose(curve.values, other.values, atol=1e-5):
                found[place] = Curve(f"{other.label}, {curve.label}", other.values)
                break
        else:
            found.append(curve)
    return tuple(found)


def _three(low: float, high: float) -> dict[str, float]:
    return {" (short)": low, " (middle)": (low + high) / 2, " (long)": high}


def _curve(head: CosineHead, length: float) -> npt.NDArray[np.float64]:
    # float64: near 0 and 180 degrees a cosine in float32 says little about the angle
    cosine = torch.from_numpy(np.cos(np.radians(ANGLES_DEG)))
    features = torch.tensor([[length, 0.0]], dtype=torch.float64).expand(len(cosine), 2)
    with torch.no_grad():
        values = head.adapted_cosine(cosine, features, torch.ones(len(cosine), dtype=torch.bool))
    return values.numpy().astype(np.float64)
