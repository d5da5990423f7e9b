"""Training a quality network: aligned faces and trained embedders in, weights out."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from edgeface.data import open_faces
from edgeface.data.faceset import FaceSet
from edgeface.errors import ConfigError, DataError
from edgeface.evaluation.discard import QualityReport, judge_views
from edgeface.files import write_text
from edgeface.fitness import OUTPUTS
from edgeface.models.quality import QualityNet, probabilities
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.embedder import bundle_embedder
from edgeface.training.journal import append_line, cut_journal
from edgeface.training.quality.checkpoint import load_training, save_checkpoint
from edgeface.training.quality.config import QualityConfig
from edgeface.training.quality.learner import QualityLearner, Targets, pixels
from edgeface.training.quality.views import FaceEmbedder, Image, Views, make_views


@dataclass(frozen=True, slots=True)
class QualityProgress:
    """Where a run stands: `done` of `total` views drawn, or steps; losses are means since the last report."""

    stage: str
    done: int
    total: int
    loss: float = 0.0
    fitness_loss: float = 0.0
    images_per_s: float = 0.0


def train_quality(
    config: QualityConfig,
    out: Path,
    progress: Callable[[QualityProgress], None] = lambda _: None,
    *,
    resume: bool = False,
) -> QualityReport:
    """Draw views, train on them, keep a checkpoint an epoch, and measure on views of faces held apart.

    Views, order and weights depend on the seed alone, so a resumed run ends as an uninterrupted one.

    Args:
        config: what to do.
        out: run folder; gets `config.json`, `metrics.jsonl` and `checkpoint/`.
        progress: told how it goes.
        resume: go on from the last checkpoint in `out`, if there is one.

    Returns:
        The scores, which are also in `checkpoint/state.json`.

    Raises:
        DataError: the faces are missing or malformed, or too few.
        ConfigError: no data is named, or the run to resume was started with other settings.
        BundleError: a bundle of `teacher.bundles` cannot be used.
        CheckpointError: the checkpoint to resume from is broken.
        TrainingError: the loss is not finite.
    """
    if not config.data.path:
        raise ConfigError("training a quality network needs aligned faces: give --data FACES, or data.path in --config")
    run = config.run
    faces = open_faces(config.data.path).checked()
    faces = faces.split(config.data.split) if faces.splits else faces
    embedders = [bundle_embedder(open_bundle(name))[0] for name in config.networks]
    learned, measured = _drawn(config, faces, embedders, progress)
    per_epoch = len(learned.fitness) // run.batch_size
    if not per_epoch:
        raise DataError(f"{len(learned.fitness)} views fill no batch of {run.batch_size}; raise data.views")
    torch.manual_seed(run.seed)
    learner = QualityLearner(config, run.epochs * per_epoch)
    done = load_training(learner, out) if resume else 0
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")
    cut_journal(out / "metrics.jsonl", done * per_epoch)
    for epoch in range(done, run.epochs):
        order = np.random.default_rng((run.seed, epoch)).permutation(len(learned.fitness))
        sums, since, started = np.zeros(2), 0, time.perf_counter()
        for number in range(per_epoch):
            step = epoch * per_epoch + number
            rows = np.sort(order[number * run.batch_size : (number + 1) * run.batch_size])
            losses = learner.step(step, *_batch(learned, rows))
            sums += [losses.total.item(), losses.fitness.item()]
            since += 1
            if (step + 1) % run.log_steps == 0 or number + 1 == per_epoch:
                speed = since * run.batch_size / max(time.perf_counter() - started, 1e-9)
                loss, fitness_loss = (sums / since).tolist()
                line = {"step": step + 1, "loss": loss, "fitness_loss": fitness_loss, "images_per_s": speed}
                append_line(out / "metrics.jsonl", line | {"lr": learner.rate(step)})
                progress(QualityProgress("training", step + 1, learner.steps, loss, fitness_loss, speed))
                sums, since, started = np.zeros(2), 0, time.perf_counter()
        if epoch + 1 < run.epochs:
            save_checkpoint(learner, out, epoch + 1, None)
    scores = judge_views(answers(learner.network, measured.pictures), measured)
    save_checkpoint(learner, out, run.epochs, scores)
    return scores


def answers(network: QualityNet, pictures: Image, batch: int = 256) -> npt.NDArray[np.float32]:
    """Return what a network says of (N, 112, 112, 3) uint8 RGB pictures, (N, 10) in [0, 1]."""
    network.eval()
    said = []
    with torch.no_grad():
        for start in range(0, len(pictures), batch):
            said.append(probabilities(network(pixels(torch.from_numpy(pictures[start : start + batch])))).numpy())
    return np.concatenate(said) if said else np.zeros((0, len(OUTPUTS)), np.float32)


def _drawn(
    config: QualityConfig,
    faces: FaceSet,
    embedders: Sequence[FaceEmbedder],
    progress: Callable[[QualityProgress], None],
) -> tuple[Views, Views]:
    """Return the views to learn from, and those of other faces to measure on."""
    order = np.random.default_rng(config.run.seed).permutation(len(faces))
    apart = round(len(faces) * config.data.held_apart)
    if len(faces) - apart < 2 or apart < 2:
        raise DataError(f"{len(faces)} faces are too few to hold some apart; give more, or raise data.held_apart")
    count = config.data.views
    share = max(2, round(count * config.data.held_apart))

    def tell(done: int, of: int) -> None:
        progress(QualityProgress("drawing views", done, of))

    learned = make_views(faces.select(np.sort(order[apart:]).tolist()), embedders, count, config.run.seed, tell)
    measured = make_views(faces.select(np.sort(order[:apart]).tolist()), embedders, share, config.run.seed + 1, tell)
    return learned, measured


def _batch(views: Views, rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, Targets]:
    return torch.from_numpy(views.pictures[rows]), Targets(
        torch.from_numpy(views.fitness[rows]),
        torch.from_numpy(views.turns[rows]),
        torch.from_numpy(views.faults[rows]),
    )
