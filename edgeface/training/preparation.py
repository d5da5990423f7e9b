"""From a data set to the faces, targets and pairs of a run."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.data import UNKNOWN, FaceSet, make_pairs, open_faces
from edgeface.data.teacher import read_targets
from edgeface.errors import ConfigError, DataError
from edgeface.training.config import TrainConfig
from edgeface.training.validation import Validation

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Material:
    """What a run learns from and is measured on.

    Attributes:
        faces: to train on, every one of them readable.
        targets: (N, D) float32, what the teacher answers for each of them; None without a teacher.
        validation: pairs of other people; None when there are too few of them.
    """

    faces: FaceSet
    targets: npt.NDArray[np.float32] | None
    validation: Validation | None

    @property
    def classes(self) -> int:
        """Number of identities to train on."""
        return len(self.faces.identities)


def prepare(config: TrainConfig, faces: FaceSet | None, validation: Validation | None) -> Material:
    """Read, check and divide the data of a run.

    Args:
        config: of the run.
        faces: used instead of `config.data.path`.
        validation: used instead of people held out from the faces.

    Raises:
        DataError: the faces are missing, or there are too few faces or identities.
        ConfigError: no data is named, or the teacher's embeddings have another length than the network's.
    """
    if faces is None and not config.data.path:
        raise ConfigError("no faces to train on; name them with --data or data.path")
    everything = (open_faces(config.data.path) if faces is None else faces).checked()
    if everything.skipped:
        log.warning("left out %d pictures; the first: %s", len(everything.skipped), everything.skipped[0].reason)
    if validation is None:
        training, validation = divide(everything, config)
    else:
        training = everything.split(config.data.split) if everything.splits else everything
    if not config.teacher.path:
        training = training.select(np.flatnonzero(training.labels != UNKNOWN).tolist())
    if config.loss.weight and len(training.identities) < 2:
        raise DataError(
            f"{training.name} has {len(training.identities)} identities to train on; telling people apart needs at "
            "least 2 (folders IDENTITY/PICTURE.jpg, or shards with labels)"
        )
    if len(training) < config.run.batch_size:
        raise DataError(
            f"{training.name} has {len(training)} faces to train on, fewer than run.batch_size = "
            f"{config.run.batch_size}; make that smaller"
        )
    return Material(training, _targets(config, training), validation)


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
        count = max(count, 4) if count else 0  # fewer than 4 give no pairs
        chosen = np.random.default_rng(seed).permutation(len(faces.identities))[:count]
        out = np.isin(faces.labels, chosen)
        training = faces.select(np.flatnonzero(~out).tolist())
        held_out = faces.select(np.flatnonzero(out).tolist()) if count else None
    if held_out is None or not config.run.val_pairs:
        return training, None
    try:
        return training, Validation(held_out, make_pairs(held_out, config.run.val_pairs, seed))
    except DataError as error:
        log.warning("no validation: %s", error)
        return training, None


def _targets(config: TrainConfig, faces: FaceSet) -> npt.NDArray[np.float32] | None:
    """Read what the teacher answers for each face."""
    if not (config.teacher.path and config.teacher.weight):
        return None
    transform = Path(config.teacher.transform) if config.teacher.transform else None
    targets = read_targets(Path(config.teacher.path), faces, transform)
    if targets.shape[1] != config.model.embedding_size:
        raise ConfigError(
            f"the teacher's embeddings have {targets.shape[1]} numbers and model.embedding_size is "
            f"{config.model.embedding_size}; set it to {targets.shape[1]}"
        )
    return targets
