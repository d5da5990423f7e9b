"""What every loss over identities is: embeddings and labels in, one number out."""

from abc import ABC, abstractmethod
from typing import ClassVar, Final, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeface.errors import ConfigError, DataError
from edgeface.losses.classes import Chosen, choose, draw_directions, sample
from edgeface.losses.cross_entropy import IGNORED, ClassCosines, TargetCrossEntropy
from edgeface.losses.ranks import ALONE, Ranks, summed
from edgeface.plugin_options import constructor_options

NO_OPTIONS: Final = frozenset({"ranks", "per_class"})
"""Keyword-only arguments of heads that are not for a user to set."""


class Head(nn.Module, ABC):
    """A loss with the parameters it needs; it is stripped before export.

    Its constructor takes `classes` and `embedding_size`; its keyword-only arguments are the loss's options.

    Args:
        classes: number of identities.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    @abstractmethod
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss, a float32 scalar; zero when every label is ignored.

        Args:
            embeddings: (N, D) of any floating type, not normalised.
            labels: (N,) int64 in [0, classes), or `IGNORED`.

        Raises:
            DataError: a label is out of range.
        """

    def counts(self) -> dict[str, float]:
        """Return what the last batch had to offer, by name, for the journal; empty for most losses."""
        return {}

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Return the names of the options that a user may set, also those that the constructor hands on to its base."""
        found = constructor_options(cls, given=2)
        return tuple(name for name, o in found.items() if o.kind is o.KEYWORD_ONLY and name not in NO_OPTIONS)

    def check(self, labels: Tensor) -> None:
        """Raise a DataError if a label is neither `IGNORED` nor in [0, classes)."""
        if len(labels):
            low, high = torch.stack(labels.aminmax()).tolist()
            if low < IGNORED or high >= self.classes:
                wrong = low if low < IGNORED else high
                raise DataError(
                    f"label {wrong} is out of range for {self.classes} identities; use 0 to {self.classes - 1}, "
                    f"or {IGNORED} for a face without identity"
                )


class CosineOptions(TypedDict, total=False):
    """Options of every `CosineHead`."""

    scale: float
    margin: float | None
    label_smoothing: float
    interclass_filtering: float
    sample_rate: float
    ranks: Ranks


class CosineHead(Head):
    """Softmax over scaled cosines between an embedding and one direction for each class, in float32.

        L = mean of -log(exp(s T(cos y)) / (exp(s T(cos y)) + sum over j != y of exp(s cos j)))

    A margin loss overrides `target_cosine` only, or `adapted_cosine` where the margin is not the same for all
    rows. At 100 000 classes it takes less than half the memory of the plain formula, see
    `edgeface.losses.cross_entropy`.

    It grows with the identities in two ways (Partial FC, An et al., 2022, arXiv 2203.15565), for any margin. With
    a `sample_rate` below 1, each step takes the classes that its faces belong to and a random part of the others; in
    evaluation mode, all. With `ranks`, each process holds an even share of the classes; what it is given must then be
    the rows of all processes (`edgeface.losses.ranks.gathered_rows`), and every process returns the loss of all.

    Args:
        classes: number of identities C.
        embedding_size: D.
        scale: factor s before the softmax.
        margin: how much harder the target is made, in the unit of `margin_unit`; None takes the default.
        label_smoothing: share of the target's probability that is spread evenly over all classes, in [0, 1).
        interclass_filtering: a class other than the target with a cosine above it is taken for the same person
            under another label: its cosine counts as 0 and gets no gradient. In (0, 1); 0 filters none.
        sample_rate: share of the classes that a step is compared with, in [0.001, 1]. Below 1 the gradient of `weight`
            is sparse: it has rows for the classes of the step alone.
        ranks: the processes that share the classes.
        per_class: directions K that each class has.
    """

    default_margin: ClassVar[float] = 0.0
    margin_floor: ClassVar[float] = 0.0
    margin_limit: ClassVar[float] = 0.0
    margin_unit: ClassVar[str] = "none"

    weight: nn.Parameter
    """(held * K, D) float32: the directions of the classes that this process holds, those of a class side by side."""

    draws: Tensor
    """(2,) int64: seed and steps drawn, saved with the head; only where classes are sampled."""

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        scale: float = 30.0,
        margin: float | None = None,
        label_smoothing: float = 0.0,
        interclass_filtering: float = 0.0,
        sample_rate: float = 1.0,
        ranks: Ranks = ALONE,
        per_class: int = 1,
    ) -> None:
        super().__init__(classes)
        self.margin = self.default_margin if margin is None else margin
        if not self.margin_floor <= self.margin <= self.margin_limit:
            raise ConfigError(
                f"a margin of {self.margin} is out of range for {type(self).__name__}; "
                f"use {self.margin_floor:g} to {self.margin_limit:g} (unit: {self.margin_unit})"
            )
        require("label_smoothing", label_smoothing, 0, 0.999)
        require("interclass_filtering", interclass_filtering, 0, 1)
        require("sample_rate", sample_rate, 0.001, 1)
        self.scale = scale
        self.label_smoothing = label_smoothing
        self.interclass_filtering = interclass_filtering
        self.sample_rate = sample_rate
        self.ranks = ranks
        self.held = ranks.share(classes)
        self.per_class = per_class
        self.weight = nn.Parameter(torch.empty(len(self.held) * per_class, embedding_size))
        draw_directions(self.weight, self.held, int(torch.randint(2**31, ())))
        if sample_rate < 1:
            self.register_buffer("draws", torch.stack([torch.randint(2**31, ()), torch.tensor(0)]))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy, averaged over the rows that are not ignored."""
        self.check(labels)
        with torch.autocast(embeddings.device.type, enabled=False):  # half precision rounds angles to degrees
            features, known = widened(embeddings), labels != IGNORED
            chosen = choose(labels, self.held, self._sampled())
            cosine, own = self.cosines(functional.normalize(features), chosen)
            # Rows whose class another process holds get theirs from there; ignored rows stay at zero.
            target = summed(features.new_zeros(len(features)).index_put((chosen.rows,), own), self.ranks)
            harder = self.adapted_cosine(target, features, known)
            curriculum = self.curriculum(target, known)
            options = self.scale, self.label_smoothing, self.interclass_filtering
            loss: Tensor = TargetCrossEntropy.apply(  # type: ignore[no-untyped-call]
                cosine, harder, labels, chosen.rows, chosen.columns, *options, curriculum, self.ranks
            )
            return loss

    def cosines(self, unit: Tensor, chosen: Chosen) -> tuple[Tensor, Tensor]:
        """Return the cosines (N, S) of `unit` (N, D) with the chosen classes, and those with the rows' own, (M,)."""
        weight = widened(self.weight)
        cosine, own = ClassCosines.apply(unit, weight, *chosen, self.ranks)  # type: ignore[no-untyped-call]
        return cosine, own

    def target_cosine(self, cosine: Tensor) -> Tensor:
        """Return what replaces the cosine (N,) float32 between each embedding and its own class."""
        return cosine

    def adapted_cosine(self, cosine: Tensor, features: Tensor, known: Tensor) -> Tensor:
        """Return the same for rows that differ in their margin.

        Args:
            cosine: (N,) float32, with the own class.
            features: (N, D) float32, not normalised.
            known: (N,) bool, False where the label is ignored.
        """
        return self.target_cosine(cosine)

    def curriculum(self, cosine: Tensor, known: Tensor) -> Tensor | None:
        """Return the scalar t of CurricularFace, or None; arguments as `adapted_cosine`."""
        return None

    def _sampled(self) -> Tensor | None:
        """Draw which of the held classes take part in this step whatever its labels, (held,) bool; None for all."""
        if self.sample_rate == 1 or not self.training:
            return None
        seed, steps = self.draws.tolist()
        self.draws = self.draws + self.draws.new_tensor([0, 1])
        return sample(seed, steps, self.held, self.sample_rate).to(self.weight.device)


