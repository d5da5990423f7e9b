"""Training a face detector on one machine: labelled photographs and drawn scenes in, weights out."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from edgeface.data.detection import DetectionSet, Labelled, open_detection_set
from edgeface.errors import ConfigError
from edgeface.evaluation.detection import LOWEST_SCORE, DetectorReport, TorchDetector, evaluate_detector
from edgeface.files import write_text
from edgeface.models.detector import FaceDetector
from edgeface.runtime.detection.detections import DetectorSettings
from edgeface.runtime.detection.edge_detector import UNLIMITED
from edgeface.training.detection.batches import make_batch
from edgeface.training.detection.checkpoint import (
    has_checkpoint,
    largest_face,
    load_detector,
    load_training,
    save_checkpoint,
)
from edgeface.training.detection.config import DetectorConfig
from edgeface.training.detection.learner import DetectorLearner
from edgeface.training.detection.loss import Losses
from edgeface.training.detection.scenes import drawn_scenes
from edgeface.training.journal import append_line, cut_journal
from edgeface.training.room import enough_room


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
        CheckpointError: the checkpoint to resume from is broken, of another network, or was trained on other pictures.
        TrainingError: the loss is not finite, or the disk is full. The last checkpoint stays.
    """
    run = config.run
    if not config.data.path:
        raise ConfigError(
            "training a detector needs labelled pictures: give --data FOLDER, or data.path in --config or --set"
        )
    if run.threads:
        torch.set_num_threads(run.threads)
        cv2.setNumThreads(run.threads)
    data = Path(config.data.path)
    photographs, held_out = open_detection_set(data, "train"), open_detection_set(data, "val")
    tell(str(photographs.census))
    draw = _drawing(config, photographs)

    torch.manual_seed(run.seed)
    resumes = resume and has_checkpoint(out)
    learner = DetectorLearner(config, None if resumes else _beginning(config))
    done = load_training(learner, out, photographs.names) if resumes else 0
    with enough_room(out, "the run"):
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")
        report = _Journal(config, out / "metrics.jsonl", done, progress)
    for step in range(done, run.steps):
        images, targets = make_batch(np.random.default_rng([run.seed, step]), draw, run.batch_size, run.side)
        losses = learner.step(step, images, targets)
        with enough_room(out, f"what step {step + 1} writes"):
            report.add(losses, step + 1, learner.rate(step))
            if (step + 1) % run.checkpoint_steps == 0 and step + 1 < run.steps:
                save_checkpoint(learner, out, step + 1, photographs.names, None)

    scores = evaluate_on(learner.kept(), held_out, max_face=largest_face(run.side))
    with enough_room(out, "the last checkpoint"):
        save_checkpoint(learner, out, run.steps, photographs.names, scores)
    return scores


def _drawing(config: DetectorConfig, photographs: DetectionSet) -> Callable[[np.random.Generator], Labelled]:
    scenes = drawn_scenes(config.data.scenes, config.run.seed) if config.data.scene_share else []

    def draw(rng: np.random.Generator) -> Labelled:
        if rng.random() < config.data.scene_share:
            return scenes[rng.integers(len(scenes))]
        return photographs.draw(rng)

    return draw


def _beginning(config: DetectorConfig) -> FaceDetector | None:
    if not config.run.start:
        return None
    network, info = load_detector(Path(config.run.start))
    if info.config.model != config.model:
        raise ConfigError(f"run.start = {config.run.start} is a detector of another shape than [model] says")
    return network


class _Journal:
    """The lines of metrics.jsonl, each of the steps since the one before."""

    def __init__(
        self, config: DetectorConfig, path: Path, done: int, progress: Callable[[DetectorProgress], None]
    ) -> None:
        self._run = config.run
        self._path = path
        self._progress = progress
        cut_journal(path, done)
        self._begin(done)

    def _begin(self, step: int) -> None:
        self._sums = np.zeros(4)
        self._since = step
        self._started = time.perf_counter()

    def add(self, losses: Losses, step: int, rate: float) -> None:
        """Count the losses of the step that ends with this number."""
        self._sums += [loss.item() for loss in losses]
        if step % self._run.log_steps and step != self._run.steps:
            return
        count = step - self._since
        speed = count * self._run.batch_size / max(time.perf_counter() - self._started, 1e-9)
        loss, score, box, landmark = (self._sums / count).tolist()
        line = DetectorProgress(step, self._run.steps, loss, score, box, landmark, speed, rate)
        append_line(self._path, asdict(line))
        self._progress(line)
        self._begin(step)


def evaluate_on(
    network: FaceDetector, pictures: DetectionSet, max_side: int = 640, max_face: int = UNLIMITED
) -> DetectorReport:
    """Score a network on a labelled set; `max_side` and `max_face` as in `edgeface.runtime`."""
    detector = TorchDetector(network, DetectorSettings(min_score=LOWEST_SCORE, max_side=max_side), max_face)
    return evaluate_detector(detector, (pictures.read(index) for index in range(len(pictures))))
