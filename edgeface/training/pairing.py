"""Whether the batches of a run hold what a loss over pairs compares: two faces of a person, and another person."""

import logging
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.data import UNKNOWN, FaceSet
from edgeface.data.loader import EpochBatches
from edgeface.errors import DataError
from edgeface.losses import PairHead, loss_class
from edgeface.training.config import TrainConfig

log = logging.getLogger(__name__)

MAX_BATCHES: Final = 200
"""Of the first epoch, that are looked at."""

ENOUGH: Final = 0.9
"""Share of the batches with pairs below which a run is warned."""


def check_pairs(config: TrainConfig, faces: FaceSet, batches: EpochBatches) -> None:
    """Check the batches of a loss over pairs; those of other losses may be what they like.

    Args:
        config: of the run.
        faces: to train on.
        batches: of all processes together.

    Raises:
        DataError: no batch has a pair, so that the run would learn nothing of them.
    """
    if not config.loss.weight or not issubclass(loss_class(config.loss.name), PairHead):
        return
    loss = f"the loss {config.loss.name} compares two pictures of a person"
    counts = [count for label, count in faces.label_counts().items() if label != UNKNOWN]
    if max(counts, default=0) < 2:
        raise DataError(
            f"{loss}, and {faces.name} has one of each; bring more pictures a person, or take a loss over classes such "
            "as arcface"
        )
    order = batches.order(0)[: batches.steps_per_epoch * batches.batch_size][: MAX_BATCHES * batches.batch_size]
    share = _share_with_pairs(faces.labels[order].reshape(-1, batches.batch_size))
    advice = "set run.sampler=pk, which puts several pictures of each person into a batch"
    if config.run.sampler == "pk":
        advice = "make run.batch_size larger"
    if not share and not config.loss.memory:
        raise DataError(f"{loss}, and no batch of {batches.batch_size} has them; {advice}")
    if share < ENOUGH:
        log.warning("%s, and %.0f %% of the batches of %d have them; %s", loss, 100 * share, batches.batch_size, advice)


def _share_with_pairs(labels: npt.NDArray[np.int64]) -> float:
    """Return the share of the rows of (B, N) labels that have one twice and another one besides."""
    ordered = np.sort(labels, axis=1)
    known = ordered[:, 1:] != UNKNOWN
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & known).any(axis=1)
    others = ((ordered[:, 1:] != ordered[:, :-1]) & known & (ordered[:, :-1] != UNKNOWN)).any(axis=1)
    return float((twice & others).mean()) if len(labels) else 0.0