class PlainCosineHead(CosineHead):
    """A cosine head whose margin is not one number: the option `margin` is refused."""

    def __init__(self, classes: int, embedding_size: int, **options: Unpack[CosineOptions]) -> None:
        if options.get("margin") is not None:
            raise ConfigError(
                f"{type(self).__name__} has no single margin, {options['margin']} was asked; its options are "
                f"{', '.join(name for name in self.options() if name != 'margin')}"
            )
        super().__init__(classes, embedding_size, **options)


def widened(values: Tensor) -> Tensor:
    """Return `values` in float32, or float64 if they are that."""
    return values if values.dtype is torch.float64 else values.float()


def require(name: str, value: float, low: float, high: float) -> None:
    """Raise a ConfigError if the option `name` of a loss is not in [low, high]."""
    if not low <= value <= high:
        raise ConfigError(f"loss.{name} = {value} is out of range; use a value from {low:g} to {high:g}")


def known_mean(values: Tensor, known: Tensor) -> Tensor:
    """Return the mean of `values` (N,) where `known` (N,) bool; zero, with zero gradient, when there is none."""
    return torch.where(known, values, 0).sum() / known.sum().clamp_min(1)


def mean_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Average over the rows that are not ignored; zero, with zero gradient, when there is none."""
    total = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing)
    return total / (labels != IGNORED).sum().clamp_min(1)
