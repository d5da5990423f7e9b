"""The training loop, from top to bottom."""

import json
import shutil
import time
from pathlib import Path
from typing import Final

import torch

from edgeface.data import FaceSet
from edgeface.data.augment import build_augmentation
from edgeface.data.loader import AugmentedFaces, open_loader
from edgeface.errors import CheckpointError
from edgeface.files import write_text
from edgeface.losses import build_loss
from edgeface.models import build_model
from edgeface.plugins import Kind
from edgeface.training.checkpoint import BEST, LAST, OPTIMIZER, CheckpointInfo, read_info, recover_checkpoint
from edgeface.training.config import TrainConfig, changed_keys
from edgeface.training.device import pick_precision
from edgeface.training.fingerprint import fingerprint, what_differs
from edgeface.training.journal import cut_journal
from edgeface.training.learner import Learner
from edgeface.training.optimizer import learning_rate
from edgeface.training.pairing import check_pairs
from edgeface.training.preparation import Material, order_batches, prepare, whole_batches
from edgeface.training.processes import assert_same_run, gather_objects, join, machine_share, together
from edgeface.training.progress import NoProgress, Progress
from edgeface.training.record import METRICS, Record, diverged
from edgeface.training.room import enough_room
from edgeface.training.teacher import open_teacher
from edgeface.training.validation import Validation

CONFIG: Final = "config.json"


def train(
    config: TrainConfig,
    run: Path,
    *,
    faces: FaceSet | None = None,
    validation: Validation | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> CheckpointInfo:
    """Train an embedding network and write its run folder.

    The same configuration and data give the same weights on the same machine, also when a run was interrupted and
    resumed: weights, order and augmentation depend on seed and step only. (On a GPU, up to the order of its sums.)

    Started by `torchrun` or `edgeface train --nproc`, the processes share each batch and the classes. A run may go on
    with another number of them.

    Args:
        config: what to do.
        run: folder for config.json, metrics.jsonl, curves.png, checkpoint/ and best/; on a disk that all processes see.
        faces: what to train on, instead of `config.data.path`.
        validation: what to validate on, instead of people held out from the faces.
        resume: go on from the last checkpoint in `run`.
        progress: is told how it goes.

    Returns:
        What the last checkpoint says.

    Raises:
        DataError: the faces are missing, or there are too few faces or identities.
        ConfigError: the configuration does not fit the data, this machine or the number of processes.
        CheckpointError: `run` holds a run already, or none that can be resumed with this configuration.
        TrainingError: the loss or its gradient is not finite, the disk is full, or another process died. The last
            checkpoint stays.
    """
    with join(config.run.device) as (ranks, device):
        first = ranks.rank == 0
        if first:
            recover_checkpoint(run / LAST)
        gather_objects(None, ranks)  # before the others look
        with together(ranks):
            check_plugins(config)
            before = _resumable(run, config, resume)
            material = prepare(config, faces, validation)
            batches = order_batches(config, material.faces, before.step if before else 0, ranks)
            teacher = open_teacher(config, material.faces, device)
            precision = pick_precision(config.run.precision, device)
            if before:
                _assert_same_data(run / LAST, before, material)
            check_pairs(config, material.faces, whole_batches(batches))
        assert_same_run(ranks, config, material.faces, before.step if before else 0)
        learner = Learner(
            config, material.classes, teacher is not None, ranks, device, precision, resumes=before is not None
        )
        if before:
            learner.restore(run / LAST)
        if first:
            with enough_room(run, "the run"):
                _open_folder(run, config, before)
        record = Record(config, run, material, learner, batches.steps_per_epoch, before, progress or NoProgress())
        loader = open_loader(
            AugmentedFaces(material.faces, config.augment, config.run.seed),
            batches,
            workers=config.data.workers,
            processes=machine_share(),
            pin_memory=device.type == "cuda",
        )
        warmup = round(config.optimizer.warmup_epochs * batches.steps_per_epoch)
        asked = time.perf_counter()
        for step, batch in enumerate(loader, before.step if before else 0):
            arrived = time.perf_counter()
            lr = learning_rate(step, record.steps, warmup, config.optimizer.lr, config.optimizer.final_lr)
            wanted = None if teacher is None else teacher.targets(batch)
            outcome = learner.step(batch.faces, batch.labels, wanted, lr)
            if outcome.broken:
                raise diverged(outcome.broken, step + 1, record.steps, lr)
            record.add(outcome, step + 1, lr, wait_s=arrived - asked, step_s=time.perf_counter() - asked)
            asked = time.perf_counter()
        gather_objects(None, ranks)  # the first may still write
        return read_info(run / LAST)


def check_plugins(config: TrainConfig) -> None:
    """Load the plug-ins of a run, and see that they take their options, before any data is read.

    Raises:
        UnknownNameError, PluginError: as `edgeface.plugins.build`.
    """
    if plugins := {plugin.kind for plugin in config.plugins()}:
        size = config.model.embedding_size
        with torch.random.fork_rng(devices=()):
            if Kind.backbone in plugins:
                build_model(config.model.name, size, **config.model.options)
            if Kind.loss in plugins:
                build_loss(config.loss.name, 2, size, **config.loss.given())
        build_augmentation(config.augment)


def _open_folder(run: Path, config: TrainConfig, before: CheckpointInfo | None) -> None:
    run.mkdir(parents=True, exist_ok=True)
    if before is None:
        shutil.rmtree(run / BEST, ignore_errors=True)  # of a run that died before its first checkpoint
    write_text(run / CONFIG, json.dumps(config.to_dict(), indent=2) + "\n")
    cut_journal(run / METRICS, before.step if before else 0)


def _assert_same_data(last: Path, before: CheckpointInfo, material: Material) -> None:
    """Check that a checkpoint was trained on this data, as far as its numbers and names tell."""
    faces = material.faces
    if (before.classes, before.faces) != (material.classes, len(faces)):
        raise CheckpointError(
            f"{last} was trained on {before.faces} faces of {before.classes} identities, the data now has {len(faces)} "
            f"of {material.classes}; resume with the same data"
        )
    if other := what_differs(before.fingerprint, fingerprint(faces)):
        raise CheckpointError(
            f"{last} was trained on other data than {faces.name}, although both have {len(faces)} faces of "
            f"{material.classes} identities: {other} now; resume with the same data"
        )


def _resumable(run: Path, config: TrainConfig, resume: bool) -> CheckpointInfo | None:
    """Read the checkpoint to go on from, and check that it is of the same run; None where a new run begins."""
    last = run / LAST
    if not resume:
        if last.exists():
            raise CheckpointError(f"{run} holds a run already; resume it (--resume) or choose another folder (--out)")
        return None
    if not last.exists() and (run / CONFIG).is_file():
        raise CheckpointError(f"{run} ended before its first checkpoint; start it again without --resume")
    info = read_info(last)
    if not (last / OPTIMIZER).is_file():
        raise CheckpointError(f"{last / OPTIMIZER} is missing, so the run cannot be resumed; start a new one")
    changed = changed_keys(info.config, config.to_dict())
    if changed:
        key, old, new = changed[0]
        raise CheckpointError(
            f"{last} was written with {key} = {old!r}, now it is {new!r}; resume with the configuration of the run, "
            "or start a new one"
        )
    return info
