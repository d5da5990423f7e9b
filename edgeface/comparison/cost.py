"""What a training step costs: its time, and the memory that it takes."""

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from edgeface.comparison.people import People
from edgeface.data.samplers import PKBatches
from edgeface.errors import ConfigError
from edgeface.evaluation.backbone import to_input
from edgeface.losses.ranks import ALONE
from edgeface.training.config import TrainConfig
from edgeface.training.device import pick_device, pick_precision
from edgeface.training.learner import Learner

WARMUP_STEPS: Final = 4
TIMED_STEPS: Final = 25


@dataclass(frozen=True, slots=True)
class Cost:
    """What a training step costs, and what the loss alone does: from given embeddings to their gradient.

    Attributes:
        ms_per_step: median time of a step of `edgeface train`, in milliseconds; the faces are read beforehand.
        mb_per_step: its peak memory in 1e6 bytes as `StorageCounter` sees it: activations, gradients and what
            the loss makes, beyond weights, moments and the batch.
        loss_ms: median time of the loss and its backward pass.
        loss_mb: peak memory of these.
    """

    ms_per_step: float
    mb_per_step: float
    loss_ms: float
    loss_mb: float


class StorageCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Counts the bytes of the tensors that operations bring into being while it is entered.

    Every storage counts once, however many tensors look at it, from the operation that returned it until nothing
    refers to it. So it sees what autograd keeps, on any device. It does not see the scratch that an operation takes
    and gives back before it returns (a convolution's workspace), nor what the allocator holds beyond the tensors;
    the peak of the process is higher. In return it is exact, the same each time, and is not spoilt by what
    ran before.

    Attributes:
        now: bytes that are alive.
        peak: the most that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.now = 0
        self.peak = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        before = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in before:
                self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self._alive or not size:
            return

        def gone(_: object) -> None:
            del self._alive[place]
            self.now -= size

        self._alive[place] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


def step_cost(config: TrainConfig, people: People) -> Cost:
    """Measure steps on a batch of faces of `people`, as the sampler of the run makes it.

    Raises:
        ConfigError: there is no loss over identities.
    """
    device = pick_device(config.run.device)
    precision = pick_precision(config.run.precision, device)
    faces, labels = (part.to(device) for part in _batch(config, people))
    learner = Learner(config, len(people.training.identities), False, ALONE, device, precision)
    head = learner.head
    if head is None:
        raise ConfigError("loss.weight is 0, so there is no loss to measure; leave it out")
    step_ms, step_mb = _measured(lambda: learner.step(faces, labels, None, config.optimizer.lr))
    with torch.no_grad():
        embeddings = learner.backbone(to_input(faces, device))

    def loss_alone() -> None:
        head.zero_grad(set_to_none=True)
        loss = head(embeddings.detach().requires_grad_(), labels)
        loss.backward()
        loss.item()  # waits for a GPU

    return Cost(step_ms, step_mb, *_measured(loss_alone))


def _measured(work: Callable[[], object]) -> tuple[float, float]:
    """Return the median time in milliseconds and the peak memory in 1e6 bytes."""
    times = [_seconds(work) for _ in range(WARMUP_STEPS + TIMED_STEPS)][WARMUP_STEPS:]
    with StorageCounter() as counter:
        work()
    return 1e3 * statistics.median(times), counter.peak / 1e6


def _batch(config: TrainConfig, people: People) -> tuple[Tensor, Tensor]:
    """Return the faces (N, 112, 112, 3) uint8 and labels (N,) of a batch as the sampler of the run makes it."""
    run, labels = config.run, people.training.labels
    if run.sampler == "pk":
        each = run.faces_per_identity or 4
        chosen = PKBatches(labels, run.batch_size, 1, run.seed, faces_per_identity=each).order(0)[: run.batch_size]
    else:
        chosen = np.random.default_rng(run.seed).permutation(len(labels))[: run.batch_size]
    return torch.from_numpy(people.training.read_many(chosen)), torch.from_numpy(labels[chosen])


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    """Yield where the numbers of all tensors in `values` lie; a sparse tensor has those of its parts."""
    for value in tree_iter(values):
        if isinstance(value, Tensor):
            parts = (value._indices(), value._values()) if value.is_sparse else (value,)
            yield from (part.untyped_storage() for part in parts)
