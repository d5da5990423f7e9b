"""How well a network verifies pairs of faces that it was not trained on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgeface.data import FaceSet, Pairs
from edgeface.metrics import cosine_scores, roc, ten_fold

BATCH = 256


@dataclass(frozen=True, slots=True)
class Validation:
    """Pairs to verify during training, and the faces that they point to."""

    faces: FaceSet
    pairs: Pairs


@dataclass(frozen=True, slots=True)
class Verification:
    """How well pairs were verified.

    Attributes:
        accuracy: by the folds of the pairs, in [0, 1].
        standard_error: of the accuracy, in [0, 1].
        tar: share of genuine pairs accepted where at most 1 % of the impostors are, in [0, 1].
    """

    accuracy: float
    standard_error: float
    tar: float


def verify(backbone: nn.Module, validation: Validation, device: torch.device) -> Verification:
    """Embed the faces of the pairs and compare them.

    Raises:
        DataError: an embedding is zero or not finite, or a face cannot be read.
    """
    used = validation.pairs.used
    embeddings = embed(backbone, validation.faces, used, device)
    first, second = (np.searchsorted(used, side) for side in (validation.pairs.first, validation.pairs.second))
    scores = cosine_scores(embeddings[first], embeddings[second])
    folded = ten_fold(scores, validation.pairs.same, validation.pairs.folds)
    tar, _ = roc(scores, validation.pairs.same).at_fmr(0.01)
    return Verification(folded.accuracy, folded.standard_error, tar)


def embed(backbone: nn.Module, faces: FaceSet, indices: Iterable[int], device: torch.device) -> npt.NDArray[np.float32]:
    """Return the embeddings (N, D) float32 of some faces, not normalised; leaves the mode of the network."""
    places = list(indices)
    was_training = backbone.training
    backbone.eval()
    with torch.inference_mode():
        parts = [
            backbone(to_input(torch.from_numpy(faces.read_many(places[start : start + BATCH])), device)).cpu()
            for start in range(0, len(places), BATCH)
        ]
    backbone.train(was_training)
    embeddings: npt.NDArray[np.float32] = torch.cat(parts).float().numpy()
    return embeddings


def to_input(faces: Tensor, device: torch.device) -> Tensor:
    """Turn (N, 112, 112, 3) uint8 into (N, 3, 112, 112) float32 in [-1, 1], channels last in memory."""
    # uint8 travels to the device, a quarter of the bytes.
    return faces.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
