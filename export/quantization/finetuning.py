"""Fine-tuning an int8 network against its float32 original: weights that know how they will be rounded."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeface.errors import ConfigError, ExportError
from edgeface.export.cleaning import serialize
from edgeface.export.parity import Parity, compare
from edgeface.export.quantization.fakequant import FakeQuantized
from edgeface.export.quantization.qdq import Tuned
from edgeface.export.quantization.quantize import Quantizer
from edgeface.manifest import Finetuning
from edgeface.runtime.embedder import open_embedder

BATCH: Final = 16
"""Faces in a step: all their activations are in memory, some 150 MB for each face of a MobileFaceNet."""

WEIGHT_RATE: Final = 0.003
"""Adam's largest learning rate of weights, in steps of their grid. Ten times that shakes more than it teaches."""

BIAS_RATE: Final = 0.01
"""That of biases, in steps of what a layer makes."""

MIN_FACES: Final = 48
"""With fewer than this there is nothing to learn that holds for others."""

MAX_EPOCHS: Final = 1000

HELD_APART: Final = 8
"""Every so manyth face is not learned from: the best epoch is chosen on those."""

_WARMUP: Final = 0.05
"""Share of the steps over which the rate rises; then it falls along half a cosine."""


@dataclass(frozen=True, slots=True)
class _Lesson:
    """Faces with what the float32 network makes of them.

    Attributes:
        faces: (N, 112, 112, 3) uint8 RGB.
        embeddings: (N, D) float32 of unit length.
    """

    faces: Tensor
    embeddings: Tensor


def check_epochs(epochs: int | None, integer: bool) -> None:
    """Refuse a number of epochs that cannot be meant.

    Raises:
        ConfigError: it is out of range, or there is no int8 network to fine-tune.
    """
    if epochs is None:
        return
    if not 1 <= epochs <= MAX_EPOCHS:
        raise ConfigError(f"--finetune takes 1 to {MAX_EPOCHS} epochs, got {epochs}; use for example 10")
    if not integer:
        raise ConfigError("--finetune makes int8 more exact and int8 is not among the precisions; add it or leave out")


