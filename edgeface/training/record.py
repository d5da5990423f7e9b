"""What a run writes as it goes: its journal, checkpoints, pictures, and where it stands."""

import logging
import time
from pathlib import Path
from typing import Final

from edgeface import __version__
from edgeface.errors import TrainingError
from edgeface.files import is_full
from edgeface.plugins import Kind
from edgeface.training.checkpoint import BEST, LAST, CheckpointInfo
from edgeface.training.config import TrainConfig
from edgeface.training.curves import draw_curves
from edgeface.training.fingerprint import fingerprint
from edgeface.training.journal import Window, append_line
from edgeface.training.learner import Learner, Step
from edgeface.training.preparation import Material
from edgeface.training.processes import tell
from edgeface.training.progress import Progress, Status
from edgeface.training.room import enough_room
from edgeface.training.validation import Validation, verify

log = logging.getLogger(__name__)

METRICS: Final = "metrics.jsonl"
CURVES: Final = "curves.png"
DRAW_EVERY_S: Final = 30.0


class Record:
    """Follows a run. Every process has one; the first verifies and writes, the others wait where they must.

    Args:
        config: of the run.
        run: its folder.
        material: what it learns from and is measured on.
        learner: what learns.
        per_epoch: steps in an epoch.
        before: the checkpoint that it went on from, or None.
        progress: is told how it goes.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: Path,
        material: Material,
        learner: Learner,
        per_epoch: int,
        before: CheckpointInfo | None,
        progress: Progress,
    ) -> None:
        self.config, self.run, self.material, self.learner, self.progress = config, run, material, learner, progress
        self.per_epoch = per_epoch
        self.steps = config.run.epochs * per_epoch
        self.first = learner.ranks.rank == 0
        self.fingerprint = fingerprint(material.faces)
        self.plugins = config.plugins()
        self.reference = {plugin.kind: plugin.reference for plugin in self.plugins}
        self.accuracy = before.accuracy if before else None
        self.best = before.best_accuracy if before else None
        self.seconds_before = before.seconds if before else 0.0
        self.window = Window()
        self.started = self.drawn = time.perf_counter()

    def add(self, outcome: Step, step: int, lr: float, *, wait_s: float, step_s: float) -> None:
        """Take in what came of step number `step`, counted from 1, and write what is due.

        Raises:
            TrainingError: the network is not finite, or the disk is full. The last checkpoint stays.
        """
        run = self.config.run
        self.window.add(outcome.loss, outcome.identity, outcome.imitation, wait_s=wait_s, step_s=step_s)
        if self.learner.head is not None:
            self.window.count(self.learner.head.counts())
        epoch, place = divmod(step, self.per_epoch)
        final = step == self.steps
        validation = self.material.validation if place == 0 and (final or epoch % run.eval_epochs == 0) else None
        saves = place == 0 and (final or epoch % run.checkpoint_epochs == 0)
        if not (validation or saves or step % run.log_steps == 0):
            return
        line = self.window.line(step, step / self.per_epoch, lr, run.batch_size)
        self.window = Window()
        if (validation or saves) and not self.learner.check():
            raise diverged("network", step, self.steps, lr)
        improved = False
        if validation:
            scores = tell(self._verify(validation) if self.first else None, self.learner.ranks)
            line |= scores
            self.accuracy = scores["val_accuracy"]
            improved = self.best is None or self.accuracy >= self.best
            self.best = self.accuracy if improved else self.best
        info = self._info(step, epoch)
        with enough_room(self.run, f"what step {step} writes"):
            if self.first:
                append_line(self.run / METRICS, line)
            if improved:
                self.learner.save(self.run / BEST, info, resumable=False)
            if saves:
                self.learner.save(self.run / LAST, info, resumable=True)
        if self.first:
            if saves and (final or time.perf_counter() - self.drawn > DRAW_EVERY_S):
                self._draw()
            self.progress.update(
                Status(
                    step=step,
                    steps=self.steps,
                    epoch=min(epoch + 1, run.epochs),
                    epochs=run.epochs,
                    loss=line["loss"],
                    lr=lr,
                    faces_per_s=line["faces_per_s"],
                    data_wait=line["data_wait"],
                    eta_s=(self.steps - step) * run.batch_size / line["faces_per_s"],
                    val_accuracy=self.accuracy,
                )
            )

    def _draw(self) -> None:
        self.drawn = time.perf_counter()
        try:
            draw_curves(self.run / METRICS, self.run / CURVES)
        except OSError as error:
            if not is_full(error):
                raise
            # A picture of what metrics.jsonl holds is not worth the run.
            log.warning("there is no room for %s: %s; free some space", self.run / CURVES, error.strerror)

    def _verify(self, validation: Validation) -> dict[str, float]:
        result = verify(self.learner.backbone, validation, self.learner.device)
        return {
            "val_accuracy": result.accuracy,
            "val_se": result.accuracy_se,
            "val_tar": result.roc.at_fmr(0.01)[0],
        }

    def _info(self, step: int, epoch: int) -> CheckpointInfo:
        return CheckpointInfo(
            model=self.reference.get(Kind.backbone, self.config.model.name),
            embedding_size=self.config.model.embedding_size,
            classes=self.material.classes,
            faces=len(self.material.faces),
            loss=self.reference.get(Kind.loss, self.config.loss.name),
            data=self.material.faces.name,
            step=step,
            epoch=epoch,
            seconds=self.seconds_before + time.perf_counter() - self.started,
            accuracy=self.accuracy,
            best_accuracy=self.best,
            config=self.config.to_dict(),
            edgeface=__version__,
            fingerprint=self.fingerprint,
            plugins=tuple(plugin.to_json() for plugin in self.plugins),
        )


def diverged(what: str, step: int, steps: int, lr: float) -> TrainingError:
    """Return the error for a loss, gradient or network that is not finite."""
    return TrainingError(
        f"the {what} is not finite at step {step} of {steps} (learning rate {lr:.3g}); lower optimizer.lr or "
        "optimizer.clip_norm, or raise optimizer.warmup_epochs; the last checkpoint stays"
    )
