"""Faces that training never sees, and how well the network verifies them."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgeface.data import UNKNOWN, FaceSet, Pairs, make_pairs
from edgeface.errors import DataError
from edgeface.metrics import cosine_scores, roc, ten_fold
from edgeface.training.config import TrainConfig

log = logging.getLogger(__name__)

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


def divide(faces: FaceSet, config: TrainConfig) -> tuple[FaceSet, Validation | None]:
    """Divide a set into faces to train on and pairs of other people to validate on.

    A set with splits is divided by them; of another one, a share of the identities is held out.

    Raises:
        DataError: the set has splits, but not the asked one.
    """
    data, seed = config.data, config.run.seed
    if faces.splits:
        training = faces.split(data.split)
        held_out = faces.split(data.val_split) if data.val_split in faces.splits else None
    else:
        count = round(len(faces.identities) * data.val_identities)
        # Too few of them give no pairs; each is worth more in training then.
        count = 0 if count == 0 else max(count, 4)
        chosen = np.random.default_rng(seed).permutation(len(faces.identities))[:count]
        out = np.isin(faces.labels, chosen) & (faces.labels != UNKNOWN)
        training = faces.select(np.flatnonzero(~out).tolist())
        held_out = faces.select(np.flatnonzero(out).tolist()) if count else None
    if held_out is None or not config.run.val_pairs:
        return training, None
    try:
        return training, Validation(held_out, make_pairs(held_out, config.run.val_pairs, seed))
    except DataError as error:
        log.warning("no validation: %s", error)
        return training, None