def finetune(
    quantizer: Quantizer,
    faces: npt.NDArray[np.uint8],
    epochs: int,
    step: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Finetuning:
    """Fine-tune the network with in int8 what is faster there, and let the quantizer write what came of it.

    The written QDQ graph itself is run in torch with its roundings, and gradients pass through those (Jacob et al.,
    2018, arXiv 1712.05877, section 3). Weights and biases are learned. The ranges stay as the faces gave them: learned
    ones (Esser et al., 2020, arXiv 1902.08153) were measured to lower the mean loss a little by cutting off the few
    faces that reach furthest, and it is those that a bound is about. The aim is the embedding of the float32 network,
    so no labels are needed: the loss is the mean of 1 - cosine.

    The epoch with the least loss on faces held apart is kept; if its written network has not less there than the
    post-training one, the quantizer stays as it is. On one machine and with one
    number of threads (`OMP_NUM_THREADS`) the same network and faces give the same bytes.

    Args:
        quantizer: of the network; changed.
        faces: (N, 112, 112, 3) uint8 RGB to learn from, N >= 48; none of those that a bound is measured on.
        epochs: how often each face is seen, as it is or mirrored.
        step: told how it goes after each epoch.
        clock: seconds, to say how long it will take.

    Returns:
        What was done and what came of it.

    Raises:
        ExportError: too few faces, or the network has an operator that `export.quantization.operators` does not know.
    """
    if len(faces) < MIN_FACES:
        raise ExportError(
            f"--finetune needs at least {MIN_FACES} faces to learn from, {len(faces)} were given besides the held-out "
            "ones; raise --calibration-images"
        )
    apart = np.zeros(len(faces), bool)
    apart[::HELD_APART] = True
    plan = quantizer.cheapest
    written = quantizer.write(plan)
    before = serialize(written)
    network = FakeQuantized(written, quantizer.graph, quantizer.target, quantizer.biases, plan.float_layers)
    original = serialize(quantizer.graph.model)
    check = _lesson(original, faces[apart])
    views = [_lesson(original, view) for view in (faces[~apart], faces[~apart][:, :, ::-1])]
    started, first = clock(), _loss(network, check)
    best, tuned = first, None
    with _deterministic():
        for epoch, _ in enumerate(_epochs(network, views, epochs), start=1):
            loss = _loss(network, check)
            if loss < best:
                best, tuned = loss, network.tuned()
            left_s = (clock() - started) / epoch * (epochs - epoch)
            step(
                f"int8: fine-tuning, epoch {epoch} of {epochs}, 1 - cosine {loss:.5f} on faces held apart "
                f"({first:.5f} before), about {left_s:.0f} s to go"
            )
    return _keep_the_better(quantizer, before, tuned, check, epochs, len(views[0].faces))


def _lesson(original: bytes, faces: npt.NDArray[np.uint8]) -> _Lesson:
    faces = np.ascontiguousarray(faces)
    embedder = open_embedder(original, provider="cpu", threads=0, name="the fp32 network")
    return _Lesson(torch.from_numpy(faces), torch.from_numpy(embedder.embed(faces)))


def _epochs(network: FakeQuantized, views: list[_Lesson], epochs: int) -> Iterator[None]:
    """Train, and stop after every epoch for whoever looks on.

    Args:
        network: changed.
        views: the same faces in several forms, of which each epoch takes one at random.
        epochs: how many.
    """
    generator = torch.Generator().manual_seed(0)
    rates = (WEIGHT_RATE, BIAS_RATE)
    optimizer = torch.optim.Adam(
        [
            {"params": list(group.values()), "lr": rate}
            for group, rate in zip((network.weights, network.biases), rates, strict=True)
            if group
        ]
    )
    count = len(views[0].faces)
    batches = max(1, count // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        epochs * batches,
        pct_start=_WARMUP,
        cycle_momentum=False,
    )
    for _ in range(epochs):
        order = torch.randperm(count, generator=generator)
        view = torch.randint(len(views), (count,), generator=generator)
        for chosen in order[: batches * BATCH].chunk(batches):
            forms = view[chosen].tolist()
            faces = torch.stack([views[form].faces[place] for form, place in zip(forms, chosen, strict=True)])
            wanted = torch.stack([views[form].embeddings[place] for form, place in zip(forms, chosen, strict=True)])
            optimizer.zero_grad()
            loss = (1 - (network.embed(faces) * wanted).sum(dim=1)).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        yield


def _loss(network: FakeQuantized, lesson: _Lesson) -> float:
    with torch.no_grad():
        made = [network.embed(faces) for faces in torch.split(lesson.faces, BATCH)]
        return float(1 - (torch.cat(made) * lesson.embeddings).sum(dim=1).mean())


def _keep_the_better(
    quantizer: Quantizer, before: bytes, tuned: Tuned | None, check: _Lesson, epochs: int, learned: int
) -> Finetuning:
    """Measure both networks as a device would run them, and leave the better one in the quantizer."""

    def measure(data: bytes) -> Parity:
        embedder = open_embedder(data, provider="cpu", threads=0, name="int8 on trial")
        return compare(check.embeddings.numpy(), embedder.embed(check.faces.numpy()))

    quantizer.tune(tuned)
    old, new = measure(before), measure(serialize(quantizer.write(quantizer.cheapest)))
    kept = new.mean_cosine > old.mean_cosine
    if not kept:
        quantizer.tune(None)
    quantizer.finetuning = Finetuning(
        epochs=epochs,
        faces=learned,
        held_apart=old.images,
        loss_before=float(f"{1 - old.mean_cosine:.3g}"),
        loss_after=float(f"{1 - new.mean_cosine:.3g}"),
        kept=kept,
    )
    return quantizer.finetuning


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Have torch use algorithms that give the same sums each time, or refuse."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
