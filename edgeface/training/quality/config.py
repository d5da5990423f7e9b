"""What a training run of a quality network does; read from TOML and overrides as `edgeface.training.settings` does."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from edgeface.errors import ConfigError
from edgeface.training.settings import differences, from_tables, read_settings

PLACES: Final = frozenset({"data.path", "run.log_steps"})
"""Keys that do not decide what comes out: they may differ within a run."""


@dataclass(frozen=True, slots=True)
class QualityData:
    """What to train on.

    Attributes:
        path: aligned faces: a folder, shards, .rec or .csv. Nobody needs to say who they are.
        split: part of it to train on, where it has parts.
        views: pictures that are made of them, each of a face and what a door may do to it.
        held_apart: share of the faces whose views are only measured, in [0, 0.5].
    """

    path: str = ""
    split: str = "train"
    views: int = 40000
    held_apart: float = 0.05


@dataclass(frozen=True, slots=True)
class QualityTeacher:
    """Whose embeddings say how fit a face is.

    Attributes:
        bundles: folders, zips or names of bundles, with commas between them; a face is as fit as the mean over all.
    """

    bundles: str = "default,default-edge"


@dataclass(frozen=True, slots=True)
class QualityOptimizer:
    """How the weights move: AdamW.

    Attributes:
        lr: peak learning rate; after the warm-up it falls along a cosine to a hundredth.
        warmup_steps: length of the linear rise.
        weight_decay: of the convolutions.
    """

    lr: float = 4e-3
    warmup_steps: int = 200
    weight_decay: float = 0.02


@dataclass(frozen=True, slots=True)
class QualityRun:
    """How long, and what is written.

    Attributes:
        seed: of the weights, views and batches.
        epochs: passes over the views.
        batch_size: views in a step.
        log_steps: steps between two lines of metrics.jsonl.
    """

    seed: int = 0
    epochs: int = 12
    batch_size: int = 128
    log_steps: int = 50


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """Everything that decides what a training run of a quality network computes.

    Raises:
        ConfigError: a value is out of range.
    """

    data: QualityData = field(default_factory=QualityData)
    teacher: QualityTeacher = field(default_factory=QualityTeacher)
    optimizer: QualityOptimizer = field(default_factory=QualityOptimizer)
    run: QualityRun = field(default_factory=QualityRun)

    def __post_init__(self) -> None:
        limits = (
            ("data.views", self.data.views, 100, 10_000_000),
            ("data.held_apart", self.data.held_apart, 0, 0.5),
            ("optimizer.lr", self.optimizer.lr, 0, 1e6),
            ("optimizer.warmup_steps", self.optimizer.warmup_steps, 0, 1_000_000_000),
            ("optimizer.weight_decay", self.optimizer.weight_decay, 0, 100),
            ("run.seed", self.run.seed, 0, 2**32 - 1),
            ("run.epochs", self.run.epochs, 1, 1_000_000),
            ("run.batch_size", self.run.batch_size, 2, 1_000_000),
            ("run.log_steps", self.run.log_steps, 1, 1_000_000),
        )
        for key, value, low, high in limits:
            if not low <= value <= high:
                raise ConfigError(f"{key} = {value} is out of range; use a value from {low} to {high:g}")
        if not self.networks:
            raise ConfigError("teacher.bundles names no bundle; give for example default,default-edge")

    @property
    def networks(self) -> tuple[str, ...]:
        """The bundles by name."""
        return tuple(name.strip() for name in self.teacher.bundles.split(",") if name.strip())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "the configuration") -> "QualityConfig":
        """Build a configuration from nested tables; what is not named keeps its default.

        Raises:
            ConfigError: an unknown key, a value of the wrong type or out of range.
        """
        return from_tables(cls, values, source)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return nested tables of plain values, as `from_dict` takes them."""
        return asdict(self)


def load_quality_config(
    path: Path | None = None, overrides: Iterable[str] = (), recipe: str = "quality"
) -> QualityConfig:
    """Read a configuration: a recipe, then a TOML file, then overrides; see `edgeface.training.settings`.

    Raises:
        ConfigError: as `read_settings`.
        UnknownNameError: there is no such recipe.
    """
    return read_settings(QualityConfig, "quality", path, overrides, recipe)


def changed_settings(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, Any, Any]]:
    """Return what decides otherwise in two configurations, as (key, old value, new value)."""
    return differences(QualityConfig().to_dict(), old, new, PLACES)
