"""Training a face detector on one machine: labelled photographs and drawn scenes in, weights out."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from edgeface.data.detection import DetectionSet, Labelled, open_detection_set
from edgeface.errors import ConfigError, TrainingError
from edgeface.evaluation.detection import LOWEST_SCORE, DetectorReport, TorchDetector, evaluate_detector
from edgeface.files import write_text
from edgeface.models.detector import FaceDetector
from edgeface.runtime.detection.detections import DetectorSettings
from edgeface.runtime.detection.edge_detector import UNLIMITED
from edgeface.training.detection.augment import training_picture
from edgeface.training.detection.checkpoint import largest_face, load_detector, load_training, save_checkpoint
from edgeface.training.detection.config import DetectorConfig
from edgeface.training.detection.loss import Targets, assign, detection_loss
from edgeface.training.detection.scenes import drawn_scenes
from edgeface.training.journal import append_line, cut_journal

CLIP_NORM: Final = 10.0


@dataclass(frozen=True, slots=True)
class DetectorProgress:
    """Where a training run stands: losses are means since the last report."""

    step: int
    steps: int
    loss: float
    score_loss: float
    box_loss: float
    landmark_loss: float
    images_per_s: float
    learning_rate: float


def train_detector(
    config: DetectorConfig,
    out: Path,
    progress: Callable[[DetectorProgress], None] = lambda _: None,
    *,
    tell: Callable[[str], None] = lambda _: None,
    resume: bool = False,
) -> DetectorReport:
    """Train, keep checkpoints, and score the averaged weights on the val part.

    The batch of a step depends on seed and step alone, so a resumed run sees what an uninterrupted one would.

    Args:
        config: what to do.
        out: run folder; gets `config.json`, `metrics.jsonl` and `checkpoint/`.
        progress: called every `run.log_steps` steps and at the end.
        tell: told in a sentence what the data is like.
        resume: go on from the last checkpoint in `out`, if there is one.

    Returns:
        The scores, which are also in `checkpoint/state.json`.

    Raises:
        DataError: the data is missing or malformed.
        ConfigError: no data is named, or the run to resume was started with other settings.
        CheckpointError: the checkpoint to resume from is broken or of another network.
        TrainingError: the loss is not finite.
    """
    run = config.run
    if not config.data.path:
        raise ConfigError("a detector needs pictures: give --data FOLDER, or data.path in --config")
    if run.threads:
        torch.set_num_threads(run.threads)
        cv2.setNumThreads(run.threads)
    data = Path(config.data.path)
    photographs, held_out = open_detection_set(data, "train"), open_detection_set(data, "val")
    tell(str(photographs.census))
    scenes = drawn_scenes(config.data.scenes, run.seed) if config.data.scene_share else []

    def draw(rng: np.random.Generator) -> Labelled:
        if rng.random() < config.data.scene_share:
            return scenes[rng.integers(len(scenes))]
        return photographs.draw(rng)

    torch.manual_seed(run.seed)
    network: FaceDetector = FaceDetector(config.model)
    if run.start:
        beginning, info = load_detector(Path(run.start))
        if info.config.model != config.model:
            raise ConfigError(f"run.start = {run.start} is a detector of another shape than [model] says")
        network.load_state_dict(beginning.state_dict())
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    heavy = [p for p in network.parameters() if p.ndim > 1]
    light = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": heavy, "weight_decay": config.optimizer.weight_decay}, {"params": light, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.optimizer.lr)
    done = load_training(config, out, network, average, optimizer) if resume else 0
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")
    journal = out / "metrics.jsonl"
    cut_journal(journal, done)

    network.train()
    sums, since, started = np.zeros(4), done, time.perf_counter()
    for step in range(done, run.steps):
        rate = learning_rate(config, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, targets = make_batch(np.random.default_rng([run.seed, step]), draw, run.batch_size, run.side)
        losses = detection_loss(network(images), targets)
        if not torch.isfinite(losses.total):
            raise TrainingError(f"the loss is {losses.total.item()} at step {step}; lower optimizer.lr ({rate:.2g})")
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimizer.step()
        momentum = min(config.optimizer.averaging, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                average[name].lerp_(tensor, 1 - momentum)
            else:
                average[name].copy_(tensor)
        sums += [loss.item() for loss in losses]
        finished = step + 1
        if finished % run.log_steps == 0 or finished == run.steps:
            seconds = max(time.perf_counter() - started, 1e-9)
            means = sums / (finished - since)
            speed = (finished - since) * run.batch_size / seconds
            loss, score, box, landmark = means.tolist()
            report = DetectorProgress(finished, run.steps, loss, score, box, landmark, speed, rate)
            append_line(journal, asdict(report))
            progress(report)
            sums, since, started = np.zeros(4), finished, time.perf_counter()
        if finished % run.checkpoint_steps == 0 and finished < run.steps:
            save_checkpoint(config, out, network, average, optimizer, finished, None)

    kept = FaceDetector(config.model)
    kept.load_state_dict(average)
    scores = evaluate_on(kept, held_out, max_face=largest_face(run.side))
    save_checkpoint(config, out, network, average, optimizer, run.steps, scores)
    return scores


def make_batch(
    rng: np.random.Generator, draw: Callable[[np.random.Generator], Labelled], batch: int, side: int
) -> tuple[Tensor, Targets]:
    """Compose training pictures, (N, 3, side, side) float32 RGB in [0, 1] in channels-last order, with targets."""
    pictures = [training_picture(rng, draw, side) for _ in range(batch)]
    pixels = torch.from_numpy(np.stack([picture.image for picture in pictures]))
    return pixels.permute(0, 3, 1, 2).float().div_(255), make_targets(pictures)


def make_targets(pictures: list[Labelled]) -> Targets:
    """Assign the faces of pictures of one size to cells; see `Targets`."""
    height, width = pictures[0].image.shape[:2]
    labels, first = [], 0
    for picture in pictures:
        rows = assign(picture.boxes, picture.sure, (width, height))
        labels.append(np.where(rows >= 0, rows + first, rows))
        first += len(picture)
    boxes = np.concatenate([picture.boxes for picture in pictures])
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    landmarks = np.concatenate([picture.landmarks for picture in pictures]).reshape(-1, 10)
    return Targets(torch.from_numpy(np.stack(labels)), torch.from_numpy(corners), torch.from_numpy(landmarks))


def learning_rate(config: DetectorConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak."""
    warmup, peak = config.optimizer.warmup_steps, config.optimizer.lr
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, config.run.steps - warmup)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)


def evaluate_on(
    network: FaceDetector, pictures: DetectionSet, max_side: int = 640, max_face: int = UNLIMITED
) -> DetectorReport:
    """Score a network on a labelled set; `max_side` and `max_face` as in `edgeface.runtime`."""
    detector = TorchDetector(network, DetectorSettings(min_score=LOWEST_SCORE, max_side=max_side), max_face)
    return evaluate_detector(detector, (pictures.read(index) for index in range(len(pictures))))
