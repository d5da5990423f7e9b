"""The networks that a run trains, and one step of what moves them, in this process or several."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed import GradBucket  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from edgeface.evaluation.backbone import to_input
from edgeface.losses import CosineHead, build_loss
from edgeface.losses.objective import Objective
from edgeface.losses.ranks import Ranks
from edgeface.models import build_model
from edgeface.training.beginning import begin_with
from edgeface.training.checkpoint import (
    BACKBONE,
    CLASSES,
    HEAD,
    OPTIMIZER,
    CheckpointInfo,
    load_tensors,
    load_weights,
    save_checkpoint,
)
from edgeface.training.config import TrainConfig
from edgeface.training.optimizer import build_optimizer, optimizer_tensors, restore_optimizer
from edgeface.training.rows import RowOptimizer, gradient_values
from edgeface.training.synced_norm import sync_norms

if TYPE_CHECKING:
    from edgeface.training.class_store import ClassRows


@dataclass(frozen=True, slots=True)
class Step:
    """What came of a step.

    Attributes:
        loss: over the rows of all processes.
        identity: the part of the loss over identities, None without.
        imitation: the part of the teacher, None without.
        broken: `loss` or `gradient` where that is not finite, in which case nothing has moved.
    """

    loss: Tensor
    identity: Tensor | None
    imitation: Tensor | None
    broken: str | None


class Learner:
    """Backbone, objective and optimizers of a run.

    Several processes do what one would with all their rows: embeddings are gathered, each process computes the loss of
    all of them, with its share of the classes, and the gradients of the backbone add up. Unless the run synchronises
    them, batch norms take the statistics of a process's own rows, and the running ones are those of the first.

    Args:
        config: of the run.
        classes: number of identities.
        taught: whether there is a teacher.
        ranks: the processes of the run.
        device: of this process.
        precision: that convolutions compute in.
        resumes: whether a checkpoint will fill the networks, so that `model.start` need not be there any more.

    Raises:
        CheckpointError: `model.start` is missing, broken or of another network.
    """

    def __init__(
        self,
        config: TrainConfig,
        classes: int,
        taught: bool,
        ranks: Ranks,
        device: torch.device,
        precision: torch.dtype,
        *,
        resumes: bool = False,
    ) -> None:
        torch.manual_seed(config.run.seed)
        self.ranks, self.device, self.precision = ranks, device, precision
        self.classes = classes
        self.clip_norm = config.optimizer.clip_norm or math.inf
        self.backbone = build_model(config.model.name, config.model.embedding_size, **config.model.options)
        if not resumes:
            begin_with(config.model, self.backbone)
        head = None
        if config.loss.weight:
            options = config.loss.given()
            head = build_loss(config.loss.name, classes, config.model.embedding_size, ranks, **options)
        self.head = head
        self.objective = Objective(head, config.loss.weight, config.teacher.weight if taught else 0.0, ranks)
        self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self.backbone.to(device).train()
        self.objective.to(device).train()
        self.matrix = head if isinstance(head, CosineHead) else None
        self.rows = RowOptimizer(self.matrix.weight, config.optimizer) if self.matrix else None
        matrix = self.matrix.weight if self.matrix else None
        self.replicated = [parameter for parameter in self.objective.parameters() if parameter is not matrix]
        self.whole = [*self.backbone.parameters(), *self.replicated]
        """What every process has, all but the class matrix."""
        self.optimizer = build_optimizer(self.whole, config.optimizer)
        self.scaler = _scaler(ranks)(device.type, enabled=precision is torch.float16)
        self.network: nn.Module = self.backbone
        if ranks.count > 1:
            if config.run.sync_batch_norm:
                sync_norms(self.backbone, ranks)
            network = DistributedDataParallel(self.backbone, [device.index] if device.type == "cuda" else None)
            network.register_comm_hook(None, _add_up)
            self.network = network

    def step(self, faces: Tensor, labels: Tensor, wanted: Tensor | None, lr: float) -> Step:
        """Learn from a batch.

        Args:
            faces: (N, 112, 112, 3) uint8 RGB, of this process.
            labels: (N,) int64.
            wanted: (N, D) float32, what the teacher answers, or None.
            lr: learning rate.
        """
        optimizers = [self.optimizer] if self.rows is None else [self.optimizer, self.rows]
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad(set_to_none=True)
        labels = labels.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
            embeddings = self.network(to_input(faces, self.device))  # (N, D)
        loss, identity, imitation = self.objective(embeddings, labels, wanted)
        self.scaler.scale(loss).backward()
        for optimizer in optimizers:
            self.scaler.unscale_(optimizer)
        norm = self._clip()
        # item() waits for a GPU, at the cost of some per cent, and in return no step is built on a broken
        # one. With a scaler an infinite gradient is normal: it skips that step and scales less.
        broken = None
        if not math.isfinite(loss.item()):
            broken = "loss"
        elif not (self.scaler.is_enabled() or math.isfinite(norm.item())):
            broken = "gradient"
        else:
            for optimizer in optimizers:
                self.scaler.step(optimizer)
            self.scaler.update()
        return Step(loss, identity, imitation, broken)

    def _clip(self) -> Tensor:
        """Shorten the gradient of all processes to `clip_norm`, and return how long it was."""
        for parameter in self.replicated:  # equal but for rounding; they must not drift apart
            if self.ranks.count > 1 and parameter.grad is not None:
                self.ranks.sum_(parameter.grad).div_(self.ranks.count)
        whole = gradient_values(self.whole)
        part = gradient_values([self.matrix.weight]) if self.matrix else []
        squares = [nn.utils.get_total_norm(values).to(self.device).square() for values in (whole, part)]
        norm = (squares[0] + self.ranks.sum_(squares[1])).sqrt()
        if self.clip_norm < math.inf:
            factor = (self.clip_norm / (norm + 1e-6)).clamp_max(1)
            for values in (*whole, *part):
                values.mul_(factor)
        return norm

    def check(self) -> bool:
        """Return whether every number of the backbone is finite, running statistics included."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.backbone.state_dict().values())

    def save(self, folder: Path, info: CheckpointInfo, *, resumable: bool) -> None:
        """Write a checkpoint; every process calls it."""
        head = {name: tensor for name, tensor in self.objective.state_dict().items() if name not in self._stored_apart}
        if resumable:
            moments = optimizer_tensors(self.optimizer, self.scaler)
            save_checkpoint(folder, info, self.backbone, head, moments, self._class_rows(), self.ranks)
        else:
            save_checkpoint(folder, info, self.backbone, head, ranks=self.ranks)

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint; every process calls it.

        Raises:
            CheckpointError: it is broken, or of another network.
        """
        load_weights(folder / BACKBONE, self.backbone)
        load_weights(folder / HEAD, self.objective, self._stored_apart)
        rows = self._class_rows()
        if rows is not None:
            from edgeface.training.class_store import load_classes

            load_classes(folder / CLASSES, rows)
        restore_optimizer(self.optimizer, self.scaler, load_tensors(folder / OPTIMIZER), str(folder / OPTIMIZER))

    @property
    def _stored_apart(self) -> tuple[str, ...]:
        return ("head.weight",) if self.matrix else ()

    def _class_rows(self) -> "ClassRows | None":
        if self.matrix is None or self.rows is None:
            return None
        from edgeface.training.class_store import ClassRows  # slow to import

        tensors = {"weight": self.matrix.weight.detach(), **self.rows.tensors}
        return ClassRows(tensors, self.classes, self.matrix.per_class, self.ranks)


def _scaler(ranks: Ranks) -> type[torch.amp.GradScaler]:
    """Return what scales losses; of several processes, one that skips a step in all if it does in one."""
    if ranks.count == 1:
        return torch.amp.GradScaler
    from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler  # slow to import

    return ShardedGradScaler


def _add_up(_: Any, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Sum the gradients: each process has that of its own rows in one common loss. DDP's own way is their mean."""
    work = distributed.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future
