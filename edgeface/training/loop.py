"""The training loop, from top to bottom."""

import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from edgeface import __version__
from edgeface.data import FaceSet
from edgeface.data.loader import AugmentedFaces, open_loader
from edgeface.errors import CheckpointError, TrainingError
from edgeface.evaluation.backbone import to_input
from edgeface.files import write_text
from edgeface.losses import build_loss
from edgeface.losses.objective import Objective
from edgeface.models import build_model
from edgeface.training.checkpoint import (
    BACKBONE,
    BEST,
    HEAD,
    LAST,
    OPTIMIZER,
    CheckpointInfo,
    load_tensors,
    load_weights,
    read_info,
    recover_checkpoint,
    save_checkpoint,
)
from edgeface.training.config import TrainConfig
from edgeface.training.curves import draw_curves
from edgeface.training.device import pick_device, pick_precision
from edgeface.training.journal import Window, append_line, cut_journal
from edgeface.training.optimizer import build_optimizer, learning_rate, optimizer_tensors, restore_optimizer
from edgeface.training.preparation import order_batches, prepare
from edgeface.training.progress import NoProgress, Progress, Status
from edgeface.training.teacher import open_teacher
from edgeface.training.validation import Validation, verify

METRICS: Final = "metrics.jsonl"
CONFIG: Final = "config.json"
CURVES: Final = "curves.png"
DRAW_EVERY_S: Final = 30.0
MAY_CHANGE: Final = frozenset({"data.path", "data.workers", "teacher.path", "teacher.transform"})
"""Keys that a resumed run may set anew: they say where the data lies, not what it is."""


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

    Args:
        config: what to do.
        run: folder for config.json, metrics.jsonl, curves.png, checkpoint/ and best/.
        faces: what to train on, instead of `config.data.path`.
        validation: what to validate on, instead of people held out from the faces.
        resume: go on from the last checkpoint in `run`.
        progress: is told how it goes.

    Returns:
        What the last checkpoint says.

    Raises:
        DataError: the faces are missing, or there are too few faces or identities.
        ConfigError: the configuration does not fit the data or this machine.
        CheckpointError: `run` holds a run already, or none that can be resumed with this configuration.
        TrainingError: the loss or its gradient is not finite. The last checkpoint stays.
    """
    progress = progress or NoProgress()
    device = pick_device(config.run.device)
    precision = pick_precision(config.run.precision, device)
    last = run / LAST
    recover_checkpoint(last)
    if resume:
        before = _resumable(last, config)
    elif last.exists():
        raise CheckpointError(f"{run} holds a run already; resume it (--resume) or choose another folder (--out)")
    else:
        before = None

    material = prepare(config, faces, validation)
    training, classes = material.faces, material.classes
    if before and (before.classes, before.faces) != (classes, len(training)):
        raise CheckpointError(
            f"{last} was trained on {before.faces} faces of {before.classes} identities, the data now has "
            f"{len(training)} of {classes}; resume with the same data"
        )
    teacher = open_teacher(config, training, device)
    step = before.step if before else 0
    batches = order_batches(config, training, step)

    # Networks
    torch.manual_seed(config.run.seed)
    backbone = build_model(config.model.name, config.model.embedding_size)
    head = None
    if config.loss.weight:
        head = build_loss(config.loss.name, classes, config.model.embedding_size, **config.loss.options())
    objective = Objective(head, config.loss.weight, config.teacher.weight if teacher else 0.0)
    if before:
        load_weights(last / BACKBONE, backbone)
        load_weights(last / HEAD, objective)
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    backbone.to(device).train()
    objective.to(device).train()
    networks = nn.ModuleList([backbone, objective])
    optimizer = build_optimizer(networks, config.optimizer)
    scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
    if before:
        restore_optimizer(optimizer, scaler, load_tensors(last / OPTIMIZER), str(last / OPTIMIZER))

    # Steps
    loader = open_loader(
        AugmentedFaces(training, config.augment, config.run.seed),
        batches,
        workers=config.data.workers,
        pin_memory=device.type == "cuda",
    )
    per_epoch = batches.steps_per_epoch
    steps = config.run.epochs * per_epoch
    warmup = round(config.optimizer.warmup_epochs * per_epoch)
    clip_norm = config.optimizer.clip_norm or math.inf
    best = before.best_accuracy if before else None
    accuracy = before.accuracy if before else None
    seconds = before.seconds if before else 0.0

    run.mkdir(parents=True, exist_ok=True)
    if before is None:
        shutil.rmtree(run / BEST, ignore_errors=True)  # of a run that died before its first checkpoint
    write_text(run / CONFIG, json.dumps(config.to_dict(), indent=2) + "\n")
    cut_journal(run / METRICS, step)

    window = Window()
    started = asked = drawn = time.perf_counter()
    for batch in loader:
        arrived = time.perf_counter()
        lr = learning_rate(step, steps, warmup, config.optimizer)
        for group in optimizer.param_groups:
            group["lr"] = lr

        labels = batch.labels.to(device, non_blocking=True)
        wanted = None if teacher is None else teacher.targets(batch)
        with torch.autocast(device.type, precision, enabled=precision is not torch.float32):
            embeddings = backbone(to_input(batch.faces, device))  # (N, D)
        loss, identity, imitation = objective(embeddings, labels, wanted)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(networks.parameters(), clip_norm)
        # item() waits for a GPU, at the cost of some per cent, and in return no step is built on a broken
        # one. With a scaler an infinite gradient is normal: it skips that step and scales less.
        broken = "loss" if not math.isfinite(loss.item()) else "gradient"
        if broken == "loss" or not (scaler.is_enabled() or math.isfinite(norm.item())):
            raise _diverged(broken, step + 1, steps, lr)
        scaler.step(optimizer)
        scaler.update()
        step += 1

        window.add(loss, identity, imitation, wait_s=arrived - asked, step_s=time.perf_counter() - asked)
        if head is not None:
            window.count(head.counts())
        epoch, place = divmod(step, per_epoch)
        final = step == steps
        epoch_ends = place == 0
        evaluates = epoch_ends and material.validation and (final or epoch % config.run.eval_epochs == 0)
        saves = epoch_ends and (final or epoch % config.run.checkpoint_epochs == 0)
        if evaluates or saves or step % config.run.log_steps == 0:
            line = window.line(step, step / per_epoch, lr, config.run.batch_size)
            window = Window()
            improved = False
            if (evaluates or saves) and not all(torch.isfinite(t).all() for t in backbone.state_dict().values()):
                raise _diverged("network", step, steps, lr)
            if evaluates and material.validation:
                result = verify(backbone, material.validation, device)
                accuracy = result.accuracy
                improved = best is None or accuracy >= best
                best = accuracy if improved else best
                line |= {"val_accuracy": accuracy, "val_se": result.accuracy_se, "val_tar": result.roc.at_fmr(0.01)[0]}
            append_line(run / METRICS, line)
            info = CheckpointInfo(
                model=config.model.name,
                embedding_size=config.model.embedding_size,
                classes=classes,
                faces=len(training),
                loss=config.loss.name,
                data=training.name,
                step=step,
                epoch=epoch,
                seconds=seconds + time.perf_counter() - started,
                accuracy=accuracy,
                best_accuracy=best,
                config=config.to_dict(),
                edgeface=__version__,
            )
            if improved:
                save_checkpoint(run / BEST, info, backbone, objective)
            if saves:
                save_checkpoint(last, info, backbone, objective, optimizer_tensors(optimizer, scaler))
                if final or time.perf_counter() - drawn > DRAW_EVERY_S:
                    draw_curves(run / METRICS, run / CURVES)
                    drawn = time.perf_counter()
            speed, wait = line["faces_per_s"], line["data_wait"]
            eta_s = (steps - step) * config.run.batch_size / speed
            epochs = config.run.epochs
            progress.update(
                Status(step, steps, min(epoch + 1, epochs), epochs, line["loss"], lr, speed, wait, eta_s, accuracy)
            )
        asked = time.perf_counter()
    return read_info(last)


def _resumable(last: Path, config: TrainConfig) -> CheckpointInfo:
    """Read the checkpoint to go on from, and check that it is of the same run."""
    info = read_info(last)
    if not (last / OPTIMIZER).is_file():
        raise CheckpointError(f"{last / OPTIMIZER} is missing, so the run cannot be resumed; start a new one")
    # What the configuration did not know yet when the run began had its default.
    old, new = _flat(TrainConfig().to_dict()) | _flat(info.config), _flat(config.to_dict())
    changed = [key for key in new if key not in MAY_CHANGE and new[key] != old.get(key)]
    if changed:
        key = changed[0]
        raise CheckpointError(
            f"{last} was written with {key} = {old.get(key)!r}, now it is {new[key]!r}; resume with the "
            "configuration of the run, or start a new one"
        )
    return info


def _diverged(what: str, step: int, steps: int, lr: float) -> TrainingError:
    return TrainingError(
        f"the {what} is not finite at step {step} of {steps} (learning rate {lr:.3g}); lower optimizer.lr or "
        "optimizer.clip_norm, or raise optimizer.warmup_epochs; the last checkpoint stays"
    )


def _flat(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, table in config.items() for key, value in table.items()}
