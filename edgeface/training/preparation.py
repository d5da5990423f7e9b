"""From a data set to the faces, targets and pairs of a run."""

import logging
from dataclasses import dataclass

import numpy as np

from edgeface.data import UNKNOWN, FaceSet, make_pairs, open_faces
from edgeface.data.faceset import left_out
from edgeface.data.loader import EpochBatches
from edgeface.data.samplers import BalancedBatches, PKBatches, RankBatches
from edgeface.errors import ConfigError, DataError
from edgeface.losses.ranks import ALONE, Ranks
from edgeface.training.config import RunConfig, TrainConfig
from edgeface.training.validation import Validation

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Material:
    """What a run learns from and is measured on.

    Attributes:
        faces: to train on, every one of them readable.
        validation: pairs of other people; None when there are too few of them.
    """

    faces: FaceSet
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
        ConfigError: no data is named.
    """
    if faces is None and not config.data.path:
        raise ConfigError("no faces to train on; name them with --data or data.path")
    everything = (open_faces(config.data.path) if faces is None else faces).checked()
    if everything.skipped:
        log.warning("left out %d pictures: %s", len(everything.skipped), left_out(everything.skipped))
    if validation is None:
        training, validation = divide(everything, config)
    else:
        training = everything.split(config.data.split) if everything.splits else everything
    if not config.teacher.path:
        known = np.flatnonzero(training.labels != UNKNOWN).tolist()
        if len(known) < len(training):
            log.warning(
                "left out %d of %d faces, whose identity is not known: only a teacher could say what to learn of them",
                len(training) - len(known),
                len(training),
            )
        training = training.select(known)
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
    return Material(training, validation)


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


def order_batches(config: TrainConfig, faces: FaceSet, step: int, ranks: Ranks = ALONE) -> EpochBatches | RankBatches:
    """Return the batches of all steps from `step` on, as the sampler of the run makes them: this process's share.

    Raises:
        ConfigError: the batch size does not fit the sampler, or cannot be divided among the processes.
        DataError: too few faces or identities fit it.
    """
    batches = _order(config.run, faces, step)
    return batches if ranks.count == 1 else RankBatches(batches, ranks.rank, ranks.count)


def whole_batches(batches: EpochBatches | RankBatches) -> EpochBatches:
    """Return the batches of all processes together."""
    return batches.batches if isinstance(batches, RankBatches) else batches


def _order(run: RunConfig, faces: FaceSet, step: int) -> EpochBatches:
    if run.sampler == "shuffle":
        return EpochBatches(len(faces), run.batch_size, run.epochs, run.seed, step)
    if run.sampler == "balanced":
        batches: BalancedBatches | PKBatches = BalancedBatches(faces.labels, run.batch_size, run.epochs, run.seed, step)
    else:
        k = 4 if run.faces_per_identity is None else run.faces_per_identity
        batches = PKBatches(faces.labels, run.batch_size, run.epochs, run.seed, step, faces_per_identity=k)
    if batches.count < len(faces):
        log.warning(
            "the sampler %s leaves out %d of %d faces, whose identity is unknown or has too few",
            run.sampler,
            len(faces) - batches.count,
            len(faces),
        )
    return batches
